using Sconce.Engine.Execution;
using Sconce.Engine.Hooks;
using Sconce.Engine.Tensors;
using static Sconce.Engine.Tests.Execution.Testing;
using static Sconce.Engine.Tests.Hooks.ForwardHookTests;
using static Sconce.Engine.Tests.Hooks.HookTesting;

namespace Sconce.Engine.Tests.Hooks;

public sealed class BackwardHookTests
{
    private static readonly TensorInput X = Floats([1, 2], 3, 4);
    private static readonly TensorInput Grad = Floats([1, 2], 1, 10);

    [Fact]
    public async Task Gradients_of_outputs_and_inputs_are_seen_and_changed()
    {
        await using var host = Host();
        var module = await Doubler(host);
        using var forward = await module.ForwardAsync(Record(X).With(
            On(HookSite.BackwardPre, "0", Capture) with { Id = "out" }, On(HookSite.Backward, "0", Capture, new AddAction(Number(100))) with { Id = "in" }), default);
        Assert.Empty(forward.Hooks.Captures);

        using var backward = await module.BackwardAsync(new BackwardCall { Graph = forward.Graph!.Id, OutputGrads = [Grad] }, default);

        Assert.Equal(["out", "in"], backward.Hooks.Captures.Select(capture => capture.Hook));
        Assert.Equal([1f, 10f], backward.Hooks.Captures[0].Floats());
        Assert.Equal([102f, 120f], backward.Hooks.Captures[1].Floats());
        Assert.Equal([102f, 120f], backward.InputGrads[0]!.Values());
    }

    [Theory]
    [InlineData(HookSite.BackwardPre)]
    [InlineData(HookSite.Backward)]
    public async Task A_tensor_beyond_the_last_one_fails_the_hook(HookSite site)
    {
        await using var host = Host();
        var module = await Doubler(host);
        var hook = On(site, "0", Capture) with { TensorIndex = 1 };
        var error = await module.ForwardAsync(Record(X).With(hook), default).Fails(EngineError.InvalidArgument, "is 1; there are 1 tensors");
        Assert.Equal("hooks[0].tensor_index", Assert.Single(error.Fields).Field);

        await module.Register(hook with { Id = "h" });
        using var forward = await module.ForwardAsync(Record(X), default);
        Assert.Equal("h", Assert.Single(forward.Hooks.Detached).Hook);
    }

    [Fact]
    public async Task An_edit_before_the_module_reaches_its_parameters()
    {
        await using var host = Host();
        var module = await Doubler(host);
        await module.Register(On(HookSite.BackwardPre, "0", new MulAction(Number(0))));
        using var forward = await module.ForwardAsync(Record(X), default);
        using var backward = await module.BackwardAsync(new BackwardCall { Graph = forward.Graph!.Id, OutputGrads = [Grad] }, default);
        Assert.All(await Gradient(module, "0.bias"), value => Assert.Equal(0f, value));
        Assert.All(backward.InputGrads[0]!.Values(), value => Assert.Equal(0f, value));
    }

    [Fact]
    public async Task Gradients_of_parameters_are_changed_before_they_are_added()
    {
        await using var host = Host();
        var module = await Doubler(host);
        using (var first = await module.ForwardAsync(Record(X), default))
        using (await module.BackwardAsync(new BackwardCall { Graph = first.Graph!.Id, OutputGrads = [Grad] }, default))
        {
        }

        using var forward = await module.ForwardAsync(Record(X), default);
        using var backward = await module.BackwardAsync(
            new BackwardCall { Graph = forward.Graph!.Id, OutputGrads = [Grad], Hooks = [On(HookSite.ParamGrad, "0", Capture, new MulAction(Number(2))) with { Names = ["b*"] }] }, default);

        Same(await Gradient(module, "0.bias"), 3f, 30f);
        Same(await Gradient(module, "0.weight"), 6f, 8f, 60f, 80f);
        var capture = Assert.Single(backward.Hooks.Captures);
        Assert.Equal(("bias", "0"), (capture.Name, capture.Path));
        Assert.Equal([2f, 20f], capture.Floats());
    }

    [Fact]
    public async Task A_hook_of_the_call_that_fails_in_backward_leaves_gradients_as_they_were()
    {
        await using var host = Host();
        var module = await Doubler(host);
        using var forward = await module.ForwardAsync(Record(X).With(On(HookSite.Backward, "1", new AddAction(Values([3], 1, 1, 1)))), default);
        var error = await module.BackwardAsync(new BackwardCall { Graph = forward.Graph!.Id, OutputGrads = [Grad], RetainGraph = true }, default)
            .Fails(EngineError.InvalidArgument, "Backward of \"1\"");
        Assert.Equal("hooks[0].actions[0].add", Assert.Single(error.Fields).Field);
        Assert.All((await module.DescribeAsync("0", default)).Root.Parameters, parameter => Assert.False(parameter.HasGrad));
    }

    [Fact]
    public async Task A_registered_hook_that_fails_in_backward_is_detached_and_the_gradients_are_right()
    {
        await using var host = Host();
        var module = await Doubler(host);
        await module.Register(On(HookSite.Backward, "1", new AddAction(Values([3], 1, 1, 1))) with { Id = "bad" });
        using var forward = await module.ForwardAsync(Record(X), default);
        using var backward = await module.BackwardAsync(new BackwardCall { Graph = forward.Graph!.Id, OutputGrads = [Grad] }, default);
        Assert.Equal("bad", Assert.Single(backward.Hooks.Detached).Hook);
        Assert.Equal([2f, 20f], backward.InputGrads[0]!.Values());
    }

