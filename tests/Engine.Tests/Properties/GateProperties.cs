using CsCheck;
using Sconce.Engine.Execution;

namespace Sconce.Engine.Tests.Properties;

/// <summary>Random schedules of a gate: what changes runs alone, all else in the order of arrival, and each call runs or is cancelled once.</summary>
public sealed class GateProperties
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(120);

    private static readonly Gen<(bool Exclusive, int Work, bool Cancelled)[]> Calls =
        Gen.Select(Gen.Bool, Gen.Int[0, 400], Gen.Int[0, 4], (exclusive, work, dice) => (exclusive, work, dice == 0)).Array[1, 80];

    [Fact]
    public void Any_schedule_keeps_the_order_of_arrival_around_every_call_that_changes() => Gen.Select(Gen.Int[1, 4], Calls).Sample((lanes, calls) =>
    {
        var pool = new LanePool(lanes);
        var gate = new Gate(pool, new Admission(new EngineOptions { MaxQueue = 100, MaxQueuePerModule = 100 }), "m");
        var (moment, released) = (0, 0);
        var ran = new (int Start, int End)?[calls.Length];
        using var cancel = new CancellationTokenSource();
        var tasks = calls.Select((call, i) =>
        {
            var work = new LaneCall<int>(call.Exclusive ? GateMode.Exclusive : GateMode.Shared, () =>
            {
                var start = Interlocked.Increment(ref moment);
                Thread.SpinWait(call.Work);
                Assert.Null(ran[i]);
                ran[i] = (start, Interlocked.Increment(ref moment));
                return i;
            }, () => Interlocked.Increment(ref released));
            work.Enter(gate, call.Cancelled ? cancel.Token : default);
            return work.Task;
        }).ToList();
        cancel.Cancel();
        Assert.True(Task.WhenAll(tasks).ContinueWith(_ => { }, TaskScheduler.Default).Wait(Limit));
        Assert.True(pool.Stop(Limit));

        Assert.Equal(calls.Length, released);
        Assert.Equal(0, gate.Pending);
        for (var i = 0; i < calls.Length; i++)
        {
            Assert.Equal((i, ran[i] is null), (i, tasks[i].IsCanceled));
            Assert.True(ran[i] is not null || calls[i].Cancelled, $"call {i} did not run");
            for (var j = i + 1; j < calls.Length; j++)
            {
                if ((calls[i].Exclusive || calls[j].Exclusive) && ran[i] is { } first && ran[j] is { } second)
                {
                    Assert.True(first.End < second.Start, $"call {j} began at {second.Start}, before call {i} ended at {first.End}");
                }
            }
        }
    }, iter: 150, threads: 1);
}
