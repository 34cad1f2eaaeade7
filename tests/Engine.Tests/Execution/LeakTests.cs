using System.Runtime.InteropServices;
using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using static Sconce.Engine.Tests.Execution.Testing;

namespace Sconce.Engine.Tests.Execution;

/// <summary>What a host does all day leaves its memory where it was. Measured as resident memory: TorchSharp's own count of tensors drifts.</summary>
[Collection<ProcessWideCollection>]
public sealed class LeakTests(ITestOutputHelper output)
{
    private const int Rounds = 800;
    private const int WarmUp = 200;
    private const int Windows = 4;

    [Fact]
    public async Task Creates_steps_graphs_loads_conversions_and_deletes_leave_memory_flat()
    {
        await using var host = Host();
        var round = 0;
        await RunAsync(WarmUp);

        // A module here has 0.6 MiB of weights; one leaked tensor of it per round would be hundreds of MiB, in every window. What the allocators of a machine
        // with many cores or large caches keep to themselves grows in the first ones alone.
        var (before, after) = (0L, long.MaxValue);
        for (var window = 0; window < Windows && after - before >= 64 << 20; window++)
        {
            before = Resident();
            await RunAsync(Rounds);
            after = Resident();
            output.WriteLine($"resident after {round - Rounds} rounds: {before >> 20} MiB, after {round}: {after >> 20} MiB; ledger {host.Ledger.UsedBytes}");
        }

        Assert.Equal(0, host.Ledger.UsedBytes);
        Assert.Equal(0, host.Describe().LiveGraphs);
        Assert.True(after - before < 64 << 20, $"{before >> 20} MiB grew to {after >> 20} MiB");

        async Task RunAsync(int rounds)
        {
            for (var end = round + rounds; round < end; round++)
            {
                await Round(host, round);
            }
        }
    }

    private static async Task Round(EngineHost host, int round)
    {
        var name = $"m{round}";
        var module = await host.Create(name, Sequential(Linear(256, 256), Of("BatchNorm1d", ("num_features", 256.0)), Of("Dropout"), Linear(256, 256)));
        await module.CreateOptimizerAsync("", "Adam", new Dictionary<string, object?>(), [], null, default);
        var input = Filled(1, 16, 256);
        var step = new TrainStepCall
        {
            Inputs = new CallInputs([input]),
            Loss = new LossSpec("MSELoss", new Dictionary<string, object?>()),
            Targets = [Filled(0, 16, 256)],
            ReturnOutput = true,
        };
        (await module.TrainStepAsync(step, default)).Dispose();

        // One graph is used, one released, one invalidated, one left for the delete, one call fails.
        using (var used = await module.ForwardAsync(Record(input), default))
        using (var released = await module.ForwardAsync(Record(input), default))
        {
            (await module.BackwardAsync(new BackwardCall { Graph = used.Graph!.Id, OutputGrads = [input] }, default)).Dispose();
            module.ReleaseGraph(released.Graph!.Id);
        }

        (await module.ForwardAsync(Record(input), default)).Dispose();
        await module.ConvertAsync(default, new ConversionPlan(round % 2 == 0 ? ConversionKind.BFloat16 : ConversionKind.Double), default);
        await module.ConvertAsync(default, new ConversionPlan(ConversionKind.Float), default);
        await module.ForwardAsync(Record(Filled(1, 16, 7)), default).Fails(EngineError.InvalidArgument);
        using (var state = await module.GetStateAsync("", [], default))
        using (var upload = host.ReserveState(state.Entries, "entries"))
        {
            for (var i = 0; i < state.Entries.Count; i++)
            {
                upload.Write(i, 0, state.Read(i, 0, (int)state.ByteLength(i)).Span);
            }

            await module.LoadStateAsync(default, upload, true, default);
        }

        using var session = host.Sessions.Open("");
        host.Tensors.Put("", Payload([16, 256], MemoryMarshal.Cast<byte, float>(input.Payload.Data.Span).ToArray()), null, session.Id);
        (await module.ForwardAsync(Record(input), default)).Dispose();
        await host.DeleteModuleAsync(name, null, default);
    }

    private static long Resident()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
        return Environment.WorkingSet;
    }
}
