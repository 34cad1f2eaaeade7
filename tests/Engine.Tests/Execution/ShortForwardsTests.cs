using Sconce.Engine.Execution;
using Sconce.Engine.Tensors;
using static Sconce.Engine.Tests.Execution.Testing;

namespace Sconce.Engine.Tests.Execution;

public sealed class ShortForwardsTests
{
    private static readonly TimeSpan Short = ShortForwards.Limit / 2;
    private static readonly TimeSpan Long = ShortForwards.Limit * 2;

    [Fact]
    public void Nothing_is_short_before_it_was_seen()
    {
        var known = new ShortForwards("cpu");
        Assert.False(known.Holds(0));
        known.Ran(100, Short);
        Assert.True(known.Holds(0));
        Assert.True(known.Holds(100));
        Assert.False(known.Holds(101));
    }

    [Fact]
    public void A_long_one_sends_its_size_back_to_the_lanes_and_a_short_one_fetches_it_again()
    {
        var known = new ShortForwards("cpu");
        known.Ran(1000, Short);
        known.Ran(500, Long);
        Assert.False(known.Holds(500));
        Assert.True(known.Holds(499));
        known.Ran(2000, Long); // beyond what was thought short: says nothing new
        Assert.True(known.Holds(499));
        known.Ran(500, Short);
        Assert.True(known.Holds(500));
    }

    [Fact]
    public void On_a_GPU_nothing_is_short()
    {
        var known = new ShortForwards("cuda:0");
        known.Ran(100, Short);
        Assert.False(known.Holds(100));
    }

    [Fact]
    public async Task A_short_forward_has_completed_when_the_call_returns()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("Identity"));
        using var outcome = await UntilShort(module);
        Assert.Equal([1, 2, 3, 4], outcome.Values());
        Assert.Equal(0, module.Gate.Pending);
    }

    [Fact]
    public async Task A_short_forward_behind_a_change_waits_for_its_turn()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("Identity"));
        (await UntilShort(module)).Dispose();
        using var hold = new ManualResetEventSlim();
        var change = module.Change(null, () => hold.Wait(Limit), default);
        var call = module.ForwardAsync(Call(Floats([1], 1)), default);
        Assert.False(call.IsCompleted);
        hold.Set();
        Assert.True(await change.WaitAsync(Limit));
        (await call.WaitAsync(Limit)).Dispose();
    }

    [Fact]
    public async Task A_forward_in_training_mode_never_runs_on_the_callers_thread()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("Identity"));
        (await UntilShort(module)).Dispose();
        await module.TrainAsync(default, true, default);
        for (var i = 0; i < 20; i++)
        {
            using var hold = new ManualResetEventSlim();
            var before = module.Change(null, () => hold.Wait(Limit), default);
            var call = module.ForwardAsync(Call(Floats([1], 1)), default);
            Assert.False(call.IsCompleted);
            hold.Set();
            await before.WaitAsync(Limit);
            (await call.WaitAsync(Limit)).Dispose();
        }
    }

    [Fact]
    public async Task A_short_forward_with_a_token_that_has_fired_does_not_run()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("Identity"));
        (await UntilShort(module)).Dispose();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => module.ForwardAsync(Call(Floats([1], 1)), new CancellationToken(true)).WaitAsync(Limit));
        Assert.Equal(host.GetModule("m").Summary.Bytes, host.Ledger.UsedBytes);
    }

    [Fact]
    public async Task A_failure_of_a_short_forward_is_told_and_frees_its_inputs()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Linear(4, 2));
        (await UntilShort(module, Filled(1, 1, 4))).Dispose();
        var used = host.Ledger.UsedBytes;
        for (var i = 0; i < 100; i++)
        {
            await module.ForwardAsync(Call(Filled(1, 1, 3)), default).Fails(EngineError.InvalidArgument, "[1, 3]");
        }

        Assert.Equal(used, host.Ledger.UsedBytes);
        Assert.Equal(2, (await module.Forward(Filled(1, 1, 4))).Length);
    }

    [Fact]
    public void No_more_callers_run_their_own_than_there_are_lanes()
    {
        var lanes = new LanePool(2);
        Assert.True(lanes.TryBorrow());
        Assert.True(lanes.TryBorrow());
        Assert.False(lanes.TryBorrow());
        lanes.Return();
        Assert.True(lanes.TryBorrow());
        Assert.True(lanes.Stop(Limit));
    }

    [Fact]
    public async Task Results_are_right_while_others_change_the_module()
    {
        // Zero or one everywhere: a forward that ran beside a change would see both.
        await using var host = Host();
        var module = await host.CreateEval("m", Linear(16, 16));
        await FillAsync(0);
        using var stop = new CancellationTokenSource();
        var changes = Task.Run(async () =>
        {
            for (var i = 0; !stop.IsCancellationRequested; i++)
            {
                await FillAsync(i % 2);
            }
        });
        for (var i = 0; i < 5_000; i++)
        {
            await Task.Yield(); // leaves the thread pool to the one who changes
            var y = await module.Forward(Filled(1, 1, 16));
            Assert.All(y, value => Assert.True(value == y[0]));
        }

        await stop.CancelAsync();
        await changes.WaitAsync(Limit);

        Task FillAsync(double value) =>
            module.ApplyAsync(default, new("constant_") { Args = new Dictionary<string, object?> { ["val"] = value } }, null, default);
    }

    /// <summary>Calls until one has completed at once: a busy machine may make one or the other call long.</summary>
    private static async Task<ForwardOutcome> UntilShort(HostedModule module, TensorInput? input = null)
    {
        for (var i = 0; i < 1000; i++)
        {
            var call = module.ForwardAsync(Call(input ?? Floats([4], 1, 2, 3, 4)), default);
            var atOnce = call.IsCompletedSuccessfully;
            var outcome = await call.WaitAsync(Limit);
            if (atOnce)
            {
                return outcome;
            }

            outcome.Dispose();
        }

        throw new InvalidOperationException("a thousand forwards of a small module were all long");
    }
}
