using Google.Protobuf;
using Microsoft.Extensions.Logging;
using Sconce.V1;

namespace Sconce.Client.Tests;

/// <summary>What the client registers, and what it lists of a described tree.</summary>
public sealed class MemberTests
{
    // root(scale, [buffer step]) -> body(0: Linear, again: the same Linear) and head, which is tied to the Linear and has a bias that is None.
    private static readonly DescribeModuleResponse Tree = new()
    {
        Repr = "Net(...)",
        Root = new ModuleNode
        {
            ExtraRepr = "a=1",
            Parameters = { Info("scale") },
            Buffers = { Info("step"), new TensorInfo { Name = "none", IsNone = true } },
            Children =
            {
                new ModuleNode
                {
                    Name = "body",
                    Path = "body",
                    Children =
                    {
                        new ModuleNode { Name = "0", Path = "body.0", Parameters = { Info("weight") }, Buffers = { Info("mean") } },
                        new ModuleNode { Name = "again", Path = "body.again", AliasOf = "body.0", Parameters = { Info("weight", "body.0.weight") }, Buffers = { Info("mean", "body.0.mean") } },
                    },
                },
                new ModuleNode { Name = "head", Path = "head", Parameters = { Info("weight", "body.0.weight"), new TensorInfo { Name = "bias", IsNone = true } } },
                new ModuleNode { Name = "linear", Path = "linear", AliasOf = "body.0", Parameters = { Info("weight", "body.0.weight") } },
            },
        },
    };

    [Fact]
    public async Task Lists_dedupAndPrefixAndRecurse_asPyTorch()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<DescribeModuleRequest, DescribeModuleResponse>((_, _) => Tree);
        await using var client = server.NewClient();
        var module = client.Module("m").GetSubmodule("net");

        Assert.Equal(["scale", "body.0.weight"], Names(await module.NamedParametersAsync()));
        Assert.Equal(["p.scale", "p.body.0.weight", "p.body.again.weight", "p.head.weight", "p.linear.weight"], Names(await module.NamedParametersAsync("p", removeDuplicate: false)));
        Assert.Equal(["scale"], Names(await module.NamedParametersAsync(recurse: false)));
        Assert.Equal(2, (await module.ParametersAsync()).Count);
        Assert.Single(await module.ParametersAsync(recurse: false));
        Assert.Equal(["step", "body.0.mean"], Names(await module.NamedBuffersAsync()));
        Assert.Equal(["step", "body.0.mean", "body.again.mean"], Names(await module.NamedBuffersAsync(removeDuplicate: false)));
        Assert.Single(await module.BuffersAsync(recurse: false));
        Assert.Equal(["", "body", "body.0", "head"], (await module.NamedModulesAsync()).Select(at => at.Key));
        Assert.Equal(["x", "x.body", "x.body.0", "x.body.again", "x.head", "x.linear"], (await module.NamedModulesAsync("x", removeDuplicate: false)).Select(at => at.Key));
        Assert.Equal(["net", "net.body", "net.body.0", "net.head"], (await module.ModulesAsync()).Select(at => at.Path));
        Assert.Equal([("body", "net.body"), ("head", "net.head"), ("linear", "net.linear")], (await module.NamedChildrenAsync()).Select(at => (at.Key, at.Value.Path)));
        Assert.Equal(3, (await module.ChildrenAsync()).Count);
        Assert.Equal(("a=1", "Net(...)"), (await module.ExtraReprAsync(), await module.ReprAsync()));
        Assert.All(server.Seen<DescribeModuleRequest>(), request => Assert.Equal(("m", "net"), (request.Module, request.Path)));

