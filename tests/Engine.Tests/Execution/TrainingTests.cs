using System.Runtime.InteropServices;
using Sconce.Engine.Catalog;
using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using Sconce.Engine.Training;
using static Sconce.Engine.Tests.Execution.Testing;

namespace Sconce.Engine.Tests.Execution;

public sealed class TrainingTests
{
    private static readonly LossSpec CrossEntropy = new("CrossEntropyLoss", new Dictionary<string, object?>());
    private static readonly ModuleSpec Norm = Sequential(Linear(4, 8), Of("BatchNorm1d", ("num_features", 8.0)), Linear(8, 2));

    [Fact]
    public async Task TrainStep_lowers_the_loss_and_raises_the_generation()
    {
        await using var host = Host();
        var module = await host.Create("m", Mlp());
        await Adam(module);
        var losses = new List<double>();
        for (var i = 0; i < 50; i++)
        {
            using var step = await module.TrainStepAsync(Step(), default).WaitAsync(Limit);
            losses.Add(step.Loss);
            Assert.Equal(i + 1, step.Steps);
            Assert.Equal((ulong)i + 2, step.Generation);
        }

        Assert.True(losses[^1] < losses[0] / 2, $"{losses[0]} to {losses[^1]}");
        var optimizer = await module.GetOptimizerAsync("", default);
        Assert.Equal(("default", "Adam", 50L), (optimizer.Name, optimizer.Type, optimizer.Steps));
        Assert.Equal(["default"], module.Summary.Optimizers);
    }

    [Fact]
    public async Task TrainStep_that_fails_leaves_weights_buffers_gradients_and_generation()
    {
        await using var host = Host();
        var module = await host.Create("m", Norm);
        await Adam(module);
        (await module.TrainStepAsync(Step(), default)).Dispose();
        var used = host.Ledger.UsedBytes;
        var (before, gradients) = (await State(module), await Gradients(module));

        var error = await module.TrainStepAsync(Step(target: 2), default).Fails(EngineError.InvalidArgument, "targets[0]");
        Assert.Equal("targets[0]", Assert.Single(error.Fields).Field);
        await module.TrainStepAsync(Step(columns: 5), default).Fails(EngineError.InvalidArgument, "inputs[0]");
        await module.TrainStepAsync(Step(optimizer: "other"), default).Fails(EngineError.NotFound, "\"other\"", "\"default\"");

        var after = await State(module);
        Assert.Equal(before, after);
        var gradientsAfter = await Gradients(module);
        Assert.Equal(gradients, gradientsAfter);
        Assert.Equal(2UL, module.Summary.Generation);
        Assert.Equal(used, host.Ledger.UsedBytes);
        (await module.TrainStepAsync(Step(), default)).Dispose();
    }

    [Fact]
    public async Task ForwardBackward_over_micro_batches_adds_up_to_the_whole_batch()
    {
        await using var host = Host();
        var a = await host.Create("a", Mlp());
        var b = await host.CopyModuleAsync("a", "", "b", null, default);
        float[] batch = [1, 2, 3, 4, -1, -2, -3, -4, 2, 0, 1, 1, 0, 1, 0, 1];
        (await a.ForwardBackwardAsync(Batch(batch, [0, 1, 1, 0]), default)).Dispose();
        (await b.ForwardBackwardAsync(Batch(batch[..8], [0, 1], 0.5), default)).Dispose();
        (await b.ForwardBackwardAsync(Batch(batch[8..], [1, 0], 0.5), default)).Dispose();

        var (whole, parts) = (await Gradients(a), await Gradients(b));
        Assert.Equal(whole.Length, parts.Length);
        Assert.All(whole.Zip(parts), pair => Assert.Equal(pair.First, pair.Second, 1e-6f));
        Assert.Equal(1UL, a.Summary.Generation);
        Assert.Equal(a.Summary.Bytes, host.Ledger.Used(MemoryUse.Gradients) / 2);
        await a.ZeroGradAsync(default, true, default);
        await b.ZeroGradAsync(default, true, default);
        Assert.Equal(0, host.Ledger.Used(MemoryUse.Gradients));
    }

