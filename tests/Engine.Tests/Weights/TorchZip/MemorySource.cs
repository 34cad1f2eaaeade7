using Sconce.Engine.Weights;

namespace Sconce.Engine.Tests.Weights.TorchZip;

/// <summary>Bytes in memory as a file. What lies between the pieces reads as zeros, so that a test can have a file of terabytes.</summary>
internal sealed class MemorySource : ByteSource
{
    private readonly List<(long Offset, byte[] Bytes)> _pieces;

    public MemorySource(byte[] bytes)
        : this([(0, bytes)], bytes.Length)
    {
    }

    public MemorySource(IEnumerable<(long Offset, byte[] Bytes)> pieces, long length) => (_pieces, Length) = ([.. pieces], length);

    public override long Length { get; }

    /// <summary>Bytes that are there when it is read; fewer than <see cref="Length"/> once the file was cut short.</summary>
    public long Left { get; set; } = long.MaxValue;

    /// <summary>Bytes that were read.</summary>
    public long BytesRead { get; private set; }

    public bool IsDisposed { get; private set; }

    public override void Dispose() => IsDisposed = true;

    protected override int Read(Span<byte> into, long offset)
    {
        var count = (int)Math.Clamp(Math.Min(Length, Left) - offset, 0, into.Length);
        into[..count].Clear();
        foreach (var (start, bytes) in _pieces)
        {
            var (from, to) = (Math.Max(start, offset), Math.Min(start + bytes.Length, offset + count));
            if (from < to)
            {
                bytes.AsSpan((int)(from - start), (int)(to - from)).CopyTo(into[(int)(from - offset)..]);
            }
        }

        BytesRead += count;
        return count;
    }
}
