using System.Diagnostics;

namespace Sconce.Benchmarks.Harness;

/// <summary>One of the things compared: something that can make calls for a given time and say how long they took.</summary>
/// <param name="Name">Its name in rows and progress lines.</param>
/// <param name="RunBlock">Makes calls for about this long.</param>
internal sealed record Side(string Name, Func<TimeSpan, Task<BlockResult>> RunBlock)
{
    /// <summary>A closed loop: always <paramref name="outstanding"/> calls in flight, each worker starting its next when its last has answered.</summary>
    public static Side Calls(string name, Func<Task> call, int outstanding) => new(name, async duration =>
    {
        var recorders = new LatencyRecorder[outstanding];
        var workers = new Task[outstanding];
        var began = Stopwatch.GetTimestamp();
        var end = began + (long)(duration.TotalSeconds * Stopwatch.Frequency);
        for (var i = 0; i < outstanding; i++)
        {
            var recorder = recorders[i] = new LatencyRecorder();
            workers[i] = WorkAsync(call, recorder, end);
        }

        await Task.WhenAll(workers);
        return LatencyRecorder.Summarize(Stopwatch.GetElapsedTime(began), recorders);
    });

    private static async Task WorkAsync(Func<Task> call, LatencyRecorder recorder, long end)
    {
        // Off the caller's stack, so that a call which completes synchronously cannot keep the other workers from starting.
        await Task.Yield();
        for (var now = Stopwatch.GetTimestamp(); now < end; now = Stopwatch.GetTimestamp())
        {
            await call();
            recorder.Add(now);
        }
    }
}
