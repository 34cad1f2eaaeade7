using Sconce.Engine.Catalog;
using Sconce.Engine.Execution;
using Sconce.Engine.Hooks;
using Sconce.Engine.Tensors;
using Sconce.Engine.Tests.Modules;
using static Sconce.Engine.Tests.Execution.Testing;
using static Sconce.Engine.Tests.Hooks.HookTesting;

namespace Sconce.Engine.Tests.Hooks;

public sealed class ForwardHookTests
{
    private static readonly TensorInput X = Floats([1, 2], 3, -4);

    [Fact]
    public async Task Hooks_of_one_call_see_inputs_and_outputs_in_the_order_of_the_call()
    {
        await using var host = Host();
        var module = await Doubler(host);

        using var outcome = await module.ForwardAsync(Call(X).With(
            On(HookSite.Forward, "1", Capture), On(HookSite.ForwardPre, "0", Capture), On(HookSite.Forward, "0", Capture), On(HookSite.Forward, "", Capture) with { Id = "out" }), default);

        Assert.Equal([6f, 0f], outcome.Values());
        Assert.Equal([("1", "0"), ("2", "0"), ("0", "1"), ("out", "")], outcome.Hooks.Captures.Select(capture => (capture.Hook, capture.Path)));
        Assert.Equal([3f, -4f], outcome.Hooks.Captures[0].Floats());
        Assert.Equal([6f, -8f], outcome.Hooks.Captures[1].Floats());
        Assert.Equal([6f, 0f], outcome.Hooks.Captures[2].Floats());
        Assert.Equal([6f, 0f], outcome.Hooks.Captures[3].Floats());
        Assert.Equal(0L, await Remaining(host, outcome));
    }

    [Fact]
    public async Task Edits_change_what_goes_on_and_captures_come_after_them_unless_asked()
    {
        await using var host = Host();
        var module = await Doubler(host);
        var before = new CaptureAction(HookDestination.Default, BeforeEdits: true);

        using var outcome = await module.ForwardAsync(
            Call(X).With(On(HookSite.Forward, "0", Capture, before, new AddAction(Number(10)), new MulAction(Values([2], 1, -1)))), default);

        Assert.Equal([16f, 0f], outcome.Values());
        Assert.Equal([6f, -8f], outcome.Hooks.Captures[0].Floats());
        Assert.Equal([16f, -2f], outcome.Hooks.Captures[1].Floats());
        Same(await module.Forward(X), 6f, 0f);
    }