        static IEnumerable<string> Names(IReadOnlyList<NamedTensorInfo> infos) => infos.Select(info => info.Name);
    }

    [Fact]
    public async Task NamedChildren_siblingsThatAreOneModule_countOnce()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<DescribeModuleRequest, DescribeModuleResponse>((_, _) => new DescribeModuleResponse { Root = Tree.Root.Children[0] });
        await using var client = server.NewClient();

        Assert.Equal(["0"], (await client.Module("m").GetSubmodule("body").NamedChildrenAsync()).Select(at => at.Key));
    }

    [Fact]
    public async Task Registrations_sendTheirRequests()
    {
        await using var server = await FakeServer.StartAsync();
        await using var client = server.NewClient();
        var root = client.Module("m").With(new CallSettings { IfGeneration = 4 });
        var module = root.GetSubmodule("body");

        await module.RegisterParameterAsync("scale", TensorData.Scalar(2f), requiresGrad: false);
        await module.RegisterParameterAsync("none", TensorData.None);
        await module.TieParameterAsync("weight", "wte.weight");
        await module.RegisterBufferAsync("cache", TensorData.Kept("t"), persistent: false);
        var child = await module.AddModuleAsync("head", Nn.Linear(2, 3), seed: 7, dtype: DataType.Float64);
        await module.RegisterModuleAsync("tail", Nn.ReLU());
        await module.AddModuleAsync("again", root.GetSubmodule("body.head"));
        await module.SetExtraStateAsync("ab"u8.ToArray());
        await module.SetExtraStateAsync(null);
        Assert.Equal("/dev/shm/x", (await module.ShareMemoryAsync()).File);

        var parameters = server.Seen<RegisterParameterRequest>();
        Assert.Equal([("scale", false, ""), ("none", true, ""), ("weight", false, "wte.weight")], parameters.Select(request => (request.Name, request.RequiresGrad, request.Share)));
        Assert.Equal([true, false, false], parameters.Select(request => request.Tensor?.HasData ?? false));
        Assert.False(parameters[2].HasRequiresGrad);
        var buffer = Assert.Single(server.Seen<RegisterBufferRequest>());
        Assert.Equal(("cache", "t", false), (buffer.Name, buffer.Tensor.KeptId, buffer.Persistent));
        var added = server.Seen<AddModuleRequest>();
        Assert.Equal((Nn.Linear(2, 3), 7L, DataType.Float64, false), (added[0].Spec, added[0].Seed, added[0].Dtype, added[0].HasShare));
        Assert.Equal((null, false, "body.head"), (added[2].Spec, added[2].HasSeed, added[2].Share));
        Assert.Equal(("m", "body.head"), (child.Name, child.Path));
        Assert.Equal([true, false], server.Seen<SetExtraStateRequest>().Select(request => request.HasState));
        Assert.All(server.Seen<IMessage>(), request =>
        {
            Assert.Equal("body", request.Descriptor.FindFieldByName("path").Accessor.GetValue(request));
            Assert.Equal(4ul, request.Descriptor.FindFieldByName("if_generation").Accessor.GetValue(request));
            Assert.NotEqual("", request.Descriptor.FindFieldByName("request_id").Accessor.GetValue(request));
        });
        await Assert.ThrowsAsync<ArgumentException>(() => module.AddModuleAsync("x", client.Module("other")));
    }

    [Fact]
    public async Task Members_comeWithTheirValues()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<GetParameterRequest, GetParameterResponse>((request, _) => new GetParameterResponse { Info = Info(request.Name), Tensor = Fakes.Tensor(1, 2), Generation = 3 });
        server.On<GetBufferRequest, GetBufferResponse>((request, _) => new GetBufferResponse { Info = new TensorInfo { Name = request.Name, IsNone = true }, Generation = 3 });
        server.On<GetExtraStateRequest, GetExtraStateResponse>((request, _) => request.Path.Length == 0 ? new GetExtraStateResponse() : new GetExtraStateResponse { State = ByteString.CopyFromUtf8("x") });
        await using var client = server.NewClient();
        var module = client.Module("m").GetSubmodule("a");

        var weight = await module.GetParameterAsync("b.weight");
        Assert.Equal((1f, 2L, 3ul, "b.weight"), (weight.Tensor.As<float>().Span[0], weight.Tensor.Length, weight.Generation, weight.Info.Name));
        Assert.Equal(("m", "a"), (server.Seen<GetParameterRequest>()[0].Module, server.Seen<GetParameterRequest>()[0].Path));
        Assert.Same(TensorData.None, (await module.GetBufferAsync("b.mean")).Tensor);
        Assert.Equal("x"u8.ToArray(), (await module.GetExtraStateAsync())!.Value.ToArray());
        Assert.False((await client.Module("m").GetExtraStateAsync()).HasValue);
    }

    [Fact]
    public async Task Conversion_warnings_areLogged()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<ToRequest, ToResponse>((_, _) => new ToResponse { Module = new Module { Name = "m" }, Warnings = { "Complex modules are a new feature" } });
        using var lines = new Lines();
        using var loggers = LoggerFactory.Create(builder => builder.AddProvider(lines));
        await using var client = server.NewClient(loggers: loggers);

        await client.Module("m").ToAsync(DataType.Complex64);

        Assert.Contains(lines.All, line => line.Contains("Complex modules", StringComparison.Ordinal));
    }

    private static TensorInfo Info(string name, string aliasOf = "") => new() { Name = name, AliasOf = aliasOf, Dtype = DataType.Float32, Shape = { 2 } };
}
