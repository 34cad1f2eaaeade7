using System.Buffers;
using Sconce.Engine.Storage;

namespace Sconce.Engine.Snapshots;

/// <summary>What a part's writer writes to: a new file, and the digest of it. Large pieces go to both at once, from where they lie; small ones are collected.</summary>
internal sealed class PartStream(IDiskWriter file, PartDigest digest, CancellationToken cancellation) : WriteOnlyStream
{
    // Enough that the digest's other threads have something to do.
    private const int BufferSize = 2 * PartDigest.Segment;

    // A call that is cancelled ends after so much.
    private const int Piece = 1 << 23;

    private byte[]? _buffer = ArrayPool<byte>.Shared.Rent(BufferSize);
    private int _buffered;
    private Exception? _failure;

    public override bool CanWrite => _buffer is not null;

    /// <summary>Makes the file durable and gives its digest. A failure that the writer met and swallowed is thrown here again.</summary>
    public string Finish()
    {
        Drain();
        if (_failure is { } failure)
        {
            throw new IOException(failure.Message, failure) { HResult = failure.HResult };
        }

        cancellation.ThrowIfCancellationRequested();
        file.Flush();
        return digest.Take();
    }

    protected override void Take(ReadOnlySpan<byte> bytes)
    {
        ObjectDisposedException.ThrowIf(_buffer is null, this);
        if (bytes.Length > BufferSize - _buffered)
        {
            Drain();
        }

        if (bytes.Length >= BufferSize)
        {
            Put(bytes);
        }
        else
        {
            bytes.CopyTo(_buffer.AsSpan(_buffered));
            _buffered += bytes.Length;
        }
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing && _buffer is { } buffer)
        {
            _buffer = null;
            ArrayPool<byte>.Shared.Return(buffer);
        }

        base.Dispose(disposing);
    }

    private void Drain()
    {
        if (_buffered > 0)
        {
            var bytes = _buffer.AsSpan(0, _buffered);
            _buffered = 0;
            Put(bytes);
        }
    }

    private unsafe void Put(ReadOnlySpan<byte> bytes)
    {
        fixed (byte* start = bytes)
        {
            digest.Begin(start, bytes.Length);
            try
            {
                for (var offset = 0; offset < bytes.Length; offset += Piece)
                {
                    ToDisk(bytes.Slice(offset, Math.Min(Piece, bytes.Length - offset)));
                }
            }
            finally
            {
                digest.End();
            }
        }
    }

    private void ToDisk(ReadOnlySpan<byte> bytes)
    {
        cancellation.ThrowIfCancellationRequested();
        try
        {
            file.Write(bytes);
        }
        catch (Exception exception)
        {
            _failure = exception;
            throw;
        }
    }
}
