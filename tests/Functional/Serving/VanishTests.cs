using Google.Protobuf;
using Grpc.Core;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.Serving;

/// <summary>Clients that vanish: the connection is closed under their calls, at every point of each kind of call. The ledger settles where it was.</summary>
public sealed class VanishTests(SharedServer server) : ServerTest(server)
{
    private static readonly Dictionary<string, Func<Stubs, string, Task>> Points = new()
    {
        ["in a Forward"] = (s, m) =>
        {
            _ = Quietly(s.Execution.ForwardAsync(new() { Module = m, Inputs = { Wire.Pattern(1024, 256) } }).ResponseAsync);
            return Task.CompletedTask;
        },
        ["with a live graph that nobody owns"] = async (s, m) =>
            await s.Execution.ForwardAsync(new() { Module = m, Inputs = { Wire.Pattern(16, 256) }, RecordGraph = true, GraphTtl = Google.Protobuf.WellKnownTypes.Duration.FromTimeSpan(TimeSpan.FromSeconds(1)) }),
        ["in a ForwardStream"] = async (s, m) =>
        {
            var stream = s.Execution.ForwardStream();
            for (var i = 0; i < 20; i++)
            {
                await stream.RequestStream.WriteAsync(new() { Forward = new() { Module = m, Inputs = { Wire.Pattern(256, 256) } } });
            }

            await stream.ResponseStream.MoveNext(CancellationToken.None);
        },
        ["in a TrainStream"] = async (s, m) =>
        {
            var stream = s.Training.TrainStream();
            for (var i = 0; i < 20; i++)
            {
                await stream.RequestStream.WriteAsync(new()
                {
                    Step = new() { Module = m, Inputs = { Wire.Pattern(256, 256) }, Targets = { Wire.Pattern(256, 256) }, Loss = new() { Type = "MSELoss" } },
                });
            }

            await stream.ResponseStream.MoveNext(CancellationToken.None);
        },
        ["in the middle of an upload"] = async (s, m) =>
        {
            var call = s.State.LoadStateDict();
            await call.RequestStream.WriteAsync(new() { Header = new() { Module = m, Strict = false, Entries = { new StateEntry { Key = "0.weight", Dtype = DataType.Float32, Shape = { 256, 256 } } } } });
            await call.RequestStream.WriteAsync(new() { Chunk = new() { Data = ByteString.CopyFrom(new byte[1000]) } });
        },
        ["in the middle of a state dict"] = async (s, m) =>
        {
            var call = s.State.GetStateDict(new() { Module = m, ChunkBytes = 1024 });
            await call.ResponseStream.MoveNext(CancellationToken.None);
        },
        ["in the middle of gradients"] = async (s, m) =>
        {
            var call = s.Training.GetGradients(new() { Module = m, ChunkBytes = 1024 });
            await call.ResponseStream.MoveNext(CancellationToken.None);
        },
        ["in the middle of optimizer state"] = async (s, m) =>
        {
            var call = s.Training.GetOptimizerState(new() { Module = m, ChunkBytes = 1024 });
            await call.ResponseStream.MoveNext(CancellationToken.None);
        },
        ["with a session"] = async (s, m) =>
        {
            var call = s.Tensors.OpenSession(new());
            await call.ResponseStream.MoveNext(CancellationToken.None);
            await s.Tensors.PutTensorAsync(new() { Tensor = Wire.Pattern(1024), Session = call.ResponseStream.Current.Session });
        },
        ["in a PutTensor that a session would own"] = async (s, m) =>
        {
            var call = s.Tensors.OpenSession(new());
            await call.ResponseStream.MoveNext(CancellationToken.None);
            _ = Quietly(s.Tensors.PutTensorAsync(new() { Tensor = Wire.Pattern(1 << 20), Session = call.ResponseStream.Current.Session }).ResponseAsync);
        },
    };

    public static TheoryData<string> Cases => [.. Points.Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Client_that_vanishes_leaves_the_ledger_where_it_was(string point)
    {
        var module = await CreateAsync(Specs.Slow(4, 256));
        await Stubs.Training.CreateOptimizerAsync(new() { Module = module, Type = "Adam" });
        await Stubs.Training.TrainStepAsync(new() { Module = module, Inputs = { Wire.Pattern(2, 256) }, Targets = { Wire.Pattern(2, 256) }, Loss = new() { Type = "MSELoss" } });
        var used = await UsedBytesAsync();
        for (var i = 0; i < 3; i++)
        {
            var channel = Channels.Open(Server.Process);
            await Points[point](new Stubs(channel.CreateCallInvoker()), module);
            channel.Dispose();
        }

        await SettlesAsync(async () => await UsedBytesAsync() == used, async () => $"{await UsedBytesAsync()} bytes are charged; {used} were before the client vanished");
    }

    [Fact]
    public async Task Clients_that_vanish_leave_the_resident_memory_where_it_was()
    {
        const long Slack = 128L << 20;
        await using var server = await SconceProcess.StartAsync();
        var host = new HostService.HostServiceClient(Channels.Open(server).CreateCallInvoker());
        var before = await ResidentAsync();
        for (var round = 0; round < 3; round++)
        {
            await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(KeepAndVanishAsync)));
        }

        await SettlesAsync(async () => await ResidentAsync() < before + Slack, async () => $"{await ResidentAsync() >> 20} MiB are resident; {before >> 20} MiB were before the clients came");

        async Task<long> ResidentAsync() => (long)(await host.GetHostAsync(new())).Memory.ResidentBytes;

        async Task KeepAndVanishAsync()
        {
            using var channel = Channels.Open(server);
            var tensors = new TensorService.TensorServiceClient(channel.CreateCallInvoker());
            var session = tensors.OpenSession(new());
            await session.ResponseStream.MoveNext(CancellationToken.None);
            for (var i = 0; i < 20; i++)
            {
                await tensors.PutTensorAsync(new() { Tensor = Wire.Pattern(1 << 19), Session = session.ResponseStream.Current.Session });
            }
        }
    }

    private static async Task Quietly(Task call)
    {
        try
        {
            await call;
        }
        catch (Exception e) when (e is RpcException or ObjectDisposedException)
        {
            // What a vanished client would have been told.
        }
    }
}
