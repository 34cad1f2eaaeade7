using Microsoft.Win32.SafeHandles;
using Sconce.Engine.Execution;
using Sconce.Engine.Weights;

namespace Sconce.Engine.Regions;

/// <summary>
/// Memory that this process and a caller of the same host both have. The caller may write to it at any time, so nothing here ever looks at it twice: what is read is copied, and
/// the copy is checked. Whoever rented it disposes it, once its caller is done or gone.
/// </summary>
public sealed class SharedRegion : IDisposable
{
    private readonly Lock _lock = new();
    private readonly MemoryCharge _charge;
    private readonly Action<SharedRegion> _returned;
    private readonly Action _freed;
    private int _reads;
    private bool _disposed;

    /// <param name="id">Its id.</param>
    /// <param name="file">Its memory; freed with it.</param>
    /// <param name="bytes">Its size.</param>
    /// <param name="charge">What is charged for it; ended with it.</param>
    /// <param name="returned">Called when it is disposed.</param>
    /// <param name="freed">Called when its memory has been given back.</param>
    internal SharedRegion(string id, SafeFileHandle file, long bytes, MemoryCharge charge, Action<SharedRegion> returned, Action freed) =>
        (Id, File, Bytes, _charge, _returned, _freed) = (id, file, bytes, charge, returned, freed);

    /// <summary>Its id, of 32 hexadecimal digits that cannot be guessed: whoever has it may have the server read the region.</summary>
    public string Id { get; }

    /// <summary>Its size.</summary>
    public long Bytes { get; }

    /// <summary>The memory, to be handed to the caller; this owns it.</summary>
    public SafeFileHandle File { get; }

    /// <summary>What logs and messages call it: enough to tell one from another, and too little to use it.</summary>
    internal string ShortId => Id[..8] + "…";

    /// <summary>Takes the region out of use. Its memory is given back at once, or when the loads that read it have.</summary>
    public void Dispose()
    {
        bool free;
        lock (_lock)
        {
            if (_disposed)
            {
                return;
            }

            _disposed = true;
            free = _reads == 0;
        }

        _returned(this);
        if (free)
        {
            Free();
        }
    }

    /// <summary>Its first bytes, as a file is read: each read is a copy. The region lasts at least until this is disposed.</summary>
    /// <param name="bytes">How many; at most its size.</param>
    /// <returns>The bytes; null where it is out of use by now.</returns>
    internal ByteSource? TryRead(long bytes)
    {
        lock (_lock)
        {
            if (_disposed)
            {
                return null;
            }

            _reads++;
            return new Content(this, bytes);
        }
    }

    private void EndRead()
    {
        bool free;
        lock (_lock)
        {
            free = --_reads == 0 && _disposed;
        }

        if (free)
        {
            Free();
        }
    }

    private void Free()
    {
        // The caller may keep its handle for as long as it likes, so that to close this one alone would give back nothing.
        MemoryFile.Free(File, Bytes);
        File.Dispose();
        _charge.Dispose();
        _freed();
    }

    private sealed class Content(SharedRegion region, long bytes) : ByteSource
    {
        private int _ended;

        public override long Length => bytes;

        public override void Dispose()
        {
            if (Interlocked.Exchange(ref _ended, 1) == 0)
            {
                region.EndRead();
            }
        }

        protected override int Read(Span<byte> buffer, long offset) =>
            offset >= bytes ? 0 : RandomAccess.Read(region.File, buffer[..(int)Math.Min(buffer.Length, bytes - offset)], offset);
    }
}
