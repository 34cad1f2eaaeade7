namespace Sconce.Engine.Execution;

/// <summary>
/// The compute threads. Grad mode, inference mode and dispose scopes of TorchSharp belong to the thread, so torch code runs here from
/// beginning to end and never spans an await.
/// </summary>
internal sealed class LanePool
{
    // Waking a sleeping thread costs more than a small forward; a lane that has just worked looks for more this long before it sleeps.
    private static readonly long SpinTicks = System.Diagnostics.Stopwatch.Frequency * 20 / 1_000_000;

    private readonly Queue<LaneWork> _ready = new();
    private readonly object _lock = new();
    private readonly Thread[] _threads;
    private readonly LaneWork?[] _running;
    private int _count;
    private int _sleeping;
    private int _borrowed;
    private bool _stopped;
    private bool _worked;

    public LanePool(int lanes)
    {
        _threads = new Thread[lanes];
        _running = new LaneWork?[lanes];
        for (var i = 0; i < lanes; i++)
        {
            var lane = i;
            _threads[i] = new Thread(() => Work(lane), maxStackSize: 16 << 20) { IsBackground = true, Name = $"lane {i}" };
            _threads[i].Start();
        }
    }

    /// <summary>Queues a call that its gate has let in. How many there are is bounded by the gates.</summary>
    public void Post(LaneWork work)
    {
        lock (_lock)
        {
            _ready.Enqueue(work);
            _count = _ready.Count;
            if (_sleeping > 0)
            {
                Monitor.Pulse(_lock);
            }
        }
    }

    /// <summary>Lets a caller's thread run one short call as if it were a lane; at most as many at a time as there are lanes.</summary>
    public bool TryBorrow()
    {
        if (Interlocked.Increment(ref _borrowed) <= _threads.Length)
        {
            Volatile.Write(ref _worked, true);
            return true;
        }

        Return();
        return false;
    }

    /// <summary>Ends what <see cref="TryBorrow"/> began.</summary>
    public void Return() => Interlocked.Decrement(ref _borrowed);

    /// <summary>Whether no call has run since this was asked last.</summary>
    public bool WasIdle() =>
        !Interlocked.Exchange(ref _worked, false) && Volatile.Read(ref _borrowed) == 0 && Array.TrueForAll(_running, work => work is null);

    /// <summary>Withdraws every call that waits for a lane.</summary>
    public void WithdrawAll(Func<Exception> error)
    {
        LaneWork[] waiting;
        lock (_lock)
        {
            waiting = [.. _ready];
        }

        foreach (var work in waiting)
        {
            // A lane that finds it later does nothing.
            work.Withdraw(error());
        }
    }

    /// <summary>Answers the callers of what the lanes run, which goes on: native code cannot be interrupted.</summary>
    public void CutAll(Func<Exception> error)
    {
        for (var i = 0; i < _running.Length; i++)
        {
            Volatile.Read(ref _running[i])?.Cut(error());
        }
    }

    /// <summary>Ends the threads after the calls that are queued; false where one of them does not come back in time.</summary>
    public bool Stop(TimeSpan limit)
    {
        lock (_lock)
        {
            _stopped = true;
            Monitor.PulseAll(_lock);
        }

        // A native call that never returns must not keep the process: the threads are background ones.
        var deadline = Environment.TickCount64 + (long)limit.TotalMilliseconds;
        return _threads.All(thread => thread.Join((int)Math.Max(0, deadline - Environment.TickCount64)));
    }

    private void Work(int lane)
    {
        while (Take() is { } work)
        {
            Volatile.Write(ref _running[lane], work);
            Volatile.Write(ref _worked, true);
            work.RunOnLane();
            _running[lane] = null;
        }
    }

    private LaneWork? Take()
    {
        if (Volatile.Read(ref _count) == 0)
        {
            Spin();
        }

        lock (_lock)
        {
            while (_ready.Count == 0)
            {
                if (_stopped)
                {
                    return null;
                }

                _sleeping++;
                Monitor.Wait(_lock);
                _sleeping--;
            }

            var work = _ready.Dequeue();
            _count = _ready.Count;
            return work;
        }
    }

    private void Spin()
    {
        var end = System.Diagnostics.Stopwatch.GetTimestamp() + SpinTicks;
        while (Volatile.Read(ref _count) == 0 && System.Diagnostics.Stopwatch.GetTimestamp() < end)
        {
            Thread.SpinWait(20);
        }
    }
}
