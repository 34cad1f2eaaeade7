namespace Sconce.Engine.Execution;

/// <summary>Bounds how many calls wait on the whole host, and refuses all of them once it drains.</summary>
internal sealed class Admission(EngineOptions options)
{
    // A guess at when a place is free: a queue that is full empties by hundreds a second, and callers add jitter.
    private static readonly TimeSpan RetryFullQueue = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan RetryElsewhere = TimeSpan.FromSeconds(1);

    private readonly TaskCompletionSource _idle = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _pending;
    private int _running;
    private volatile bool _draining;

    public bool IsDraining => _draining;

    /// <summary>Completes when the host drains and nothing runs any more.</summary>
    public Task Idle => _idle.Task;

    /// <summary>Whether calls run at this moment.</summary>
    public bool IsBusy => Volatile.Read(ref _running) > 0;

    /// <summary>Takes a place in the queue.</summary>
    /// <param name="pendingHere">Calls that wait at the same gate.</param>
    /// <param name="name">The gate's module; empty for the host's own.</param>
    public void Admit(int pendingHere, string name)
    {
        if (_draining)
        {
            throw Draining();
        }

        if (pendingHere >= options.MaxQueuePerModule)
        {
            throw Full($"the queue of module {EngineException.Quote(name)}", pendingHere, options.MaxQueuePerModule, "max_queue_per_module");
        }

        var pending = Interlocked.Increment(ref _pending);
        if (pending > options.MaxQueue)
        {
            Interlocked.Decrement(ref _pending);
            throw Full("the host's queue", pending - 1, options.MaxQueue, "max_queue");
        }
    }

    /// <summary>Gives the place back.</summary>
    public void Withdraw() => Interlocked.Decrement(ref _pending);

    /// <summary>Counts a call that begins to run; false where the host drains.</summary>
    public bool TryStart()
    {
        // Counted before the look at the flag, as Drain sets the flag before its look at the count: one of the two sees the other.
        Interlocked.Increment(ref _running);
        if (_draining)
        {
            Ended();
            return false;
        }

        return true;
    }

    public void Ended()
    {
        if (Interlocked.Decrement(ref _running) == 0 && _draining)
        {
            _idle.TrySetResult();
        }
    }

    /// <summary>From now on nothing new is admitted.</summary>
    public void Drain()
    {
        _draining = true;
        Interlocked.MemoryBarrier();
        if (Volatile.Read(ref _running) == 0)
        {
            _idle.TrySetResult();
        }
    }

    public static EngineException Draining() =>
        new(EngineError.Unavailable, "DRAINING", "the host is shutting down and takes no more work; retry, on another host where there is one") { RetryAfter = RetryElsewhere };

    /// <summary>What the caller of a call gets that was still running when the drain gave up on it.</summary>
    public static EngineException Stopped() =>
        new(EngineError.Unavailable, "STOPPED", "the host stopped before the call had ended; what it did is lost with all that the host held") { RetryAfter = RetryElsewhere };

    private static EngineException Full(string what, long used, long allowed, string setting) =>
        new(EngineError.ResourceExhausted, "QUEUE_FULL", $"{what} is full: {used:N0} of {allowed:N0} places are taken; retry later, or raise {setting}")
        {
            Quota = new QuotaRef(setting, 1, used, allowed),
            RetryAfter = RetryFullQueue,
        };
}
