namespace Sconce.Engine.Storage;

/// <summary>A stream that is written to from its beginning on, and nothing else.</summary>
internal abstract class WriteOnlyStream : Stream
{
    private long _length;

    public override bool CanRead => false;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    /// <summary>Bytes that were written.</summary>
    public override long Length => _length;

    public override long Position { get => _length; set => throw new NotSupportedException(); }

    public sealed override void Write(ReadOnlySpan<byte> buffer)
    {
        Take(buffer);
        _length += buffer.Length;
    }

    /// <summary>Writes bytes that stay where they are, as they are, until this is disposed: what takes them may look at them later than now.</summary>
    public void WriteLasting(ReadOnlySpan<byte> bytes)
    {
        TakeLasting(bytes);
        _length += bytes.Length;
    }

    public sealed override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public sealed override void WriteByte(byte value) => Write([value]);

    // What makes a file durable comes at its end, once, and is not a stream's to do.
    public override void Flush()
    {
    }

    public sealed override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public sealed override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public sealed override void SetLength(long value) => throw new NotSupportedException();

    /// <summary>Takes the next bytes: all of them, or it fails.</summary>
    protected abstract void Take(ReadOnlySpan<byte> bytes);

    /// <summary>Takes the next bytes, which last, in the same way.</summary>
    protected virtual void TakeLasting(ReadOnlySpan<byte> bytes) => Take(bytes);
}
