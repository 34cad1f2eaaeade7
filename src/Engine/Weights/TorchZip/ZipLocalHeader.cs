using System.Buffers.Binary;

namespace Sconce.Engine.Weights.TorchZip;

/// <summary>A record as the central directory describes it; numbers as they stand there.</summary>
/// <param name="Name">Its name.</param>
/// <param name="NameBytes">The same, as it is written.</param>
/// <param name="Flags">General purpose flags.</param>
/// <param name="Method">How its content is compressed; 0 where it is stored.</param>
/// <param name="Crc">CRC-32 of its content.</param>
/// <param name="RawPacked">Bytes that its content takes in the file.</param>
/// <param name="RawSize">Bytes of its content.</param>
/// <param name="RawHeaderOffset">Where its local header begins.</param>
internal readonly record struct ZipEntry(string Name, byte[] NameBytes, int Flags, int Method, uint Crc, ulong RawPacked, ulong RawSize, ulong RawHeaderOffset)
{
    /// <summary>Bytes that its content takes in the file, once checked against it.</summary>
    public long Packed => (long)RawPacked;

    /// <summary>Where its local header begins, once checked against the file.</summary>
    public long HeaderOffset => (long)RawHeaderOffset;
}

/// <summary>What stands around a record's content: the header before it, and the sizes after it. Both must say what the central directory says.</summary>
internal static class ZipLocalHeader
{
    /// <summary>The flag for a header without sizes; they follow the content.</summary>
    public const int SizesFollow = 0x0008;

    private const int HeaderLength = 30;
    private const uint HeaderSignature = 0x04034b50;
    private const uint DescriptorSignature = 0x08074b50;
    private const int LongestDescriptor = 24;

    /// <summary>Checks a record and finds its content.</summary>
    /// <param name="source">The file.</param>
    /// <param name="entry">The record.</param>
    /// <param name="directory">Where the central directory begins: no record reaches beyond.</param>
    /// <returns>Where the content begins, and where the record ends.</returns>
    public static (long Content, long End) Check(ByteSource source, in ZipEntry entry, long directory)
    {
        var header = new byte[HeaderLength + entry.NameBytes.Length];
        if (entry.RawHeaderOffset > (ulong)directory || header.Length > directory - entry.HeaderOffset)
        {
            throw Beyond(entry, directory);
        }

        source.ReadExactly(header, entry.HeaderOffset);
        if (UInt32(header, 0) != HeaderSignature || UInt16(header, 26) != entry.NameBytes.Length || !header.AsSpan(HeaderLength).SequenceEqual(entry.NameBytes))
        {
            throw Differs(entry, "local header is not at the place that the central directory gives, or has another name");
        }

        if (UInt16(header, 6) != entry.Flags || UInt16(header, 8) != entry.Method)
        {
            throw Differs(entry, "local header has other flags or another compression than the central directory");
        }

        var content = entry.HeaderOffset + header.Length + UInt16(header, 28);
        if (content > directory || entry.RawPacked > (ulong)(directory - content))
        {
            throw Beyond(entry, directory);
        }

        var end = content + entry.Packed;
        if ((entry.Flags & SizesFollow) != 0)
        {
            var descriptor = new byte[(int)Math.Min(LongestDescriptor, directory - end)];
            source.ReadExactly(descriptor, end);
            return (content, end + DescriptorLength(descriptor, entry));
        }

        var agrees = UInt32(header, 14) == entry.Crc && Agrees(UInt32(header, 18), entry.RawPacked) && Agrees(UInt32(header, 22), entry.RawSize);
        return agrees ? (content, end) : throw Differs(entry, "local header has another CRC-32 or other sizes than the central directory");
    }

    // With or without a signature, of 32 or of 64 bits: the format never says which. PyTorch writes the signature.
    private static int DescriptorLength(ReadOnlySpan<byte> bytes, in ZipEntry entry)
    {
        foreach (var start in (ReadOnlySpan<int>)[4, 0])
        {
            if (bytes.Length < start + 12 || (start == 4 && UInt32(bytes, 0) != DescriptorSignature) || UInt32(bytes, start) != entry.Crc)
            {
                continue;
            }

            var sizes = bytes[(start + 4)..];
            if (UInt32(sizes, 0) == entry.RawPacked && UInt32(sizes, 4) == entry.RawSize)
            {
                return start + 12;
            }

            if (sizes.Length >= 16 && UInt64(sizes, 0) == entry.RawPacked && UInt64(sizes, 8) == entry.RawSize)
            {
                return start + 20;
            }
        }

        throw Differs(entry, "data descriptor is missing, or has another CRC-32 or other sizes than the central directory");
    }

    // 64-bit sizes are in an extra field, of which the central directory's was used.
    private static bool Agrees(uint local, ulong size) => local == size || local == uint.MaxValue;

    private static EngineException Beyond(in ZipEntry entry, long directory) =>
        TorchZipErrors.Malformed($"record {EngineException.Quote(entry.Name)}, of {entry.RawPacked:N0} bytes with its header at byte {entry.RawHeaderOffset:N0}, reaches beyond byte {directory:N0}, where the central directory begins");

    private static EngineException Differs(in ZipEntry entry, string how) => TorchZipErrors.Malformed($"record {EngineException.Quote(entry.Name)}: its {how}");

    private static ushort UInt16(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt16LittleEndian(bytes[at..]);

    private static uint UInt32(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[at..]);

    private static ulong UInt64(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt64LittleEndian(bytes[at..]);
}
