using System.Runtime.InteropServices;
using Sconce.Engine.Storage;

namespace Sconce.Engine.Snapshots;

/// <summary>
/// What a part's writer writes to: a new file, and the digest of it. Bytes that last go to both from where they lie, so that the digest's threads may fall behind the disk; all
/// others are collected in two blocks, one of which is hashed while the other one is filled.
/// </summary>
internal sealed unsafe class PartStream(IDiskWriter file, PartDigest digest, CancellationToken cancellation) : WriteOnlyStream
{
    // Enough that the digest's other threads have something to do.
    private const int Block = 2 * PartDigest.Segment;

    // A call that is cancelled ends after so much.
    private const int Piece = 1 << 23;

    private byte* _blocks = (byte*)NativeMemory.Alloc(2 * Block);
    private int _block;
    private int _drained;
    private int _filled;
    private Exception? _failure;

    public override bool CanWrite => _blocks is not null;

    /// <summary>Makes the file durable and gives its digest. A failure that the writer met and swallowed is thrown here again.</summary>
    public string Finish()
    {
        Drain();
        if (_failure is { } failure)
        {
            throw new IOException(failure.Message, failure) { HResult = failure.HResult };
        }

        var sha256 = digest.Take();
        cancellation.ThrowIfCancellationRequested();
        file.Flush();
        return sha256;
    }

    protected override void Take(ReadOnlySpan<byte> bytes)
    {
        ObjectDisposedException.ThrowIf(_blocks is null, this);
        while (bytes.Length > 0)
        {
            if (_filled == Block)
            {
                Turn();
            }

            var some = bytes[..Math.Min(bytes.Length, Block - _filled)];
            some.CopyTo(new Span<byte>(_blocks + (_block * Block) + _filled, some.Length));
            _filled += some.Length;
            bytes = bytes[some.Length..];
        }
    }

    protected override void TakeLasting(ReadOnlySpan<byte> bytes)
    {
        ObjectDisposedException.ThrowIf(_blocks is null, this);
        Drain();
        fixed (byte* start = bytes)
        {
            digest.Add(start, bytes.Length);
        }

        ToDisk(bytes);
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing && _blocks is not null)
        {
            // Where nobody has taken the digest: its threads may be reading what is about to go.
            digest.Drop();
            NativeMemory.Free(_blocks);
            _blocks = null;
        }

        base.Dispose(disposing);
    }

    private void Drain()
    {
        var bytes = _blocks + (_block * Block) + _drained;
        var length = _filled - _drained;
        _drained = _filled;
        digest.Add(bytes, length);
        ToDisk(new ReadOnlySpan<byte>(bytes, length));
    }

    // The other block's bytes are hashed before it is filled anew, and this one's while it is.
    private void Turn()
    {
        digest.Settle();
        Drain();
        _block ^= 1;
        _drained = _filled = 0;
    }

    private void ToDisk(ReadOnlySpan<byte> bytes)
    {
        for (var offset = 0; offset < bytes.Length; offset += Piece)
        {
            cancellation.ThrowIfCancellationRequested();
            try
            {
                file.Write(bytes.Slice(offset, Math.Min(Piece, bytes.Length - offset)));
            }
            catch (Exception exception)
            {
                _failure = exception;
                throw;
            }
        }
    }
}
