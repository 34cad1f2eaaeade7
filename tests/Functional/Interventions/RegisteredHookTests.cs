using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.V1;
using Hooks = Sconce.Client.Hooks;

namespace Sconce.Functional.Interventions;

/// <summary>Hooks that stay on a module: registered, watched, listed and removed over the wire.</summary>
public sealed class RegisteredHookTests(SharedServer server) : ClientTest(server)
{
    private static readonly TensorData X = Pattern(2, 4);

    [Fact]
    public async Task Each_nn_Module_method_registers_at_its_site()
    {
        var model = await NewAsync(Specs.Mlp);
        var part = model.GetSubmodule("2");
        var hooks = new[]
        {
            await part.RegisterForwardPreHookAsync(hook => hook.Mul(2)),
            await part.RegisterForwardHookAsync(hook => hook.Add(1)),
            await part.RegisterFullBackwardPreHookAsync(hook => hook.Mul(1)),
            await part.RegisterFullBackwardHookAsync(hook => hook.Mul(1)),
            await part.RegisterBackwardHookAsync(hook => hook.Mul(1)),
            await part.RegisterStateDictHookAsync(hook => hook.Cast(DataType.Float64)),
            await part.RegisterLoadStateDictPreHookAsync(hook => hook.Mul(1)),
        };

        var listed = await model.ListHooksAsync();
        Assert.Equal(hooks.Select(hook => hook.Id), listed.Hooks.Select(hook => hook.Hook.Id));
        Assert.Equal(
            [HookSite.ForwardPre, HookSite.Forward, HookSite.BackwardPre, HookSite.Backward, HookSite.Backward, HookSite.StateDict, HookSite.LoadStateDictPre],
            listed.Hooks.Select(hook => hook.Hook.Site));
        Assert.All(listed.Hooks, hook => Assert.Equal(["2"], hook.Paths));
        Assert.Equal(hooks.Select(hook => hook.Id), (await part.DescribeAsync()).Root.Hooks);
        Assert.Empty((await model.GetSubmodule("0").ListHooksAsync()).Hooks);

        foreach (var hook in hooks)
        {
            await hook.RemoveAsync();
        }

        await hooks[0].RemoveAsync();
        Assert.Empty((await model.ListHooksAsync()).Hooks);
    }

    [Fact]
    public async Task A_watch_streams_what_is_captured_and_ends_with_its_hook()
    {
        var model = await NewAsync(Specs.Mlp);
        var hook = await model.RegisterHookAsync(Hooks.Forward("0").Capture().Reduce([Statistic.Norm]).Named("watched"));
        var seen = new List<HookEvent>();
        var ready = new TaskCompletionSource();
        var watching = Task.Run(async () =>
        {
            await foreach (var one in hook.WatchAsync())
            {
                ready.TrySetResult();
                seen.Add(one);
            }
        });
        await ready.Task.WaitAsync(TimeSpan.FromSeconds(60));

        await model.ForwardAsync(X);
        await model.ForwardAsync(X);
        await SettlesAsync(() => Task.FromResult(seen.Count == 5), () => Task.FromResult($"{seen.Count} events"));
        await hook.RemoveAsync();
        await watching.WaitAsync(TimeSpan.FromSeconds(60));

        Assert.Null(seen[0].Capture);
        var captured = seen[1].Capture!;
        Assert.Equal(("watched", "0", 0L), (captured.Hook, captured.Path, captured.Call));
        Assert.Equal((await model.GetSubmodule("0").ForwardAsync(X)).As<float>().ToArray(), captured.Tensor.As<float>().ToArray());
        Assert.Equal(Math.Sqrt(captured.Tensor.As<float>().ToArray().Sum(value => (double)value * value)), seen[2].Capture!.Figure(Statistic.Norm), 1e-6);
        Assert.Equal(1, seen[3].Capture!.Call);
        Assert.Equal(0, seen.Sum(one => one.Dropped));
    }

