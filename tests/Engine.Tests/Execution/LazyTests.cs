using Sconce.Engine.Catalog;
using Sconce.Engine.Execution;
using Sconce.Engine.Tensors;
using static Sconce.Engine.Tests.Execution.Testing;

namespace Sconce.Engine.Tests.Execution;

/// <summary>The first call of a lazy module changes it: alone, charged, and seen in its generation.</summary>
public sealed class LazyTests
{
    private static readonly ModuleSpec Lazy = Sequential(Of("LazyLinear", ("out_features", 3.0)), Of("ReLU"), Of("LazyLinear", ("out_features", 1.0)));

    [Fact]
    public async Task First_forward_in_eval_mode_gives_shapes_once_however_many_come_together()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Lazy);
        Assert.Equal((0L, 0L), (module.Summary.Parameters, host.Ledger.UsedBytes));
        var before = await module.DescribeAsync("0", default);
        Assert.All(before.Root.Parameters, parameter => Assert.True(parameter is { Uninitialized: true, Type: ElementType.Float32, RequiresGrad: true, Shape: [] }));

        var outputs = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => module.Forward(Filled(1, 2, 4))));

        Assert.All(outputs, output => Assert.Equal(outputs[0], output));
        Assert.Equal((19L, 2UL), (module.Summary.Parameters, module.Summary.Generation));
        Assert.Equal(19 * 4, host.Ledger.UsedBytes);
        var after = await module.DescribeAsync("0", default);
        Assert.Equal("Linear", after.Root.Type);
        Assert.Equal([3, 4], after.Root.Parameters[0].Shape);
        Assert.False(after.Root.Parameters[0].Uninitialized);
    }

    [Fact]
    public async Task Shapes_that_do_not_fit_the_memory_are_refused_and_the_module_stays_lazy()
    {
        await using var host = Host(options => options.MemoryBudgetBytes = 100_000);
        var module = await host.CreateEval("m", Of("LazyLinear", ("out_features", 1000.0)));

        await module.ForwardAsync(Call(Filled(1, 1, 500)), default).Fails(EngineError.ResourceExhausted, "memory_budget_bytes");

        Assert.Equal(0, host.Ledger.UsedBytes);
        Assert.Equal(1UL, module.Summary.Generation);
        Assert.Equal(1000, (await module.Forward(Filled(1, 1, 4))).Length);
        Assert.Equal(5000 * 4, host.Ledger.UsedBytes);
    }

    [Fact]
    public async Task State_is_refused_until_there_is_one()
    {
        await using var host = Host();
        var module = await host.Create("m", Lazy);
        await module.GetStateAsync("", [], default).Fails(EngineError.FailedPrecondition, "\"0.weight\"", "\"2.bias\"", "Forward");
        await module.Forward(Filled(1, 2, 4));
        using var state = await module.GetStateAsync("", [], default);
        Assert.Equal(["0.weight", "0.bias", "2.weight", "2.bias"], state.Entries.Select(entry => entry.Key));

        // Into another that is lazy still.
        var other = await host.CreateEval("other", Lazy);
        using (var upload = host.ReserveState(state.Entries, "entries"))
        {
            for (var i = 0; i < state.Entries.Count; i++)
            {
                upload.Write(i, 0, state.Read(i, 0, (int)state.ByteLength(i)).Span);
            }

            await other.LoadStateAsync(default, upload, true, default);
        }

        Assert.Equal(await module.Forward(Filled(1, 2, 4)), await other.Forward(Filled(1, 2, 4)));
        Assert.Equal(19, other.Summary.Parameters);
    }

    [Fact]
    public async Task Graph_of_the_first_forward_lives_and_training_from_the_first_step_on_learns()
    {
        await using var host = Host();
        var module = await host.Create("m", Sequential(Of("LazyLinear", ("out_features", 8.0)), Of("LazyBatchNorm1d"), Of("LazyLinear", ("out_features", 1.0))));
        await module.CreateOptimizerAsync("", "Adam", new Dictionary<string, object?> { ["lr"] = 0.05 }, [], null, default);
        using (var copy = await (await host.CopyModuleAsync("m", "", "copy", null, default)).ForwardAsync(Record(Filled(1, 2, 4)), default))
        {
            using var backward = await host.GetModule("copy").BackwardAsync(new BackwardCall { Graph = copy.Graph!.Id, OutputGrads = [Filled(1, 2, 1)] }, default);
        }

        var step = new TrainStepCall
        {
            Inputs = new CallInputs([Floats([3, 2], 1, 2, 3, 4, 5, 7)]),
            Loss = new LossSpec("MSELoss", new Dictionary<string, object?>()),
            Targets = [Floats([3, 1], 1, 0, -1)],
        };
        var losses = new List<double>();
        for (var i = 0; i < 60; i++)
        {
            using var result = await module.TrainStepAsync(step, default);
            losses.Add(result.Loss);
        }

        Assert.True(losses[^1] < losses[0] / 2, $"{losses[0]} to {losses[^1]}");
        Assert.Equal(2 * 8 * 4 * module.Summary.Parameters / 8, host.Ledger.Used(MemoryUse.Optimizers));
    }

    [Fact]
    public async Task Lbfgs_waits_for_shapes()
    {
        await using var host = Host();
        var module = await host.Create("m", Lazy);
        await module.CreateOptimizerAsync("", "LBFGS", new Dictionary<string, object?>(), [], null, default);
        var step = new TrainStepCall { Inputs = new CallInputs([Filled(1, 2, 4)]), Loss = new LossSpec("MSELoss", new Dictionary<string, object?>()), Targets = [Filled(0, 2, 1)] };

        await module.TrainStepAsync(step, default).Fails(EngineError.FailedPrecondition, "0.weight");
        await module.Forward(Filled(1, 2, 4));

        (await module.TrainStepAsync(step, default)).Dispose();
    }
}
