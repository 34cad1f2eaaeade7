namespace Sconce.Engine.Snapshots;

/// <summary>Whose turn it is among the saves and deletions of one module, which come one after the other.</summary>
internal sealed class SnapshotTurns
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, Turn> _turns = new(StringComparer.Ordinal);

    /// <summary>Waits for a module's turn, and has it until the result is disposed.</summary>
    /// <exception cref="OperationCanceledException">It was cancelled while it waited.</exception>
    public Hold Take(string module, CancellationToken cancellation)
    {
        Turn? turn;
        lock (_lock)
        {
            turn = _turns.TryGetValue(module, out turn) ? turn : _turns[module] = new Turn();
            turn.Users++;
        }

        try
        {
            turn.Free.Wait(cancellation);
            return new Hold(this, module, turn);
        }
        catch
        {
            Leave(module, turn);
            throw;
        }
    }

    private void Leave(string module, Turn turn)
    {
        lock (_lock)
        {
            if (--turn.Users == 0)
            {
                _turns.Remove(module);
                turn.Free.Dispose();
            }
        }
    }

    /// <summary>A module's turn.</summary>
    public readonly struct Hold(SnapshotTurns owner, string module, Turn turn) : IDisposable
    {
        /// <summary>The number of the next snapshot, above those that are there and those that were given in this run of turns.</summary>
        /// <param name="last">The highest of those that are there; 0 for none.</param>
        public long NextSequence(long last) => turn.LastSequence = Math.Max(last, turn.LastSequence) + 1;

        public void Dispose()
        {
            turn.Free.Release();
            owner.Leave(module, turn);
        }
    }

    /// <summary>There while somebody has it or waits.</summary>
    public sealed class Turn
    {
        /// <summary>Free while nobody has it.</summary>
        public SemaphoreSlim Free { get; } = new(1);

        /// <summary>Those who have it or wait.</summary>
        public int Users { get; set; }

        /// <summary>The number given last. Only who has the turn touches it.</summary>
        public long LastSequence { get; set; }
    }
}
