using System.Buffers;
using System.Runtime.InteropServices;

namespace Sconce.Server.Transport;

/// <summary>
/// The blocks that a connection's bytes come into, the one that was given back last first. Kestrel's own pool gives out the one that has lain longest: after one message of 64 MiB,
/// which lies in 16,384 of them, whatever comes later goes through 64 MiB of memory that no cache holds. Safe from any thread.
/// </summary>
internal sealed class WarmBlockPool : MemoryPool<byte>
{
    /// <summary>Bytes of a block, as Kestrel's.</summary>
    public const int BlockBytes = 4096;

    private static readonly TimeSpan Period = TimeSpan.FromSeconds(30);

    private readonly Lock _lock = new();
    private readonly Stack<Block> _free = new();
    private readonly ITimer _timer;
    private int _leastFree;
    private bool _isDisposed;

    public WarmBlockPool(TimeProvider time) => _timer = time.CreateTimer(static pool => ((WarmBlockPool)pool!).Trim(), this, Period, Period);

    public override int MaxBufferSize => BlockBytes;

    /// <summary>Blocks that wait to be used.</summary>
    public int Free
    {
        get
        {
            lock (_lock)
            {
                return _free.Count;
            }
        }
    }

    public override IMemoryOwner<byte> Rent(int minBufferSize = -1)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(minBufferSize, BlockBytes);
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            if (_free.TryPop(out var block))
            {
                _leastFree = Math.Min(_leastFree, _free.Count);
                return block.Lent();
            }
        }

        return new Block(this).Lent();
    }

    /// <summary>Lets go of the blocks that nobody has used since the last time.</summary>
    public void Trim()
    {
        lock (_lock)
        {
            // Those lie at the bottom; which of them go is all the same.
            for (var unused = _leastFree; unused > 0; unused--)
            {
                _ = _free.Pop();
            }

            _free.TrimExcess();
            _leastFree = _free.Count;
        }
    }

    protected override void Dispose(bool disposing)
    {
        _timer.Dispose();
        lock (_lock)
        {
            _isDisposed = true;
            _free.Clear();
        }
    }

    private void Return(Block block)
    {
        lock (_lock)
        {
            // Connections may end after the server has.
            if (!_isDisposed)
            {
                _free.Push(block);
            }
        }
    }

    /// <summary>Pinned, so that the system can write into it.</summary>
    private sealed class Block(WarmBlockPool pool) : IMemoryOwner<byte>
    {
        private int _isLent;

        public Memory<byte> Memory { get; } = MemoryMarshal.CreateFromPinnedArray(GC.AllocateUninitializedArray<byte>(BlockBytes, pinned: true), 0, BlockBytes);

        public Block Lent()
        {
            _isLent = 1;
            return this;
        }

        public void Dispose()
        {
            // A block that is given back twice would be lent to two at once.
            if (Interlocked.Exchange(ref _isLent, 0) == 1)
            {
                pool.Return(this);
            }
        }
    }
}
