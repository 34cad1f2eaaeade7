using Sconce.Engine.Execution;
using static Sconce.Engine.Tests.Execution.Testing;

namespace Sconce.Engine.Tests.Execution;

public sealed class GateTests
{
    [Fact]
    public async Task Calls_that_change_run_alone_and_in_the_order_of_arrival()
    {
        await using var bench = new Bench(lanes: 4);
        var order = new List<int>();
        var inside = 0;
        var tasks = Enumerable.Range(0, 500).Select(i => bench.Enter(GateMode.Exclusive, () =>
        {
            Assert.Equal(1, Interlocked.Increment(ref inside));
            order.Add(i);
            Interlocked.Decrement(ref inside);
            return i;
        })).ToList();

        Assert.Equal(Enumerable.Range(0, 500), await Task.WhenAll(tasks).WaitAsync(Limit));
        Assert.Equal(Enumerable.Range(0, 500), order);
    }

    [Fact]
    public async Task Calls_that_read_run_together_up_to_the_number_of_lanes()
    {
        await using var bench = new Bench(lanes: 3);
        using var together = new Barrier(3);
        var tasks = Enumerable.Range(0, 3).Select(_ => bench.Enter(GateMode.Shared, () => together.SignalAndWait(Limit))).ToList();
        Assert.All(await Task.WhenAll(tasks).WaitAsync(Limit), Assert.True);
    }

    [Fact]
    public async Task A_reader_behind_a_writer_waits_for_it()
    {
        await using var bench = new Bench(lanes: 4);
        using var hold = new ManualResetEventSlim();
        var log = new List<string>();
        var first = bench.Enter(GateMode.Shared, () => { hold.Wait(Limit); Note("reader 1"); return true; });
        var writer = bench.Enter(GateMode.Exclusive, () => { Note("writer"); return true; });
        var last = bench.Enter(GateMode.Shared, () => { Note("reader 2"); return true; });

        await Task.Delay(50);
        Assert.False(writer.IsCompleted || last.IsCompleted);
        hold.Set();
        await Task.WhenAll(first, writer, last).WaitAsync(Limit);

        Assert.Equal(["reader 1", "writer", "reader 2"], log);

        void Note(string what)
        {
            lock (log)
            {
                log.Add(what);
            }
        }
    }

    [Fact]
    public async Task Readers_and_writers_under_load_never_overlap()
    {
        await using var bench = new Bench(lanes: 4, queue: 20_000);
        int readers = 0, writers = 0, wrong = 0;
        var tasks = new List<Task<bool>>();
        var random = new Random(1);
        for (var i = 0; i < 10_000; i++)
        {
            tasks.Add(random.Next(4) == 0
                ? bench.Enter(GateMode.Exclusive, () =>
                {
                    wrong += Interlocked.Increment(ref writers) != 1 || Volatile.Read(ref readers) != 0 ? 1 : 0;
                    Thread.SpinWait(50);
                    Interlocked.Decrement(ref writers);
                    return true;
                })
                : bench.Enter(GateMode.Shared, () =>
                {
                    Interlocked.Increment(ref readers);
                    if (Volatile.Read(ref writers) != 0)
                    {
                        Interlocked.Increment(ref wrong);
                    }

                    Thread.SpinWait(50);
                    Interlocked.Decrement(ref readers);
                    return true;
                }));
        }

        await Task.WhenAll(tasks).WaitAsync(Limit);
        Assert.Equal(0, wrong);
        Assert.Equal(0, bench.Gate.Pending);
    }

    [Fact]
    public async Task A_call_cancelled_while_it_waits_never_runs_and_gives_its_place_back_at_once()
    {
        await using var bench = new Bench(lanes: 1, queue: 2);
        using var hold = new ManualResetEventSlim();
        using var started = new ManualResetEventSlim();
        using var cancel = new CancellationTokenSource();
        var ran = false;
        var running = bench.Enter(GateMode.Exclusive, () => { started.Set(); return hold.Wait(Limit); });
        Assert.True(started.Wait(Limit));
        var released = false;
        var cancelled = bench.Enter(GateMode.Exclusive, () => ran = true, () => released = true, cancel.Token);
        var behind = bench.Enter(GateMode.Shared, () => true);
        Assert.Equal("QUEUE_FULL", Assert.Throws<EngineException>(() => { _ = bench.Enter(GateMode.Shared, () => true); }).Reason);

        await cancel.CancelAsync();
        var error = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cancelled.WaitAsync(Limit));

