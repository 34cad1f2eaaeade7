using Sconce.V1;

namespace Sconce.Client.Tests;

public sealed class ModuleTests
{
    [Fact]
    public async Task Forward_tensor_returnsOutputAndSendsTheContractVersion()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<ForwardRequest, ForwardResponse>((request, _) => Fakes.Echo(request));
        await using var client = server.NewClient();

        var output = await client.Module("m").GetSubmodule("layer1.0").ForwardAsync(TensorData.Create([1f, 2f, 3f, 4f], 2, 2));

        Assert.Equal([1f, 2f, 3f, 4f], output.As<float>().ToArray());
        Assert.Equal([2L, 2L], output.Tensor.Shape);
        Assert.Equal(5ul, output.Generation);
        var request = Assert.Single(server.Seen<ForwardRequest>());
        Assert.Equal(("m", "layer1.0", false), (request.Module, request.Path, request.RecordGraph));
        Assert.Equal("1.0", server.LastHeaders.GetValue("sconce-contract"));
    }
}