    [Fact]
    public async Task ForwardBackward_without_anything_to_learn_says_so_and_charges_nothing()
    {
        await using var host = Host();
        var module = await host.Create("m", Mlp());
        await module.RequiresGradAsync(default, false, [], default);
        await module.ForwardBackwardAsync(Batch([1, 2, 3, 4], [0]), default).Fails(EngineError.FailedPrecondition, "requires a gradient");
        Assert.Equal(0, host.Ledger.Used(MemoryUse.Gradients));
    }

    [Fact]
    public async Task TrainStep_returns_the_output_where_asked_for()
    {
        await using var host = Host();
        var module = await host.Create("m", Mlp());
        await Adam(module);
        var input = Floats([1, 4], 1, 2, 3, 4);
        var expected = await module.Forward(input);
        using var step = await module.TrainStepAsync(
            new TrainStepCall { Inputs = new CallInputs([input]), Loss = CrossEntropy, Targets = [Classes(1)], ReturnOutput = true }, default);
        Assert.Equal(expected, step.Output!.Tensor!.Values());
    }

    [Fact]
    public async Task An_optimizer_goes_on_stepping_after_a_conversion_and_its_charge_follows()
    {
        await using var host = Host();
        var module = await host.Create("m", Mlp());
        await Adam(module);
        (await module.TrainStepAsync(Step(), default)).Dispose();
        var single = host.Ledger.Used(MemoryUse.Optimizers);
        Assert.True(single >= module.Summary.Bytes * 2, $"{single}");

        await module.ConvertAsync(default, new ConversionPlan(ConversionKind.Double), default);
        var inputs = new CallInputs([TensorInput.Of(new TensorPayload(ElementType.Float64, [1, 4], MemoryMarshal.AsBytes<double>([1, 2, 3, 4]).ToArray()))]);
        for (var i = 0; i < 3; i++)
        {
            (await module.TrainStepAsync(new TrainStepCall { Inputs = inputs, Loss = CrossEntropy, Targets = [Classes(1)] }, default)).Dispose();
        }

        Assert.Equal(4, (await module.GetOptimizerAsync("", default)).Steps);
        Assert.True(host.Ledger.Used(MemoryUse.Optimizers) > single);
        Assert.Equal(module.Summary.Bytes, host.Ledger.Used(MemoryUse.Gradients));
        await module.DeleteOptimizerAsync("", null, default);
        Assert.Equal(0, host.Ledger.Used(MemoryUse.Optimizers));
    }

    [Fact]
    public async Task Optimizer_state_moves_to_another_module_and_both_go_on_alike()
    {
        await using var host = Host();
        var a = await host.Create("a", Mlp());
        await Adam(a);
        (await a.TrainStepAsync(Step(), default)).Dispose();
        var b = await host.CopyModuleAsync("a", "", "b", null, default);
        await Adam(b);

        using (var state = await a.GetOptimizerStateAsync("", default))
        {
            Assert.Contains(state.Tensors.Entries, entry => entry.Key == "0.exp_avg");
            using var upload = Upload(host, state.Tensors);
            var loaded = await b.LoadOptimizerStateAsync("", state.Groups, state.Scalars, upload, "state", null, default);
            Assert.Equal("Adam", loaded.Type);
        }

        Assert.Equal(0, host.Ledger.Used(MemoryUse.State));
        (await a.TrainStepAsync(Step(), default)).Dispose();
        (await b.TrainStepAsync(Step(), default)).Dispose();
        var (stateA, stateB) = (await State(a), await State(b));
        Assert.Equal(stateA, stateB);
    }