    [Fact]
    public async Task A_reader_that_stops_reading_slows_nobody_and_is_told_what_it_lost()
    {
        var model = await NewAsync(Nn.Module("Identity"));
        await model.RegisterHookAsync(Hooks.Forward().Capture().Named("h"));
        var large = Pattern(256, 1024);
        await using var watch = model.WatchHooksAsync(buffer: 1).GetAsyncEnumerator(TestContext.Current.CancellationToken);
        Assert.True(await watch.MoveNextAsync());

        const int Forwards = 64;
        for (var i = 0; i < Forwards; i++)
        {
            await model.ForwardAsync(large);
        }

        var (got, lost) = (0L, 0L);
        await model.RemoveHookAsync("h");
        await model.RegisterHookAsync(Hooks.Forward().Capture().Named("last"));
        await SettlesAsync(
            async () =>
            {
                await model.ForwardAsync(X);
                Assert.True(await watch.MoveNextAsync());
                got += watch.Current.Capture?.Hook == "h" ? 1 : 0;
                lost += watch.Current.Dropped;
                return watch.Current.Capture?.Hook == "last" && got + lost >= Forwards;
            },
            () => Task.FromResult($"{got} came and {lost} were lost of {Forwards}"));
        Assert.True(lost > 0);
    }

    [Fact]
    public async Task State_dict_hooks_change_what_is_read_and_what_is_loaded()
    {
        var model = await NewAsync(Specs.Mlp);
        var plain = await model.StateDictAsync();
        await model.RegisterHookAsync(Hooks.StateDict("0").Rename("", "prefix.").Cast(DataType.Bfloat16));
        await model.RegisterHookAsync(Hooks.StateDict("2", "bias").Drop());
        await model.RegisterHookAsync(Hooks.LoadStateDictPre().Rename("module.", ""));

        var read = await model.StateDictAsync();
        Assert.Equal(["0.prefix.weight", "0.prefix.bias", "2.weight"], read.Keys);
        Assert.Equal(DataType.Bfloat16, read["0.prefix.weight"].DType);
        Assert.Equal(plain["2.weight"].As<float>().ToArray(), read["2.weight"].As<float>().ToArray());
        Assert.Equal(["weight", "bias"], (await model.GetSubmodule("2").StateDictAsync()).Keys.Append("bias").Distinct());

        // As a DataParallel checkpoint has its keys.
        var wrapped = new StateDict(plain.Select(entry => KeyValuePair.Create("module." + entry.Key, entry.Value)));
        await model.LoadStateDictAsync(wrapped);
    }

    [Fact]
    public async Task Hooks_of_a_session_go_when_it_ends()
    {
        var model = await NewAsync(Nn.Module("Identity"));
        await using (var session = await Client.OpenSessionAsync("hooks"))
        {
            await model.RegisterHookAsync(Hooks.Forward().Set(7), session: session);
            Assert.Equal(7f, (await model.ForwardAsync(X)).As<float>().Span[0]);
        }

        await SettlesAsync(async () => (await model.ListHooksAsync()).Hooks.Count == 0, () => Task.FromResult("the hook is still there"));
        Assert.Equal(X.As<float>().ToArray(), (await model.ForwardAsync(X)).As<float>().ToArray());
    }

    [Fact]
    public async Task A_failing_hook_is_detached_named_and_costs_nobody_anything()
    {
        var model = await NewAsync(Specs.Mlp);
        var plain = (await model.ForwardAsync(X)).As<float>().ToArray();
        await model.RegisterHookAsync(Hooks.Forward("0").Add(TensorData.Create(new float[5])).Named("bad"));
        var y = await model.ForwardAsync(X);
        Assert.Equal(plain, y.As<float>().ToArray());
        Assert.Equal("bad", Assert.Single(y.Hooks.Detached).Hook);
        var listed = Assert.Single((await model.ListHooksAsync()).Hooks);
        Assert.Contains("float32 [5]", listed.Detached.Message, StringComparison.Ordinal);
        Assert.Equal(new[] { 5L }, listed.Hook.Actions[0].Add.Value.Tensor.Shape);
    }
}
