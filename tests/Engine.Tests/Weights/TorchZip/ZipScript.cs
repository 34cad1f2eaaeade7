using System.Buffers.Binary;
using System.IO.Hashing;
using System.Text;

namespace Sconce.Engine.Tests.Weights.TorchZip;

/// <summary>A record of a crafted archive. What is not given is as PyTorch writes it.</summary>
internal sealed record ZipPart(string Name, byte[] Content)
{
    public ushort Flags { get; init; } = 0x0808;

    public ushort Method { get; init; }

    public uint? Crc { get; init; }

    /// <summary>What the central directory says instead of the truth.</summary>
    public long? Size { get; init; }

    public long? PackedSize { get; init; }

    public long? HeaderOffset { get; init; }

    public string? LocalName { get; init; }

    public ushort? LocalFlags { get; init; }

    public uint LocalSize { get; init; }

    public bool HasDescriptor { get; init; } = true;

    public uint? DescriptorSize { get; init; }

    public ushort Disk { get; init; }

    /// <summary>An extra field of the central directory, instead of what its sizes need.</summary>
    public byte[]? Extra { get; init; }

    public byte[]? NameBytes { get; init; }

    /// <summary>Bytes of zeros before it in the file, which take no memory.</summary>
    public long Gap { get; init; }

    /// <summary>Bytes of zeros that its content has after those that are given.</summary>
    public long Zeros { get; init; }
}

/// <summary>Makes zip archives, right ones and wrong ones.</summary>
internal sealed class ZipScript
{
    private readonly List<(long Offset, byte[] Bytes)> _pieces = [];

    public List<ZipPart> Parts { get; init; } = [];

    /// <summary>What the end records say instead of the truth.</summary>
    public long? Count { get; init; }

    public long? DirectorySize { get; init; }

    public long? DirectoryOffset { get; init; }

    public bool IsZip64 { get; init; } = true;

    public long? Zip64Count { get; init; }

    public long? Zip64Offset { get; init; }

    public long? LocatorOffset { get; init; }

    public uint Disks { get; init; } = 1;

    public ushort Disk { get; init; }

    public byte[] Comment { get; init; } = [];

    public byte[] Trailing { get; init; } = [];

    /// <summary>A file of one state dict: these records, and those that are always there.</summary>
    public static ZipScript Of(byte[] pickle, params (string Key, byte[] Content)[] storages) => new()
    {
        Parts = [new("archive/data.pkl", pickle), .. storages.Select(storage => new ZipPart($"archive/data/{storage.Key}", storage.Content)), new("archive/version", "3\n"u8.ToArray())],
    };

    public byte[] Bytes()
    {
        var source = Source();
        var bytes = new byte[source.Length];
        Assert.Equal(bytes.Length, source.Fill(bytes, 0));
        return bytes;
    }

    public MemorySource Source()
    {
        _pieces.Clear();
        var at = 0L;
        var directory = new List<byte>();
        foreach (var part in Parts)
        {
            at += part.Gap;
            var header = at;
            var name = part.NameBytes ?? Encoding.UTF8.GetBytes(part.Name);
            var local = part.LocalName is { } other ? Encoding.UTF8.GetBytes(other) : name;
            var size = part.Content.Length + part.Zeros;
            var crc = part.Crc ?? Crc32.HashToUInt32(part.Content);
            at = Add(at, [.. U32(0x04034b50), .. U16(0), .. U16(part.LocalFlags ?? part.Flags), .. U16(part.Method), .. U32(0), .. U32(part.HasDescriptor ? 0 : crc), .. U32(part.LocalSize), .. U32(part.LocalSize), .. U16(local.Length), .. U16(0), .. local]);
            Add(at, part.Content);
            at += size;
            if (part.HasDescriptor)
            {
                at = Add(at, size >= uint.MaxValue || header >= uint.MaxValue
                    ? [.. U32(0x08074b50), .. U32(crc), .. U64(part.DescriptorSize ?? size), .. U64(size)]
                    : [.. U32(0x08074b50), .. U32(crc), .. U32(part.DescriptorSize ?? size), .. U32(size)]);
            }

            long[] numbers = [part.Size ?? size, part.PackedSize ?? part.Size ?? size, part.HeaderOffset ?? header];
            byte[] wide = [.. numbers.Where(number => number >= uint.MaxValue).SelectMany(U64)];
            byte[] extra = part.Extra ?? (wide.Length == 0 ? [] : [.. U16(1), .. U16(wide.Length), .. wide]);
            directory.AddRange([.. U32(0x02014b50), .. U16(0), .. U16(0), .. U16(part.Flags), .. U16(part.Method), .. U32(0), .. U32(crc), .. U32(Clip(numbers[1])), .. U32(Clip(numbers[0])),
                .. U16(name.Length), .. U16(extra.Length), .. U16(0), .. U16(part.Disk), .. U16(0), .. U32(0), .. U32(Clip(numbers[2])), .. name, .. extra]);
        }

        var start = at;
        at = Add(at, [.. directory]);
        var (count, length, offset) = (Count ?? Parts.Count, DirectorySize ?? directory.Count, DirectoryOffset ?? start);
        if (IsZip64)
        {
            var end = at;
            var wideCount = Zip64Count ?? count;
            at = Add(at, [.. U32(0x06064b50), .. U64(44), .. U16(0), .. U16(45), .. U32(0), .. U32(0), .. U64(wideCount), .. U64(wideCount), .. U64(length), .. U64(Zip64Offset ?? offset)]);
            at = Add(at, [.. U32(0x07064b50), .. U32(0), .. U64(LocatorOffset ?? end), .. U32(Disks)]);
        }

        at = Add(at, [.. U32(0x06054b50), .. U16(Disk), .. U16(0), .. U16((int)Math.Min(count, ushort.MaxValue)), .. U16((int)Math.Min(count, ushort.MaxValue)), .. U32(Clip(length)), .. U32(Clip(offset)), .. U16(Comment.Length), .. Comment, .. Trailing]);
        return new MemorySource(_pieces, at);
    }

    public static byte[] U16(int value)
    {
        var bytes = new byte[2];
        BinaryPrimitives.WriteUInt16LittleEndian(bytes, (ushort)value);
        return bytes;
    }

    public static byte[] U32(long value)
    {
        var bytes = new byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, (uint)value);
        return bytes;
    }

    public static byte[] U64(long value)
    {
        var bytes = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(bytes, value);
        return bytes;
    }

    private static long Clip(long value) => value is < 0 or > uint.MaxValue ? uint.MaxValue : value;

    private long Add(long at, byte[] bytes)
    {
        _pieces.Add((at, bytes));
        return at + bytes.Length;
    }
}
