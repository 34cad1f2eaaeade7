namespace Sconce.Engine.Execution;

/// <summary>Bytes charged to the ledger for one thing, given back when it goes. Used by one thread at a time, but disposable from any.</summary>
internal sealed class MemoryCharge : IDisposable
{
    private readonly MemoryLedger _ledger;
    private readonly MemoryUse _use;
    private readonly string _what;
    private readonly string _name;
    private readonly Lock _lock = new();
    private long _bytes;
    private bool _disposed;

    public MemoryCharge(MemoryLedger ledger, MemoryUse use, string what, string name, long bytes = 0)
    {
        (_ledger, _use, _what, _name) = (ledger, use, what, name);
        ledger.Charge(use, bytes, what, name);
        _bytes = bytes;
    }

    public long Bytes
    {
        get
        {
            lock (_lock)
            {
                return _bytes;
            }
        }
    }

    /// <summary>Makes the charge this large; where the ledger refuses, it stays as it is.</summary>
    public void Resize(long bytes)
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (bytes > _bytes)
            {
                _ledger.Charge(_use, bytes - _bytes, _what, _name);
            }
            else
            {
                _ledger.Release(_use, _bytes - bytes);
            }

            _bytes = bytes;
        }
    }

    /// <summary>Sets the charge to what exists, over the budget if it must be: for what was made already and cannot be unmade.</summary>
    public void Settle(long bytes)
    {
        lock (_lock)
        {
            if (!_disposed)
            {
                _ledger.Record(_use, bytes - _bytes);
                _bytes = bytes;
            }
        }
    }

    public void Dispose()
    {
        lock (_lock)
        {
            if (!_disposed)
            {
                _disposed = true;
                _ledger.Release(_use, _bytes);
                _bytes = 0;
            }
        }
    }
}
