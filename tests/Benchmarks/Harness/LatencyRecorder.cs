using System.Diagnostics;

namespace Sconce.Benchmarks.Harness;

/// <summary>Times of the calls of one block. Not thread-safe: each worker has its own.</summary>
internal sealed class LatencyRecorder
{
    private long[] _ticks = new long[4096];
    private int _count;

    /// <summary>Adds a call that began at <paramref name="started"/> (<see cref="Stopwatch.GetTimestamp"/>) and ends now.</summary>
    public void Add(long started)
    {
        if (_count == _ticks.Length)
        {
            Array.Resize(ref _ticks, _count * 2);
        }

        _ticks[_count++] = Stopwatch.GetTimestamp() - started;
    }

    /// <summary>Sums up the calls that several workers recorded during <paramref name="elapsed"/>.</summary>
    public static BlockResult Summarize(TimeSpan elapsed, params IReadOnlyList<LatencyRecorder> workers)
    {
        var all = new long[workers.Sum(worker => worker._count)];
        if (all.Length == 0)
        {
            throw new InvalidOperationException($"no call finished within a block of {elapsed.TotalSeconds:0.0} s");
        }

        var at = 0;
        foreach (var worker in workers)
        {
            worker._ticks.AsSpan(0, worker._count).CopyTo(all.AsSpan(at));
            at += worker._count;
        }

        Array.Sort(all);
        return new BlockResult(Microseconds(Percentile(all, 0.50)), Microseconds(Percentile(all, 0.99)), all.Length / elapsed.TotalSeconds, all.Length);
    }

    /// <summary>Nearest-rank percentile of sorted values.</summary>
    private static long Percentile(long[] sorted, double p) => sorted[Math.Clamp((int)Math.Ceiling(p * sorted.Length) - 1, 0, sorted.Length - 1)];

    private static double Microseconds(long ticks) => ticks * 1e6 / Stopwatch.Frequency;
}
