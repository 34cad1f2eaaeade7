namespace Sconce.Benchmarks.Sides;

/// <summary>
/// Watches the managed memory of this process from its making to its end: a thread of its own asks <see cref="GC.GetTotalMemory"/> each millisecond, without collecting, so
/// that garbage which waits for a collection counts. Before that all garbage is collected; what is left is idle.
/// </summary>
internal sealed class ManagedMemory
{
    private readonly Thread _thread;
    private readonly long _idle;
    private long _peak;
    private int _samples;
    private volatile bool _ended;

    /// <summary>Collects, and begins.</summary>
    public ManagedMemory()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
        _peak = _idle = GC.GetTotalMemory(forceFullCollection: false);
        _thread = new Thread(Sample) { IsBackground = true, Priority = ThreadPriority.AboveNormal };
        _thread.Start();
    }

    /// <summary>Ends, once.</summary>
    public Result End()
    {
        _ended = true;
        _thread.Join();
        return new Result(_idle, _peak, _samples);
    }

    private void Sample()
    {
        while (!_ended)
        {
            _peak = Math.Max(_peak, GC.GetTotalMemory(forceFullCollection: false));
            _samples++;
            Thread.Sleep(1);
        }
    }

    /// <summary>What was seen.</summary>
    /// <param name="IdleBytes">Before.</param>
    /// <param name="PeakBytes">The most.</param>
    /// <param name="Samples">How many times it was asked.</param>
    internal sealed record Result(long IdleBytes, long PeakBytes, int Samples);
}