        Assert.Equal(cancel.Token, error.CancellationToken);
        Assert.True(released);
        var inThePlace = bench.Enter(GateMode.Shared, () => true);
        hold.Set();
        Assert.All(await Task.WhenAll(running, behind, inThePlace).WaitAsync(Limit), Assert.True);
        Assert.False(ran);
        Assert.Equal(0, bench.Gate.Pending);
    }

    [Fact]
    public async Task A_call_cancelled_between_gate_and_lane_never_runs_and_lets_the_next_in()
    {
        await using var bench = new Bench(lanes: 1);
        using var hold = new ManualResetEventSlim();
        using var started = new ManualResetEventSlim();
        using var cancel = new CancellationTokenSource();
        var busy = bench.Other.Enter(() => { started.Set(); return hold.Wait(Limit); });
        Assert.True(started.Wait(Limit));
        var ran = false;
        var cancelled = bench.Enter(GateMode.Exclusive, () => ran = true, token: cancel.Token);
        var next = bench.Enter(GateMode.Exclusive, () => true);

        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cancelled.WaitAsync(Limit));
        hold.Set();

        Assert.True(await next.WaitAsync(Limit));
        Assert.True(await busy.WaitAsync(Limit));
        Assert.False(ran);
    }

    [Fact]
    public async Task A_call_with_a_token_that_has_fired_is_not_queued()
    {
        await using var bench = new Bench(lanes: 1);
        var released = 0;
        var task = bench.Enter(GateMode.Shared, () => true, () => released++, new CancellationToken(true));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => task);
        Assert.Equal(1, released);
        Assert.Equal(0, bench.Gate.Pending);
    }

    [Fact]
    public async Task Cancellation_at_every_moment_runs_or_cancels_each_call_once()
    {
        await using var bench = new Bench(lanes: 2, queue: 10_000);
        int ran = 0, released = 0;
        var tasks = new List<Task<bool>>();
        for (var i = 0; i < 3_000; i++)
        {
            var cancel = new CancellationTokenSource();
            tasks.Add(bench.Enter(i % 3 == 0 ? GateMode.Exclusive : GateMode.Shared, () =>
            {
                Interlocked.Increment(ref ran);
                return true;
            }, () => Interlocked.Increment(ref released), cancel.Token));
            _ = Task.Run(cancel.Cancel, TestContext.Current.CancellationToken);
        }

        await Task.WhenAll(tasks).WaitAsync(Limit).ContinueWith(_ => { }, TaskScheduler.Default);

        Assert.Equal(ran, tasks.Count(task => task.IsCompletedSuccessfully));
        Assert.Equal(3_000 - ran, tasks.Count(task => task.IsCanceled));
        Assert.Equal(3_000, released);
        Assert.Equal(0, bench.Gate.Pending);
        Assert.True(await bench.Enter(GateMode.Exclusive, () => true).WaitAsync(Limit));
    }

    /// <summary>Two gates over a pool of lanes.</summary>
    private sealed class Bench : IAsyncDisposable
    {
        private readonly LanePool _lanes;

        public Bench(int lanes, int queue = 1000)
        {
            var admission = new Admission(new EngineOptions { MaxQueue = queue, MaxQueuePerModule = queue });
            _lanes = new LanePool(lanes);
            Gate = new Gate(_lanes, admission, "m");
            Other = new Gate(_lanes, admission, "other");
        }

        public Gate Gate { get; }

        public Gate Other { get; }

        public Task<T> Enter<T>(GateMode mode, Func<T> work, Action? release = null, CancellationToken token = default)
        {
            var call = new LaneCall<T>(mode, work, release);
            call.Enter(Gate, token);
            return call.Task;
        }

        public ValueTask DisposeAsync()
        {
            Assert.True(_lanes.Stop(Limit));
            return default;
        }
    }
}

file static class GateExtensions
{
    public static Task<bool> Enter(this Gate gate, Func<bool> work)
    {
        var call = new LaneCall<bool>(GateMode.Shared, work);
        call.Enter(gate, default);
        return call.Task;
    }
}