    [Fact]
    public async Task A_hook_that_was_removed_does_not_act_in_an_older_graph()
    {
        await using var host = Host();
        var module = await Doubler(host);
        await module.Register(On(HookSite.Backward, "0", new MulAction(Values([2], 0, 0))) with { Id = "h" });
        using var forward = await module.ForwardAsync(Record(X), default);
        await module.RemoveHookAsync("h", null, default);
        using var backward = await module.BackwardAsync(new BackwardCall { Graph = forward.Graph!.Id, OutputGrads = [Grad] }, default);
        Assert.Equal([2f, 20f], backward.InputGrads[0]!.Values());
    }

    [Fact]
    public async Task Training_steps_meet_hooks_too()
    {
        await using var host = Host();
        var module = await Doubler(host);
        await module.CreateOptimizerAsync("", "SGD", new Dictionary<string, object?> { ["lr"] = 1.0 }, [], null, default);
        await module.Register(On(HookSite.ParamGrad, "0", new MulAction(Number(0))) with { Names = ["weight"] });
        using var before = await module.GetStateAsync("", ["0.*"], default);
        var step = new TrainStepCall { Inputs = new CallInputs([X]), Loss = new LossSpec("MSELoss", new Dictionary<string, object?>()), Targets = [Filled(0, 1, 2)], Hooks = [On(HookSite.Forward, "1", Capture)] };

        using var result = await module.TrainStepAsync(step, default);

        using var after = await module.GetStateAsync("", ["0.*"], default);
        Assert.Equal([6f, 8f], Assert.Single(result.Hooks.Captures).Floats());
        Assert.Equal(before.Read(0, 0, 16).ToArray(), after.Read(0, 0, 16).ToArray());
        Assert.NotEqual(before.Read(1, 0, 8).ToArray(), after.Read(1, 0, 8).ToArray());
    }

    [Fact]
    public async Task A_step_whose_captures_are_larger_than_a_message_is_not_taken()
    {
        await using var host = Host(options => options.MaxAnswerBytes = 4096);
        var module = await host.Create("m", Linear(64, 64));
        await module.CreateOptimizerAsync("", "SGD", new Dictionary<string, object?> { ["lr"] = 1.0 }, [], null, default);
        var step = new TrainStepCall { Inputs = new CallInputs([Filled(1, 1, 64)]), Loss = new LossSpec("MSELoss", new Dictionary<string, object?>()), Targets = [Filled(0, 1, 64)], Hooks = [On(HookSite.ParamGrad, "", Capture)] };
        var error = await module.TrainStepAsync(step, default).Fails(EngineError.ResourceExhausted, "max_message_bytes");
        Assert.Equal("MESSAGE_TOO_LARGE", error.Reason);
        Assert.Equal(1UL, module.Summary.Generation);
        Assert.All((await module.DescribeAsync("", default)).Root.Parameters, parameter => Assert.False(parameter.HasGrad));
        Assert.Equal(0, host.Ledger.Used(MemoryUse.Hooks));
    }

    [Fact]
    public async Task A_stop_has_no_place_in_training()
    {
        await using var host = Host();
        var module = await Doubler(host);
        var call = new ForwardBackwardCall { Inputs = new CallInputs([X]), Loss = new LossSpec("MSELoss", new Dictionary<string, object?>()), Targets = [Filled(0, 1, 2)], Hooks = [On(HookSite.Forward, "0", new StopAction())] };
        await module.ForwardBackwardAsync(call, default).Fails(EngineError.InvalidArgument, "hooks[0].site", "needs its loss");
        await module.Register(On(HookSite.Forward, "0", new StopAction()) with { Id = "s" });
        await module.ForwardBackwardAsync(new ForwardBackwardCall { Inputs = call.Inputs, Loss = call.Loss, Targets = call.Targets }, default).Fails(EngineError.FailedPrecondition, "\"s\"", "RemoveHook");
    }

    [Fact]
    public async Task Hooks_of_a_forward_on_gradients_need_a_graph()
    {
        await using var host = Host();
        var module = await Doubler(host);
        await module.ForwardAsync(Call(X).With(On(HookSite.Backward, "0", Capture)), default).Fails(EngineError.InvalidArgument, "record_graph");
        using var forward = await module.ForwardAsync(Record(X), default);
        await module.BackwardAsync(new BackwardCall { Graph = forward.Graph!.Id, OutputGrads = [Grad], Hooks = [On(HookSite.Backward, "0", Capture)] }, default)
            .Fails(EngineError.InvalidArgument, "Forward that records the graph");
    }

    [Fact]
    public async Task Graphs_with_hooks_leave_nothing_behind()
    {
        await using var host = Host();
        var module = await Doubler(host);
        for (var i = 0; i < 50; i++)
        {
            using var forward = await module.ForwardAsync(Record(X).With(On(HookSite.Backward, "0", Capture, new AddAction(Values([2], 1, 1)))), default);
            if (i % 2 == 0)
            {
                using var backward = await module.BackwardAsync(new BackwardCall { Graph = forward.Graph!.Id, OutputGrads = [Grad] }, default);
            }
            else
            {
                module.ReleaseGraph(forward.Graph!.Id);
            }
        }

        Assert.Equal(0, host.Ledger.Used(MemoryUse.Hooks));
    }

    private static async Task<float[]> Gradient(HostedModule module, string name)
    {
        using var gradients = await module.GetGradientsAsync("", [name], default);
        return System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(gradients.Read(0, 0, (int)gradients.ByteLength(0)).Span).ToArray();
    }
}