    [Fact]
    public async Task OptimizerStep_that_fails_has_neither_clipped_nor_stepped()
    {
        await using var host = Host();
        var module = await host.Create("m", Mlp());
        var none = new Dictionary<string, object?>();
        await module.CreateOptimizerAsync("", "SGD", none, [new ParamGroupSpec(["0.*"], none), new ParamGroupSpec(["2.*"], none)], null, default);
        (await module.ForwardBackwardAsync(Batch([1, 2, 3, 4], [0]), default)).Dispose();
        await module.SetLearningRateAsync("", 1e39, 1, null, default);
        var (before, gradients) = (await State(module), await Gradients(module));

        await module.OptimizerStepAsync("", new GradientClip(1e-3, null), true, null, default).Fails(EngineError.FailedPrecondition, "learning rate", "smaller");
        await module.TrainStepAsync(Step(), default).Fails(EngineError.FailedPrecondition, "learning rate", "smaller");

        Assert.Equal(before, await State(module));
        Assert.Equal(gradients, await Gradients(module));
        Assert.Equal(1UL, module.Summary.Generation);
        Assert.Equal(0, (await module.GetOptimizerAsync("", default)).Steps);
    }

    [Fact]
    public async Task OptimizerStep_that_libtorch_fails_half_way_makes_a_new_generation()
    {
        await using var host = Host();
        var module = await host.Create("m", Linear(4, 2));
        await module.CreateOptimizerAsync("", "SGD", new Dictionary<string, object?>(), [], null, default);
        using var forward = await module.ForwardAsync(Record(Floats([1, 4], 1, 2, 3, 4)), default);
        await module.Change(null, () =>
        {
            // No backward makes such a gradient; it stands for a lack of memory, which no test can time.
            using var wrong = TorchSharp.torch.ones(3);
            return module.State.Tree.Root.Parameters[1].Parameter.grad = wrong;
        }, default);

        var error = await module.OptimizerStepAsync("", null, false, null, default).Fails(EngineError.Internal, "\"bias\"");

        Assert.Equal("STEP_INCOMPLETE", error.Reason);
        Assert.Equal(2UL, module.Summary.Generation);
        Assert.Equal(0, module.Summary.LiveGraphs);
    }

    [Theory]
    [InlineData(1e39)]
    [InlineData(double.MaxValue)]
    public async Task ClipGradients_to_a_value_beyond_the_dtype_clips_nothing(double value)
    {
        await using var host = Host();
        var module = await host.Create("m", Mlp());
        (await module.ForwardBackwardAsync(Batch([1, 2, 3, 4], [0]), default)).Dispose();
        var gradients = await Gradients(module);

        Assert.Null(await module.ClipGradientsAsync(default, new GradientClip(null, value), default));

        Assert.Equal(gradients, await Gradients(module));
    }

