namespace Sconce.Client.Internal;

/// <summary>A shared region as a stream of its size.</summary>
internal sealed class RegionStream(SharedRegion region) : Stream
{
    private long _position;

    public override bool CanRead => true;

    public override bool CanSeek => true;

    public override bool CanWrite => true;

    public override long Length => region.Length;

    public override long Position
    {
        get => _position;
        set
        {
            ArgumentOutOfRangeException.ThrowIfNegative(value);
            _position = value;
        }
    }

    public override int Read(Span<byte> buffer)
    {
        var count = (int)Math.Min(buffer.Length, Math.Max(0, Length - _position));
        region.Read(buffer[..count], _position);
        _position += count;
        return count;
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        if (buffer.Length > Length - _position)
            throw new IOException($"{buffer.Length} bytes from byte {_position} on do not fit the region, which has {Length}.");
        region.Write(buffer, _position);
        _position += buffer.Length;
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override long Seek(long offset, SeekOrigin origin)
    {
        Position = offset + (origin switch { SeekOrigin.Begin => 0, SeekOrigin.Current => _position, _ => Length });
        return _position;
    }

    public override void SetLength(long value) => throw new NotSupportedException("The size of a shared region cannot change.");

    public override void Flush()
    {
        // What is written is there.
    }
}
