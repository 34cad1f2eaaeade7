namespace Sconce.Engine.Snapshots;

/// <summary>Whose turn it is among the saves and deletions of one module, which come one after the other, in the order in which their places were taken.</summary>
internal sealed class SnapshotTurns
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, Queue> _queues = new(StringComparer.Ordinal);

    /// <summary>Takes the next place in a module's queue, until the result is disposed.</summary>
    public SnapshotPlace Take(string module)
    {
        lock (_lock)
        {
            var queue = _queues.TryGetValue(module, out var found) ? found : _queues[module] = new Queue();
            queue.Places++;
            var place = new SnapshotPlace(this, module, queue, queue.Last);
            queue.Last = place.Left;
            return place;
        }
    }

    internal void Leave(string module, Queue queue)
    {
        lock (_lock)
        {
            if (--queue.Places == 0)
            {
                _queues.Remove(module);
            }
        }
    }

    /// <summary>A module's queue, there while somebody is in it.</summary>
    internal sealed class Queue
    {
        /// <summary>Ends when whoever came last has left.</summary>
        public Task Last { get; set; } = Task.CompletedTask;

        public int Places { get; set; }

        /// <summary>The number given last. Only who has the turn touches it.</summary>
        public long LastSequence { get; set; }
    }
}

/// <summary>
/// A place in the queue of a module's saves and deletions. Taken in the module's turn, beside the copy that is to be saved: what was copied first is then the older snapshot,
/// whichever thread comes first to the disk.
/// </summary>
internal sealed class SnapshotPlace : IDisposable
{
    private readonly SnapshotTurns _owner;
    private readonly SnapshotTurns.Queue _queue;
    private readonly TaskCompletionSource _left = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _isDisposed;

    internal SnapshotPlace(SnapshotTurns owner, string module, SnapshotTurns.Queue queue, Task turn) => (_owner, Module, _queue, Turn) = (owner, module, queue, turn);

    /// <summary>The module's name.</summary>
    public string Module { get; }

    /// <summary>Ends when the turn has come.</summary>
    public Task Turn { get; }

    /// <summary>Ends when this place is left and so are those before it.</summary>
    internal Task Left => _left.Task;

    /// <summary>The number of the next snapshot, above those that are there and those that were given to this queue. Only in the turn.</summary>
    /// <param name="last">The highest of those that are there; 0 for none.</param>
    public long NextSequence(long last) => _queue.LastSequence = Math.Max(last, _queue.LastSequence) + 1;

    /// <summary>Leaves the queue, in the turn or before it.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _isDisposed, 1) == 0)
        {
            Turn.ContinueWith(_ =>
            {
                _owner.Leave(Module, _queue);
                _left.SetResult();
            }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        }
    }
}
