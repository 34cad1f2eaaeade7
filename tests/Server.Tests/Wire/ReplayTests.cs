using Google.Protobuf;
using Grpc.Core;

namespace Sconce.Server.Tests.Wire;

/// <summary>
/// A server that starts again after its last snapshot, and callers who repeat what they did under the first ids. Nothing is saved at the stop, so that to the modules it is
/// a crash.
/// </summary>
public sealed class ReplayTests : IDisposable
{
    private readonly string _data = Directory.CreateTempSubdirectory("sconce-replay-").FullName;

    public void Dispose() => Directory.Delete(_data, recursive: true);

    [Fact]
    public async Task Whoever_repeats_everything_ends_where_it_would_have_been()
    {
        List<Func<RunningServer, Task<IMessage>>> calls =
        [
            async server => await server.Modules.CreateModuleAsync(new() { Module = "m", Spec = Make.Linear(1, 1, bias: false), RequestId = "create", State = { new V1.StateTensor { Key = "weight", Tensor = Make.Floats([1, 1], 0) } } }),
            async server => await server.Training.CreateOptimizerAsync(new() { Module = "m", Type = "SGD", Args = Make.Args(("lr", 1)), RequestId = "optimizer" }),
            .. Enumerable.Range(1, 5).Select(i => (Func<RunningServer, Task<IMessage>>)(server => StepAsync(server, i))),
            server => StreamedAsync(server, 6),
            LoadedAsync,
            server => StepAsync(server, 7),
            server => StreamedAsync(server, 8),
        ];

        // The first six are in the snapshot, the others are lost.
        const int Saved = 6;
        var first = new List<IMessage>();
        var server = await StartAsync();
        for (var i = 0; i < calls.Count; i++)
        {
            first.Add(await calls[i](server));
            if (i + 1 == Saved)
            {
                await server.State.SaveSnapshotAsync(new() { Module = "m" });
            }
        }

        var weight = await WeightAsync(server);
        var ended = (await server.Modules.GetModuleAsync(new() { Module = "m" })).Module;
        Assert.Equal((8UL, 4UL), (ended.Steps, ended.DurableSteps));
        await server.DisposeAsync();

        await using var again = await StartAsync();
        var back = (await again.Modules.GetModuleAsync(new() { Module = "m" })).Module;
        Assert.Equal((4UL, 4UL), (back.Steps, back.DurableSteps));
        for (var round = 0; round < 2; round++)
        {
            for (var i = 0; i < calls.Count; i++)
            {
                var answer = await calls[i](again);
                if (i < Saved)
                {
                    Assert.Equal(first[i], answer);
                }
            }

            // Twice is once.
            Assert.Equal(weight, await WeightAsync(again));
            Assert.Equal(8UL, (await again.Modules.GetModuleAsync(new() { Module = "m" })).Module.Steps);
        }

        Assert.Empty(again.Errors);
    }

    [Fact]
    public async Task An_error_is_an_answer_too_and_an_id_stays_its_calls()
    {
        var server = await StartAsync();
        await Make.ModuleAsync(server, "m", Make.Linear(1, 1));
        var early = new V1.OptimizerStepRequest { Module = "m", RequestId = "early" };
        var first = (await Refused.OfAsync(server.Training.OptimizerStepAsync(early).ResponseAsync)).Is(StatusCode.NotFound, resource: "optimizer");
        await server.Training.CreateOptimizerAsync(new() { Module = "m", Type = "SGD", RequestId = "made" });
        await server.State.SaveSnapshotAsync(new() { Module = "m" });
        await server.DisposeAsync();

        // It would be able to step now; but it is known not to have.
        await using var again = await StartAsync();
        var repeated = (await Refused.OfAsync(again.Training.OptimizerStepAsync(early).ResponseAsync)).Is(StatusCode.NotFound, resource: "optimizer");
        Assert.Equal(first.Message, repeated.Message);
        early.ZeroGrad = true;
        Assert.Equal("REQUEST_ID_REUSED", (await Refused.OfAsync(again.Training.OptimizerStepAsync(early).ResponseAsync)).Is(StatusCode.InvalidArgument, "request_id").Reason);
        Assert.Equal(0UL, (await again.Modules.GetModuleAsync(new() { Module = "m" })).Module.Steps);
    }

    [Fact]
    public async Task The_snapshot_of_a_steps_own_turn_has_its_answer()
    {
        var server = await StartAsync();
        await TrainableAsync(server);
        await server.State.SetSnapshotPolicyAsync(new() { Module = "m", Policy = new() { EverySteps = 1, KeepLast = 1 } });
        var first = await StepAsync(server, 1);
        await Eventually.TrueAsync(async () => (await server.Modules.GetModuleAsync(new() { Module = "m" })).Module.DurableSteps == 1);
        await server.DisposeAsync();

        await using var again = await StartAsync();
        Assert.Equal(first, await StepAsync(again, 1));
        Assert.Equal(1UL, (await again.Modules.GetModuleAsync(new() { Module = "m" })).Module.Steps);
    }

