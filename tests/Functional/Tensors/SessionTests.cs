using Grpc.Core;
using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.Tensors;

/// <summary>Kept tensors, and sessions that own them and live graphs.</summary>
public sealed class SessionTests(SharedServer server) : ServerTest(server)
{
    [Fact]
    public async Task PutTensor_is_listed_returned_used_and_dropped()
    {
        var x = Wire.Pattern(3, 4);
        var kept = (await Stubs.Tensors.PutTensorAsync(new() { Id = "kept", Tensor = x })).Tensor;
        Assert.Equal(48UL, kept.Bytes);
        Assert.Equal([3, 4], kept.Shape);
        Assert.Equal("kept", Assert.Single((await Stubs.Tensors.ListTensorsAsync(new())).Tensors).Id);
        Assert.Equal(48UL, (await Stubs.Host.GetHostAsync(new())).Memory.KeptTensorBytes);
        Assert.Equal(x, (await Stubs.Tensors.GetTensorAsync(new() { Id = "kept" })).Tensor);

        var module = await CreateAsync(Specs.Linear, training: false);
        var byValue = await Stubs.Execution.ForwardAsync(new() { Module = module, Inputs = { x } });
        var byId = await Stubs.Execution.ForwardAsync(new() { Module = module, Inputs = { Wire.Kept("kept") } });
        Assert.Equal(byValue, byId);

        Assert.Equal("kept", (await Refusal.OfAsync(async () => await Stubs.Tensors.PutTensorAsync(new() { Id = "kept", Tensor = x }), StatusCode.AlreadyExists)).Resource?.ResourceName);
        await Stubs.Tensors.DropTensorAsync(new() { Id = "kept" });
        await Refusal.OfAsync(async () => await Stubs.Tensors.GetTensorAsync(new() { Id = "kept" }), StatusCode.NotFound, "kept");
    }

    [Fact]
    public async Task PutTensor_expires()
    {
        await Stubs.Tensors.PutTensorAsync(new() { Id = "brief", Tensor = Wire.Floats([1], 1), Ttl = Google.Protobuf.WellKnownTypes.Duration.FromTimeSpan(TimeSpan.FromMilliseconds(50)) });
        await Task.Delay(150);
        await Refusal.OfAsync(async () => await Stubs.Tensors.GetTensorAsync(new() { Id = "brief" }), StatusCode.NotFound);
    }

    [Fact]
    public async Task PutTensor_beyond_its_budget_is_RESOURCE_EXHAUSTED()
    {
        var large = Wire.Of(DataType.Uint8, [24 << 20], new byte[24 << 20]);
        await Stubs.Tensors.PutTensorAsync(new() { Id = "large-1", Tensor = large });
        await Stubs.Tensors.PutTensorAsync(new() { Id = "large-2", Tensor = large });
        var refusal = await Refusal.OfAsync(
            async () => await Stubs.Tensors.PutTensorAsync(new() { Id = "large-3", Tensor = large }), StatusCode.ResourceExhausted, "25,165,824", "50,331,648", "67,108,864", "kept_tensor_budget_bytes");
        Assert.NotNull(refusal.Quota);
        await Stubs.Tensors.DropTensorAsync(new() { Id = "large-1" });
        await Stubs.Tensors.DropTensorAsync(new() { Id = "large-2" });
    }

    [Fact]
    public async Task Session_closed_frees_what_it_owns()
    {
        var module = await CreateAsync(Specs.Mlp);
        var used = await UsedBytesAsync();
        await using var client = new SconceClient(Server.Process.Address.ToString());
        RemoteGraph graph;
        await using (var session = await client.OpenSessionAsync("closes"))
        {
            await session.PutTensorAsync(TensorData.Create(new float[1000]), "owned");
            graph = await client.Module(module).ForwardWithGraphAsync(TensorData.Create(new float[32], 8, 4), new() { Session = session });
            Assert.Single(await session.ListTensorsAsync());
            Assert.True(await UsedBytesAsync() > used);
        }

        await SettlesAsync(async () => await UsedBytesAsync() == used, async () => $"{await UsedBytesAsync()} bytes are charged; {used} were before the session");
        await Refusal.OfAsync(async () => await Stubs.Tensors.GetTensorAsync(new() { Id = "owned" }), StatusCode.NotFound);
        await Refusal.OfAsync(async () => await Stubs.Execution.BackwardAsync(new() { Module = module, Graph = graph.Id, OutputGrads = { Wire.Pattern(8, 3) } }), StatusCode.NotFound);
    }

    [Fact]
    public async Task Session_whose_client_vanishes_frees_what_it_owns()
    {
        var module = await CreateAsync(Specs.Mlp);
        var used = await UsedBytesAsync();
        var channel = Channels.Open(Server.Process);
        var vanishing = new Stubs(channel.CreateCallInvoker());
        using var open = vanishing.Tensors.OpenSession(new() { Label = "vanishes" });
        Assert.True(await open.ResponseStream.MoveNext(CancellationToken.None));
        var session = open.ResponseStream.Current.Session;
        await vanishing.Tensors.PutTensorAsync(new() { Tensor = Wire.Pattern(1000), Session = session });
        var graph = await vanishing.Execution.ForwardAsync(new() { Module = module, Inputs = { Wire.Pattern(8, 4) }, RecordGraph = true, Session = session });
        Assert.True(await open.ResponseStream.MoveNext(CancellationToken.None), "a heartbeat");
        Assert.Equal(session, open.ResponseStream.Current.Session);

        channel.Dispose();

        await SettlesAsync(async () => await UsedBytesAsync() == used, async () => $"{await UsedBytesAsync()} bytes are charged; {used} were before the session");
        Assert.Equal("session", (await Refusal.OfAsync(
            async () => await Stubs.Tensors.PutTensorAsync(new() { Tensor = Wire.Pattern(1), Session = session }), StatusCode.NotFound, session)).Resource?.ResourceType);
        await Refusal.OfAsync(async () => await Stubs.Execution.BackwardAsync(new() { Module = module, Graph = graph.Graph.Id, OutputGrads = { Wire.Pattern(8, 3) } }), StatusCode.NotFound);
    }

    [Fact]
    public async Task Session_label_that_is_not_printable_names_field() =>
        (await Refusal.OfAsync(() => Streams.DrainAsync(Stubs.Tensors.OpenSession(new() { Label = "a\nb" })), StatusCode.InvalidArgument)).At("label");
}