    [Theory]
    [InlineData("set", 5f, 5f)]
    [InlineData("add", 9f, -1f)]
    [InlineData("mul", 9f, -12f)]
    [InlineData("lerp", 2.5f, -4.5f)]
    [InlineData("clamp", 1f, -1f)]
    [InlineData("clip_norm", 0.6f, -0.8f)]
    [InlineData("project_out", 0f, -4f)]
    public async Task Each_edit_computes_what_it_says(string action, float first, float second)
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("Identity"));
        HookAction edit = action switch
        {
            "set" => new SetAction(Number(5)),
            "add" => new AddAction(Values([2], 2, 1), Scale: 3),
            "mul" => new MulAction(Number(3)),
            "lerp" => new LerpAction(Values([2], 1, -6), 0.25),
            "clamp" => new ClampAction(-1, 1),
            "clip_norm" => new ClipNormAction(1),
            _ => new ProjectOutAction(Values([2], 7, 0)),
        };

        using var outcome = await module.ForwardAsync(Call(X).With(On(HookSite.Forward, "", edit)), default);

        Assert.Equal(first, outcome.Values()[0], 1e-5f);
        Assert.Equal(action == "lerp" ? -4.5f : second, outcome.Values()[1], 1e-5f);
    }

    [Fact]
    public async Task Noise_is_the_same_for_a_seed_and_leaves_the_generator_alone()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("Identity"));
        var hook = On(HookSite.Forward, "", new AddNoiseAction(1, 7));
        var zeros = Filled(0, 1, 4096);

        using var first = await module.ForwardAsync(Call(zeros).With(hook), default);
        using var again = await module.ForwardAsync(Call(zeros).With(hook), default);
        using var other = await module.ForwardAsync(Call(zeros).With(On(HookSite.Forward, "", new AddNoiseAction(1, 8))), default);

        Assert.Equal(first.Values(), again.Values());
        Assert.NotEqual(first.Values(), other.Values());
        Assert.InRange(first.Values().Average(), -0.1, 0.1);
        Assert.InRange(first.Values().Average(value => value * value), 0.9, 1.1);
    }

    [Fact]
    public async Task Noise_of_a_registered_hook_differs_from_visit_to_visit()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("Identity"));
        await module.Register(On(HookSite.Forward, "", new AddNoiseAction(1, 7)));
        Assert.NotEqual(await module.Forward(Filled(0, 8)), await module.Forward(Filled(0, 8)));
    }

    [Fact]
    public async Task A_select_edits_one_head_and_nothing_else()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("Identity"));
        var head = new HookSelect(new HookSplit(-1, 3), [new HookDim(1) { Index = 2 }]);

        using var outcome = await module.ForwardAsync(Call(Floats([1, 6], 1, 2, 3, 4, 5, 6)).With(On(HookSite.Forward, "", Capture, new SetAction(Number(0))) with { Select = head }), default);

        Assert.Equal([1f, 2, 3, 4, 0, 0], outcome.Values());
        Assert.Equal([1L, 2L], Assert.Single(outcome.Hooks.Captures).Tensor!.Shape);
    }

    [Theory]
    [InlineData("slice", new[] { 1f, 0, 3, 0, 5, 0 })]
    [InlineData("tail", new[] { 1f, 2, 3, 4, 0, 0 })]
    [InlineData("indexes", new[] { 0f, 2, 3, 4, 5, 0 })]
    [InlineData("empty", new[] { 1f, 2, 3, 4, 5, 6 })]
    public async Task Slices_and_lists_are_Pythons(string select, float[] expected)
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("Identity"));
        var dim = select switch
        {
            "slice" => new HookDim(0) { Slice = (1, null, 2) },
            "tail" => new HookDim(-1) { Slice = (-2, null, 1) },
            "indexes" => new HookDim(0) { Indexes = [0, -1] },
            _ => new HookDim(0) { Slice = (4, 2, 1) },
        };

        using var outcome = await module.ForwardAsync(Call(Floats([6], 1, 2, 3, 4, 5, 6)).With(On(HookSite.Forward, "", new SetAction(Number(0))) with { Select = new HookSelect(null, [dim]) }), default);

        Assert.Equal(expected, outcome.Values());
    }

    [Fact]
    public async Task A_skipped_module_does_not_run()
    {
        await using var host = Host();
        var module = await Doubler(host);
        using var passed = await module.ForwardAsync(Call(X).With(On(HookSite.ForwardPre, "0", new SkipAction(null))), default);
        using var replaced = await module.ForwardAsync(Call(X).With(On(HookSite.ForwardPre, "0", new SkipAction(Values([1, 2], 1, 9)))), default);
        Assert.Equal([3f, 0f], passed.Values());
        Assert.Equal([1f, 9f], replaced.Values());
    }

    [Fact]
    public async Task A_stop_ends_the_call_with_what_was_captured()
    {
        await using var host = Host();
        var module = await Doubler(host);
        using var outcome = await module.ForwardAsync(Call(X).With(On(HookSite.Forward, "0", Capture, new StopAction()) with { Id = "early" }, On(HookSite.Forward, "1", Capture)), default);
        Assert.True(outcome.Output.IsNone);
        Assert.Equal("early", outcome.Hooks.StoppedBy);
        Assert.Equal([6f, -8f], Assert.Single(outcome.Hooks.Captures).Floats());
    }

    [Fact]
    public async Task Statistics_are_PyTorchs()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("Identity"));
        var all = new ReduceAction([.. Enum.GetValues<HookStatistic>().Skip(1)], HookDestination.Default) { Bins = 2, HistogramMin = 0, HistogramMax = 4, K = 2 };
        var rows = new ReduceAction([HookStatistic.Mean, HookStatistic.Max], HookDestination.Default) { Dims = [-1] };

        using var outcome = await module.ForwardAsync(Call(Floats([2, 2], 1, 2, 3, 4)).With(On(HookSite.Forward, "", all, rows)), default);

        var values = outcome.Hooks.Captures[0].Statistics.ToDictionary(one => one.Statistic, one => one);
        Assert.Equal(2.5, values[HookStatistic.Mean].Value.Read<double>()[0]);
        Assert.Equal(Math.Sqrt(5.0 / 3), values[HookStatistic.Std].Value.Read<double>()[0], 1e-12);
        Assert.Equal(Math.Sqrt(30), values[HookStatistic.Norm].Value.Read<double>()[0], 1e-12);
        Assert.Equal([1f], values[HookStatistic.Min].Value.Read<float>());
        Assert.Equal([4f], values[HookStatistic.Max].Value.Read<float>());
        Assert.Equal([1L, 3L], values[HookStatistic.Histogram].Value.Read<long>());
        Assert.Equal([4f, 3f], values[HookStatistic.TopK].Value.Read<float>());
        Assert.Equal([3L, 2L], values[HookStatistic.TopK].Indexes!.Read<long>());
        Assert.Equal([0L], values[HookStatistic.NanCount].Value.Read<long>());
        Assert.Equal([1.5, 3.5], outcome.Hooks.Captures[1].Statistics[0].Value.Read<double>());
        Assert.Equal([2f, 4f], outcome.Hooks.Captures[1].Statistics[1].Value.Read<float>());
    }

    [Fact]
    public async Task Nans_and_infinities_are_counted()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("Identity"));
        var counts = new ReduceAction([HookStatistic.NanCount, HookStatistic.InfCount, HookStatistic.Histogram], HookDestination.Default) { Bins = 1 };
        using var outcome = await module.ForwardAsync(Call(Floats([4], float.NaN, float.NegativeInfinity, float.PositiveInfinity, 1)).With(On(HookSite.Forward, "", counts)), default);
        Assert.Equal([1L, 2L, 1L], outcome.Hooks.Captures[0].Statistics.Select(one => one.Value.Read<long>()[0]));
    }

    [Fact]
    public async Task A_second_tensor_of_a_tuple_is_reached_by_its_index()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("LSTM", ("input_size", 2.0), ("hidden_size", 3.0)));
        using var outcome = await module.ForwardAsync(Call(Filled(1, 4, 2)).With(On(HookSite.Forward, "", new SetAction(Number(7))) with { TensorIndex = 2 }), default);
        var cells = outcome.Output.Items![1].Items![1].Tensor!;
        Assert.All(cells.Values(), value => Assert.Equal(7f, value));
        Assert.DoesNotContain(7f, outcome.Output.Items[0].Tensor!.Values());
    }

    [Fact]
    public async Task Globs_types_and_base_types_choose_submodules()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Sequential(Linear(2, 2), Of("ReLU"), Sequential(Linear(2, 2), Of("Conv1d", ("in_channels", 1.0), ("out_channels", 1.0), ("kernel_size", 1.0)))));

        using var outcome = await module.ForwardAsync(Call(X).With(
            At(HookSite.Forward, HookTargetKind.Glob, "*.*", Capture) with { Id = "glob" },
            At(HookSite.Forward, HookTargetKind.Type, "Linear", Capture) with { Id = "type" },
            At(HookSite.Forward, HookTargetKind.IsInstance, "_ConvNd", Capture) with { Id = "isinstance" }), default);

        var seen = outcome.Hooks.Captures.ToLookup(capture => capture.Hook, capture => capture.Path);
        Assert.Equal(["2.0", "2.1"], seen["glob"]);
        Assert.Equal(["0", "2.0"], seen["type"]);
        Assert.Equal(["2.1"], seen["isinstance"]);
    }

    [Fact]
    public async Task A_parameter_is_an_operand_by_its_key()
    {
        await using var host = Host();
        var module = await Doubler(host);
        using var outcome = await module.ForwardAsync(Call(X).With(On(HookSite.Forward, "1", new SetAction(new HookOperand(State: "0.bias")))), default);
        Assert.Equal([0f, 0f], outcome.Values());
    }

    [Fact]
    public async Task One_of_two_inputs_that_are_the_same_tensor_is_changed_alone()
    {
        await using var host = Host();
        var difference = Spec.Graph(["a", "b"], ["y"], [Spec.Function("y", "sub", ["a", "b"])]);
        var module = await host.CreateEval("m", Spec.Graph(["x"], ["y"], [Spec.Call("y", "f", "x", "x")], new ChildSpec("f", difference)));
        using var first = await module.ForwardAsync(Call(X).With(On(HookSite.ForwardPre, "f", new MulAction(Number(2)))), default);
        using var second = await module.ForwardAsync(Call(X).With(On(HookSite.ForwardPre, "f", new MulAction(Number(2))) with { TensorIndex = 1 }), default);
        Same(first.Values(), 3f, -4f);
        Same(second.Values(), -3f, 4f);
    }

    [Fact]
    public async Task One_of_two_outputs_that_are_the_same_tensor_is_changed_alone()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Spec.Graph(["x"], ["y", "y"], [Spec.Function("y", "neg", ["x"])]));
        using var outcome = await module.ForwardAsync(Call(X).With(On(HookSite.Forward, "", new SetAction(Number(0))) with { TensorIndex = 1 }), default);
        Same(outcome.Output.Items![0].Tensor!.Values(), -3f, 4f);
        Same(outcome.Output.Items[1].Tensor!.Values(), 0f, 0f);
    }

    [Theory]
    [InlineData(7L)]
    [InlineData(long.MaxValue)]
    public async Task A_step_beyond_the_dimension_takes_the_first_element(long step)
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("Identity"));
        var select = new HookSelect(null, [new HookDim(0) { Slice = (1, null, step) }]);
        using var outcome = await module.ForwardAsync(Call(Floats([4], 1, 2, 3, 4)).With(On(HookSite.Forward, "", new SetAction(Number(0)), Capture) with { Select = select }), default);
        Same(outcome.Values(), 1f, 0f, 3f, 4f);
        Same(Assert.Single(outcome.Hooks.Captures).Floats(), 0f);
    }

    [Theory]
    [InlineData(new[] { -1.7e308, 0.1, 1.7e308 }, 0, 0, new[] { 1L, 0, 1, 1 })]
    [InlineData(new[] { 0, 5e-324 }, 0, 0, new[] { 1L, 0, 0, 1 })]
    [InlineData(new[] { 1e308, 1e308 }, 0, 0, new[] { 0L, 0, 2, 0 })]
    [InlineData(new[] { 0.0, 1, 2 }, 0, 5e-324, new[] { 1L, 0, 0, 0 })]
    [InlineData(new[] { 0.0, 1, 2 }, -1.7e308, 1.7e308, new[] { 0L, 0, 3, 0 })]
    public async Task A_histogram_takes_every_range(double[] values, double least, double most, long[] expected)
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("Identity"));
        var input = TensorInput.Of(new TensorPayload(ElementType.Float64, [values.Length], System.Runtime.InteropServices.MemoryMarshal.AsBytes(values.AsSpan()).ToArray()));
        var histogram = new ReduceAction([HookStatistic.Histogram], HookDestination.Default) { Bins = 4, HistogramMin = least, HistogramMax = most };
        using var outcome = await module.ForwardAsync(Call(input).With(On(HookSite.Forward, "", histogram)), default);
        Assert.Equal(expected, Assert.Single(outcome.Hooks.Captures).Statistics[0].Value.Read<long>());
    }

    [Theory]
    [InlineData("set")]
    [InlineData("lerp")]
    [InlineData("clamp")]
    [InlineData("skip")]
    public async Task A_number_beyond_the_dtype_is_the_hooks_fault(string action)
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("Identity"));
        HookAction edit = action switch
        {
            "set" => new SetAction(Number(1e300)),
            "lerp" => new LerpAction(Number(-1e300), 0.5),
            "clamp" => new ClampAction(-1, 1e300),
            _ => new SkipAction(Number(1e300)),
        };
        var error = await module.ForwardAsync(Call(X).With(On(action == "skip" ? HookSite.ForwardPre : HookSite.Forward, "", edit)), default)
            .Fails(EngineError.InvalidArgument, "1E+300", "float32");
        Assert.Equal($"hooks[0].actions[0].{action}", Assert.Single(error.Fields).Field);
    }

    // Doubles, then ReLU.
    internal static async Task<HostedModule> Doubler(EngineHost host, string name = "m")
    {
        var module = await host.CreateEval(name, Sequential(Linear(2, 2), Of("ReLU")));
        await module.Fill(host, "0.weight", [2, 2], 2, 0, 0, 2);
        await module.Fill(host, "0.bias", [2], 0, 0);
        return module;
    }

    private static Task<long> Remaining(EngineHost host, ForwardOutcome outcome)
    {
        outcome.Dispose();
        return Task.FromResult(host.Ledger.Used(MemoryUse.Hooks));
    }
}
