using System.Diagnostics;
using Sconce.Engine.Execution;
using Sconce.Engine.Hooks;
using Sconce.Engine.Tensors;
using static Sconce.Engine.Tests.Execution.Testing;
using static Sconce.Engine.Tests.Hooks.ForwardHookTests;
using static Sconce.Engine.Tests.Hooks.HookTesting;

namespace Sconce.Engine.Tests.Hooks;

public sealed class RegisteredHookTests
{
    private static readonly TensorInput X = Floats([1, 2], 3, -4);

    [Fact]
    public async Task They_run_by_priority_then_in_the_order_of_registration()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("Identity"));
        await module.Register(On(HookSite.Forward, "", new AddAction(Number(1))) with { Id = "add" });
        await module.Register(On(HookSite.Forward, "", new MulAction(Number(10))) with { Id = "mul" });
        Same(await module.Forward(Floats([1], 1)), 20f);

        await module.Register(On(HookSite.Forward, "", new SetAction(Number(5))) with { Id = "first", Priority = -1 });
        Same(await module.Forward(Floats([1], 1)), 60f);
        var listing = await module.ListHooksAsync("", default);
        Assert.Equal([("first", 1UL), ("add", 2UL), ("mul", 2UL)], listing.Hooks.Select(hook => (hook.Spec.Id, hook.Fires)));
        Assert.Equal(["first", "add", "mul"], (await module.DescribeAsync("", default)).Root.Hooks);
    }

    [Fact]
    public async Task Removing_one_removes_that_one_alone()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("Identity"));
        await module.Register(On(HookSite.Forward, "", new AddAction(Number(1))) with { Id = "a" });
        await module.Register(On(HookSite.Forward, "", new AddAction(Number(10))) with { Id = "b" });
        await module.Register(On(HookSite.Forward, "", new AddAction(Number(100))) with { Id = "c" });

        await module.RemoveHookAsync("b", null, default);

        Same(await module.Forward(Floats([1], 0)), 101f);
        await module.RemoveHookAsync("b", null, default).Fails(EngineError.NotFound, "\"b\"", "ListHooks");
        await module.RemoveHookAsync("a", null, default);
        await module.RemoveHookAsync("c", null, default);
        Same(await module.Forward(Floats([1], 0)), 0f);
        Assert.True(module.State.Hooks.Plan.IsEmpty);
    }

    [Fact]
    public async Task When_counts_visits_of_each_submodule()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("Identity"));
        await module.Register(On(HookSite.Forward, "", new SetAction(Number(1))) with { When = new HookWhen(FirstCall: 1, EndCall: 6, Every: 2) });
        var seen = new List<float>();
        for (var i = 0; i < 8; i++)
        {
            seen.AddRange(await module.Forward(Floats([1], 0)));
        }

        Assert.Equal([0f, 1, 0, 1, 0, 1, 0, 0], seen);
    }

    [Fact]
    public async Task Most_fires_and_modes_limit_it()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("Identity"));
        await module.Register(On(HookSite.Forward, "", new AddAction(Number(1))) with { Id = "twice", When = new HookWhen(MaxFires: 2) });
        await module.Register(On(HookSite.Forward, "", new AddAction(Number(10))) with { When = new HookWhen(Training: true) });
        Same(await module.Forward(Floats([1], 0)), 1f);
        await module.TrainAsync(default, true, default);
        Same(await module.Forward(Floats([1], 0)), 11f);
        Same(await module.Forward(Floats([1], 0)), 10f);
        Assert.Equal(2UL, (await module.ListHooksAsync("", default)).Hooks[0].Fires);
    }

    [Fact]
    public async Task One_that_fails_is_detached_and_named_and_the_call_goes_on()
    {
        await using var host = Host();
        var module = await Doubler(host);
        await module.Register(On(HookSite.Forward, "0", new AddAction(Values([3], 1, 1, 1))) with { Id = "bad" });
        await module.Register(On(HookSite.Forward, "0", new AddAction(Number(1))) with { Id = "good" });

        using var outcome = await module.ForwardAsync(Call(X), default);
        using var next = await module.ForwardAsync(Call(X), default);

        Assert.Equal([7f, 0f], outcome.Values());
        var failure = Assert.Single(outcome.Hooks.Detached);
        Assert.Equal(("bad", "0"), (failure.Hook, failure.Path));
        Assert.Contains("actions[0].add: an operand float32 [3] does not broadcast to the part float32 [1, 2]", failure.Message, StringComparison.Ordinal);
        Assert.Empty(next.Hooks.Detached);
        Assert.Equal(failure, (await module.ListHooksAsync("", default)).Hooks[0].Detached);
    }

    [Fact]
    public async Task One_of_the_call_that_fails_fails_the_call_and_names_its_field()
    {
        await using var host = Host();
        var module = await Doubler(host);
        var error = await module.ForwardAsync(Call(X).With(On(HookSite.Forward, "1", Capture), On(HookSite.Forward, "0", Capture, new AddAction(Values([3], 1, 1, 1)))), default)
            .Fails(EngineError.InvalidArgument, "at Forward of \"0\"", "float32 [3]");
        Assert.Equal("hooks[1].actions[1].add", Assert.Single(error.Fields).Field);
        Same(await module.Forward(X), 6f, 0f);
        Assert.Equal(0, host.Ledger.Used(MemoryUse.Hooks));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task One_of_the_call_that_fails_leaves_statistics_as_they_were_and_is_named(bool record)
    {
        await using var host = Host();
        var module = await host.Create("m", Sequential(Of("BatchNorm1d", ("num_features", 4.0)), Linear(4, 2)));
        using var before = await module.GetStateAsync("", [], default);
        var input = Floats([3, 4], [.. Enumerable.Range(0, 12).Select(i => (float)i)]);
        var call = record ? Record(input) : Call(input);

        var error = await module.ForwardAsync(call.With(On(HookSite.Forward, "1", Capture, new AddAction(new HookOperand(Slot: "none")))), default)
            .Fails(EngineError.FailedPrecondition, "hooks[0].actions[1].add: at Forward of \"1\"", "\"none\" is empty");

        Assert.Equal("hooks[0].actions[1].add", Assert.Single(error.Fields).Field);
        using var after = await module.GetStateAsync("", [], default);
        for (var i = 0; i < before.Entries.Count; i++)
        {
            Assert.Equal(before.Read(i, 0, (int)before.ByteLength(i)).ToArray(), after.Read(i, 0, (int)after.ByteLength(i)).ToArray());
        }

        // The same call without the hook does move them.
        (await module.ForwardAsync(record ? Record(input) : Call(input), default)).Dispose();
        using var moved = await module.GetStateAsync("", ["0.running_mean"], default);
        var mean = Enumerable.Range(0, before.Entries.Count).First(i => before.Entries[i].Key == "0.running_mean");
        Assert.NotEqual(before.Read(mean, 0, 16).ToArray(), moved.Read(0, 0, 16).ToArray());
    }

    [Fact]
    public async Task Those_of_a_session_go_with_it()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("Identity"));
        var session = host.Sessions.Open("s");
        await module.Register(On(HookSite.Forward, "", new AddAction(Values([1], 1))) with { Session = session.Id });
        Same(await module.Forward(Floats([1], 0)), 1f);

        session.Dispose();

        Same(await module.Forward(Floats([1], 0)), 0f);
        Assert.Empty((await module.ListHooksAsync("", default)).Hooks);
        await WaitUntil(() => host.Ledger.Used(MemoryUse.Hooks) == 0);
        await module.Register(On(HookSite.Forward, "", Capture) with { Session = session.Id }).Fails(EngineError.NotFound, session.Id);
    }

    [Fact]
    public async Task A_copy_carries_them_and_a_submodule_does_not()
    {
        await using var host = Host();
        var module = await Doubler(host);
        await module.Register(On(HookSite.Forward, "0", new AddAction(Values([2], 1, 1))) with { Id = "h" });
        var copy = await host.CopyModuleAsync("m", "", "copy", null, default);
        var part = await host.CopyModuleAsync("m", "0", "part", null, default);
        await module.RemoveHookAsync("h", null, default);
        Same(await copy.Forward(X), 7f, 0f);
        Same(await part.Forward(X), 6f, -8f);
    }

    [Fact]
    public async Task A_slot_carries_a_value_from_one_run_to_the_next()
    {
        await using var host = Host();
        var module = await Doubler(host);
        await module.Register(On(HookSite.Forward, "0", new CaptureAction(new HookDestination(Slot: "clean"))) with { Id = "save", When = new HookWhen(MaxFires: 1) });
        Same(await module.Forward(X), 6f, 0f);

        using var patched = await module.ForwardAsync(Call(Floats([1, 2], 100, 100)).With(On(HookSite.Forward, "0", new SetAction(new HookOperand(Slot: "clean")))), default);

        Assert.Equal([6f, 0f], patched.Values());
        Assert.Equal(new HookSlotInfo("clean", ElementType.Float32, [1, 2]) with { Shape = [] }, (await module.ListHooksAsync("", default)).Slots[0] with { Shape = [] });
        await module.RemoveHookAsync("save", null, default);
        Assert.Empty((await module.ListHooksAsync("", default)).Slots);
        Assert.Equal(0, host.Ledger.Used(MemoryUse.Hooks));
    }

    [Fact]
    public async Task A_slot_of_one_call_is_read_by_a_later_hook_of_it_and_goes_with_it()
    {
        await using var host = Host();
        var module = await Doubler(host);
        using var outcome = await module.ForwardAsync(Call(X).With(
            On(HookSite.ForwardPre, "0", new CaptureAction(new HookDestination(Slot: "in"))), On(HookSite.Forward, "1", new AddAction(new HookOperand(Slot: "in")))), default);
        Assert.Equal([9f, -4f], outcome.Values());
        Assert.Empty((await module.ListHooksAsync("", default)).Slots);
        await module.ForwardAsync(Call(X).With(On(HookSite.Forward, "1", new AddAction(new HookOperand(Slot: "in")))), default).Fails(EngineError.FailedPrecondition, "slot \"in\" is empty");
    }

    [Fact]
    public async Task What_is_kept_can_be_an_operand_of_another_module()
    {
        await using var host = Host();
        var module = await Doubler(host);
        var other = await host.CreateEval("other", Of("Identity"));
        using (await module.ForwardAsync(Call(X).With(On(HookSite.Forward, "0", new CaptureAction(new HookDestination(Keep: "act")))), default))
        {
        }

        using var outcome = await other.ForwardAsync(Call(Filled(1, 1, 2)).With(On(HookSite.Forward, "", new AddAction(new HookOperand(Tensor: TensorInput.Kept("act"))))), default);

        Assert.Equal([7f, -7f], outcome.Values());
        Assert.Equal("act", Assert.Single(host.Tensors.List("")).Id);
    }

    [Fact]
    public async Task Another_module_is_run_on_the_value_or_only_on_its_copy()
    {
        await using var host = Host();
        var module = await Doubler(host, "a");
        var lens = await Doubler(host, "b");
        using var spliced = await module.ForwardAsync(Call(X).With(On(HookSite.Forward, "1", new CallModuleAction(new HookModuleRef("b", "")))), default);
        using var looked = await module.ForwardAsync(Call(X).With(On(HookSite.Forward, "0", new CaptureAction(HookDestination.Default, Through: new HookModuleRef("a", "1")))), default);
        Assert.Equal([12f, 0f], spliced.Values());
        Assert.Equal([6f, 0f], looked.Values());
        Assert.Equal([6f, 0f], Assert.Single(looked.Hooks.Captures).Floats());

        await host.DeleteModuleAsync("b", null, default);
        await module.ForwardAsync(Call(X).With(On(HookSite.Forward, "1", new CallModuleAction(new HookModuleRef("b", "")))), default).Fails(EngineError.NotFound, "\"b\"");
    }

    [Fact]
    public async Task Modules_whose_hooks_call_each_other_do_not_wait_for_ever()
    {
        await using var host = Host();
        var a = await Doubler(host, "a");
        var b = await Doubler(host, "b");
        await a.Register(On(HookSite.Forward, "", new CallModuleAction(new HookModuleRef("b", ""))));
        await b.Register(On(HookSite.Forward, "", new CallModuleAction(new HookModuleRef("a", ""))));
        await b.TrainAsync(default, true, default);

        var calls = Enumerable.Range(0, 200).Select(i => (i % 2 == 0 ? a : b).Forward(X)).ToList();
        var results = await Task.WhenAll(calls).WaitAsync(Limit);

        // Each doubles twice: its own, and the other one without that one's hooks.
        Assert.All(results, result => Assert.Equal([12f, 0f], result));
    }

    [Fact]
    public async Task Examples_find_shapes_that_do_not_fit_before_the_hook_is_in_place()
    {
        await using var host = Host();
        var module = await host.Create("m", Sequential(Linear(2, 2), Of("BatchNorm1d", ("num_features", 2.0)), Of("Dropout")));
        using var before = await module.GetStateAsync("", [], default);
        var error = await module.Register(On(HookSite.Forward, "0", new AddAction(Values([3], 1, 1, 1))), Filled(1, 4, 2)).Fails(EngineError.InvalidArgument, "does not broadcast");
        Assert.Equal("hook.actions[0].add", Assert.Single(error.Fields).Field);
        await module.Register(On(HookSite.Backward, "0", Capture) with { TensorIndex = 3 }, Filled(1, 4, 2)).Fails(EngineError.InvalidArgument, "is 3; there are 1 tensors");
        await module.Register(On(HookSite.ForwardPre, "0", Capture), Filled(1, 4, 5)).Fails(EngineError.InvalidArgument, "example_inputs[0]", "in_features");
        await module.Register(On(HookSite.Backward, "0", Capture), Filled(1, 4, 5)).Fails(EngineError.InvalidArgument, "example_inputs[0]", "in_features");
        Assert.Empty((await module.ListHooksAsync("", default)).Hooks);

        await module.Register(On(HookSite.Backward, "1", new MulAction(Number(2))), Filled(1, 4, 2));
        using var after = await module.GetStateAsync("", [], default);
        for (var i = 0; i < before.Entries.Count; i++)
        {
            Assert.Equal(before.Read(i, 0, (int)before.ByteLength(i)).ToArray(), after.Read(i, 0, (int)after.ByteLength(i)).ToArray());
        }
    }

    [Fact]
    public async Task Examples_that_no_gradient_reaches_refuse_the_hook()
    {
        await using var host = Host();
        var module = await host.Create("m", Sequential(Of("Flatten"), Linear(2, 2)));
        await module.RequiresGradAsync(default, false, [], default);
        await module.Register(On(HookSite.ParamGrad, "1", Capture), Filled(1, 4, 2)).Fails(EngineError.InvalidArgument, "never acts");
    }

    [Fact]
    public async Task A_call_that_fails_leaves_the_statistics_of_other_modules_as_they_were()
    {
        await using var host = Host();
        var module = await Doubler(host, "a");
        var norm = await host.Create("norm", Of("BatchNorm1d", ("num_features", 2.0)));
        var optimizer = await module.CreateOptimizerAsync("", "SGD", new Dictionary<string, object?>(), [], null, default);
        HookSpec[] hooks = [On(HookSite.ForwardPre, "0", new CallModuleAction(new HookModuleRef("norm", ""))), On(HookSite.Forward, "1", new AddAction(Values([3], 1, 1, 1)))];
        var before = await Mean();

        await module.ForwardAsync(Call(Filled(5, 4, 2)).With(hooks), default).Fails(EngineError.InvalidArgument, "broadcast");
        Same(await Mean(), before);
        await module.TrainStepAsync(new TrainStepCall { Inputs = new CallInputs([Filled(5, 4, 2)]), Targets = [Filled(0, 4, 2)], Loss = new LossSpec("MSELoss", new Dictionary<string, object?>()), Optimizer = optimizer.Name, Hooks = hooks }, default)
            .Fails(EngineError.InvalidArgument, "broadcast");
        Same(await Mean(), before);
        using (await module.ForwardAsync(Call(Filled(5, 4, 2)).With(hooks[0]), default))
        {
        }

        Assert.NotEqual(before, await Mean());

        async Task<float[]> Mean()
        {
            var value = await norm.GetBufferAsync("", "running_mean", default);
            using var snapshot = value.Value!;
            return snapshot.Export(0).Values();
        }
    }

    [Fact]
    public async Task Submodules_that_were_replaced_are_forgotten()
    {
        // A lane holds the last call that it ran: with two, one of them may get no other.
        await using var host = Host(options => options.Lanes = 1);
        var module = await Doubler(host);
        await module.Register(At(HookSite.Forward, HookTargetKind.Type, "Linear", new MulAction(Number(1))));
        await module.AddModuleAsync(new ChangeTarget("", null), "0", Linear(2, 2), null, ElementType.Float32, default);
        var old = OldNode(module);
        await module.AddModuleAsync(new ChangeTarget("", null), "0", Linear(2, 2), null, ElementType.Float32, default);
        for (var i = 0; i < 20 && old.IsAlive; i++)
        {
            await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => module.Forward(X)));
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        Assert.False(old.IsAlive);
    }

    [Fact]
    public async Task Watchers_get_captures_and_a_slow_one_loses_whole_ones()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("Identity"));
        await module.Register(On(HookSite.Forward, "", Capture) with { Id = "h" });
        using var watcher = await module.WatchHookAsync("h", 2, default);
        for (var i = 0; i < 5; i++)
        {
            await module.Forward(Floats([1], i));
        }

        Assert.Equal(3UL, watcher.Dropped);
        for (var i = 0; i < 2; i++)
        {
            using var seen = await watcher.Events.ReadAsync(default);
            Same(seen.Capture!.Floats(), i);
            Assert.Equal((ulong)i, seen.Capture!.Call);
        }

        await module.Forward(Floats([1], 9));
        using (var seen = await watcher.Events.ReadAsync(default))
        {
            Assert.Equal((3UL, 9f), (seen.Dropped, seen.Capture!.Floats()[0]));
        }

        await module.RemoveHookAsync("h", null, default);
        Assert.False(await watcher.Events.WaitToReadAsync(default));
        Assert.Equal(0, host.Ledger.Used(MemoryUse.Hooks));
    }

    [Fact]
    public async Task Watching_ends_with_the_module_and_unknown_hooks_are_named()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("Identity"));
        await module.WatchHookAsync("h", 0, default).Fails(EngineError.NotFound, "\"h\"");
        using var watcher = await module.WatchHookAsync("", 0, default);
        await host.DeleteModuleAsync("m", null, default);
        var closed = await Assert.ThrowsAsync<System.Threading.Channels.ChannelClosedException>(async () => await watcher.Events.ReadAsync(default));
        Assert.Equal(EngineError.NotFound, Assert.IsType<EngineException>(closed.InnerException).Error);
    }

    // Apart, so that no local of the test holds the node.
    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private static WeakReference OldNode(HostedModule module) => new(module.State.Tree.Find("0"));

    private static async Task WaitUntil(Func<bool> condition)
    {
        for (var began = Stopwatch.GetTimestamp(); !condition(); await Task.Delay(10))
        {
            Assert.True(Stopwatch.GetElapsedTime(began) < Limit, "the condition did not come true in time");
        }
    }
}
