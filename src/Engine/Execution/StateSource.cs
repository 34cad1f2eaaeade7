using static TorchSharp.torch;

namespace Sconce.Engine.Execution;

/// <summary>Tensors with keys that are to be loaded into a module: what a stream brought, what was read from a file, or what came within a message.</summary>
public abstract class StateSource : IDisposable
{
    private readonly Lock _lock = new();
    private int _holds;
    private bool _given;
    private bool _disposed;
    private bool _freed;

    private protected StateSource()
    {
    }

    /// <summary>The tensors, in order; no key is there twice.</summary>
    public abstract IReadOnlyList<StateEntryInfo> Entries { get; }

    /// <summary>Bytes of all of them together.</summary>
    public abstract long TotalBytes { get; }

    /// <summary>Whether the memory of its tensors is nobody else's, so that a module may take it instead of copying (<see cref="TryGive"/>).</summary>
    internal virtual bool IsSole => false;

    /// <summary>Whether <see cref="Dispose"/> was called.</summary>
    private protected bool IsDisposed => _disposed;

    /// <summary>Where one of them stands in the request, for errors.</summary>
    /// <param name="entry">Its index; -1 is all of them.</param>
    public abstract string FieldOf(int entry);

    /// <summary>Frees the memory; where a load is using it, when that has ended.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            _disposed = true;
            FreeWhenUnused();
        }

        GC.SuppressFinalize(this);
    }

    /// <summary>Uses the tensors with their keys, once all is there. A caller who gives up meanwhile does not pull them away.</summary>
    internal T Use<T>(Func<IReadOnlyList<(string Key, Tensor Value)>, T> work)
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_disposed || _given, this);
            _holds++;
        }

        try
        {
            return work(Complete());
        }
        finally
        {
            lock (_lock)
            {
                _holds--;
                FreeWhenUnused();
            }
        }
    }

    /// <summary>Gives the memory of the tensors to the module that uses them now: nobody uses them after that.</summary>
    /// <returns>False where the module is to copy them.</returns>
    internal bool TryGive()
    {
        lock (_lock)
        {
            return _given = IsSole && _holds == 1;
        }
    }

    /// <summary>The tensors in the order of <see cref="Entries"/>, or an error that says what has not come. A module may come to share their storage.</summary>
    private protected abstract IReadOnlyList<(string Key, Tensor Value)> Complete();

    /// <summary>Frees what is held; called once.</summary>
    private protected abstract void Free();

    private void FreeWhenUnused()
    {
        if (_disposed && _holds == 0 && !_freed)
        {
            _freed = true;
            Free();
        }
    }
}