    [Fact]
    public async Task Optimizer_calls_cover_groups_rates_schedulers_clipping_and_steps()
    {
        await using var host = Host();
        var module = await host.Create("m", Mlp());
        var none = new Dictionary<string, object?>();
        await module.CreateOptimizerAsync("sgd", "SGD", new Dictionary<string, object?> { ["lr"] = 0.5 }, [new ParamGroupSpec(["0.*"], none)], null, default);
        var two = await module.AddParamGroupAsync("sgd", new ParamGroupSpec(["2.*"], new Dictionary<string, object?> { ["lr"] = 0.25 }), null, default);
        Assert.Equal([0.5, 0.25], two.Groups.Select(group => Convert.ToDouble(group.Options["lr"], System.Globalization.CultureInfo.InvariantCulture)));
        await module.AddParamGroupAsync("sgd", new ParamGroupSpec(["2.*"], none), null, default).Fails(EngineError.InvalidArgument, "2.weight");
        await module.SetLearningRateAsync("sgd", 0.1, null, null, default);
        var scheduled = await module.CreateSchedulerAsync("sgd", "StepLR", new Dictionary<string, object?> { ["step_size"] = 1.0, ["gamma"] = 0.5 }, null, default);
        Assert.Equal([0.1, 0.1], scheduled.Scheduler!.LastLr);
        Assert.Equal([0.05, 0.05], (await module.SchedulerStepAsync("sgd", null, null, default)).Scheduler!.LastLr);
        (await module.ForwardBackwardAsync(Batch([1, 2, 3, 4], [0]), default)).Dispose();
        var norm = await module.ClipGradientsAsync(default, new GradientClip(1e-3, null), default);
        Assert.True(norm > 1e-3);
        var step = await module.OptimizerStepAsync("sgd", new GradientClip(1, null), true, null, default);
        Assert.Equal((2UL, 1L), (step.Generation, step.Steps));
        Assert.Equal(1e-3, step.GradNorm!.Value, 1e-5);
        Assert.Equal(0, host.Ledger.Used(MemoryUse.Gradients));
        await module.CreateOptimizerAsync("sgd", "SGD", none, [], null, default).Fails(EngineError.AlreadyExists);
        await module.CreateOptimizerAsync("bad name", "SGD", none, [], null, default).Fails(EngineError.InvalidArgument, "bad name");
        await module.CreateOptimizerAsync("lbfgs", "LBFGS", none, [], null, default);
        await module.OptimizerStepAsync("lbfgs", null, false, null, default).Fails(EngineError.FailedPrecondition, "TrainStep");
        await module.GetOptimizerStateAsync("lbfgs", default).Fails(EngineError.FailedPrecondition);
        using var closure = await module.TrainStepAsync(Step(optimizer: "lbfgs"), default);
        Assert.Equal(3UL, closure.Generation);
    }

    [Fact]
    public async Task Loss_that_is_misspelt_is_told_without_a_turn()
    {
        await using var host = Host();
        var module = await host.Create("m", Mlp());
        await module.ForwardBackwardAsync(new ForwardBackwardCall { Inputs = new CallInputs([Filled(1, 1, 4)]), Loss = new LossSpec("CrossEntropyLos", CrossEntropy.Args) }, default)
            .Fails(EngineError.Unimplemented, "CrossEntropyLoss");
    }

    private static Task<OptimizerDescription> Adam(HostedModule module) =>
        module.CreateOptimizerAsync("", "Adam", new Dictionary<string, object?> { ["lr"] = 0.05 }, [], null, default);

    private static TensorInput Classes(params long[] classes) =>
        TensorInput.Of(new TensorPayload(ElementType.Int64, [classes.Length], MemoryMarshal.AsBytes(classes.AsSpan()).ToArray()));

    private static TrainStepCall Step(long target = 1, int columns = 4, string optimizer = "") => new()
    {
        Inputs = new CallInputs([Floats([2, columns], [.. Enumerable.Range(0, 2 * columns).Select(i => i / 4f)])]),
        Loss = CrossEntropy,
        Targets = [Classes(0, target)],
        Optimizer = optimizer,
    };

    private static ForwardBackwardCall Batch(float[] values, long[] classes, double scale = 1) => new()
    {
        Inputs = new CallInputs([Floats([classes.Length, 4], values)]),
        Loss = CrossEntropy,
        Targets = [Classes(classes)],
        LossScale = scale,
    };

    private static async Task<byte[]> State(HostedModule module)
    {
        using var state = await module.GetStateAsync("", [], default);
        return Bytes(state);
    }

    private static async Task<float[]> Gradients(HostedModule module)
    {
        using var gradients = await module.GetGradientsAsync("", [], default);
        return MemoryMarshal.Cast<byte, float>(Bytes(gradients)).ToArray();
    }

    private static byte[] Bytes(StateSnapshot state) =>
        [.. Enumerable.Range(0, state.Entries.Count).SelectMany(i => state.Read(i, 0, (int)state.ByteLength(i)).ToArray())];

    private static StateUpload Upload(EngineHost host, StateSnapshot state)
    {
        var upload = host.ReserveState(state.Entries, "entries");
        for (var i = 0; i < state.Entries.Count; i++)
        {
            upload.Write(i, 0, state.Read(i, 0, (int)state.ByteLength(i)).Span);
        }

        return upload;
    }
}