    [Fact]
    public async Task A_restore_in_a_running_server_undoes_steps_but_not_that_they_were_answered()
    {
        var server = await StartAsync();
        await TrainableAsync(server);
        var saved = (await server.State.SaveSnapshotAsync(new() { Module = "m" })).Snapshot;
        var undone = await StepAsync(server, 1);
        var restore = new V1.RestoreSnapshotRequest { Module = "m", Snapshot = saved.Id, RequestId = "back" };
        var restored = await server.State.RestoreSnapshotAsync(restore);
        Assert.Equal(undone, await StepAsync(server, 1));
        await StepAsync(server, 2);
        Assert.Equal(restored, await server.State.RestoreSnapshotAsync(restore));
        Assert.Equal(1UL, (await server.Modules.GetModuleAsync(new() { Module = "m" })).Module.Steps);
        await server.State.SaveSnapshotAsync(new() { Module = "m" });
        await server.DisposeAsync();

        // The newest snapshot is of after the restore, so a repeat of that must not undo the step that came after it.
        await using var again = await StartAsync();
        Assert.Equal(restored, await again.State.RestoreSnapshotAsync(restore));
        Assert.Equal(1UL, (await again.Modules.GetModuleAsync(new() { Module = "m" })).Module.Steps);

        // The one that was undone is in no snapshot.
        await StepAsync(again, 1);
        Assert.Equal(2UL, (await again.Modules.GetModuleAsync(new() { Module = "m" })).Module.Steps);
    }

    [Fact]
    public async Task A_call_that_is_bound_to_another_start_of_the_server_is_refused_before_it_does_anything()
    {
        var server = await StartAsync();
        var instance = (await server.Host.GetHostAsync(new())).Instance;
        using var call = server.Host.GetHostAsync(new());
        Assert.Equal(instance, (await call.ResponseHeadersAsync).GetValue("sconce-instance"));
        var bound = new Metadata { { "sconce-instance", instance } };
        await server.Modules.CreateModuleAsync(new() { Module = "m", Spec = Make.Linear(1, 1) }, bound);
        await server.DisposeAsync();

        await using var again = await StartAsync();
        Assert.NotEqual(instance, (await again.Host.GetHostAsync(new())).Instance);
        var refused = (await Refused.OfAsync(again.Modules.CreateModuleAsync(new() { Module = "m", Spec = Make.Linear(1, 1) }, bound).ResponseAsync)).Is(StatusCode.Aborted);
        Assert.Equal("SERVER_RESTARTED", refused.Reason);
        using var stream = again.Training.TrainStream(bound);
        (await Refused.OfAsync(stream.ResponseStream.MoveNext(default))).Is(StatusCode.Aborted);
        Assert.Empty((await again.Modules.ListModulesAsync(new())).Modules);
    }

    private Task<RunningServer> StartAsync() => RunningServer.StartAsync(options => options.Engine.Data = _data);

    private static async Task TrainableAsync(RunningServer server)
    {
        await Make.ModuleAsync(server, "m", Make.Linear(1, 1, bias: false));
        await server.Training.CreateOptimizerAsync(new() { Module = "m", Type = "SGD", Args = Make.Args(("lr", 1)) });
    }

    private static async Task<float> WeightAsync(RunningServer server) =>
        Make.Floats((await server.Modules.GetParameterAsync(new() { Module = "m", Name = "weight" })).Tensor)[0];

    // It adds its number to the weight: the gradient is minus the input.
    private static V1.TrainStepRequest Step(int i) => new()
    {
        Module = "m",
        Inputs = { Make.Floats([1, 1], i) },
        Targets = { Make.Floats([1, 1], 1e30f) },
        Loss = new V1.Loss { Type = "L1Loss" },
        RequestId = $"step-{i}",
    };

    private static async Task<IMessage> StepAsync(RunningServer server, int i) => await server.Training.TrainStepAsync(Step(i));

    private static async Task<IMessage> StreamedAsync(RunningServer server, int i)
    {
        using var stream = server.Training.TrainStream();
        await stream.RequestStream.WriteAsync(new V1.TrainStreamRequest { Id = (ulong)i, Step = Step(i) });
        await stream.RequestStream.CompleteAsync();
        Assert.True(await stream.ResponseStream.MoveNext(default));
        return stream.ResponseStream.Current.Step;
    }

    private static async Task<IMessage> LoadedAsync(RunningServer server)
    {
        var bytes = Make.Floats([1, 1], 100).Data;
        using var load = server.State.LoadStateDict();
        await load.RequestStream.WriteAsync(new() { Header = new() { Module = "m", RequestId = "load", Entries = { new V1.StateEntry { Key = "weight", Dtype = V1.DataType.Float32, Shape = { 1, 1 } } } } });
        await load.RequestStream.WriteAsync(new() { Chunk = new() { Data = bytes } });
        await load.RequestStream.WriteAsync(new() { End = new() { Xxh3 = System.IO.Hashing.XxHash3.HashToUInt64(bytes.Span) } });
        await load.RequestStream.CompleteAsync();
        return await load;
    }
}
