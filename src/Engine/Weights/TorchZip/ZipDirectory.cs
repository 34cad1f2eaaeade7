using System.Buffers.Binary;
using System.Text;

namespace Sconce.Engine.Weights.TorchZip;

/// <summary>
/// The records of a zip archive as <c>torch.save</c> writes one: none encrypted, none twice, none within another. .NET's own reader takes the first of two
/// records with one name, believes what the directory says of sizes, and checks no CRC-32.
/// </summary>
internal static class ZipDirectory
{
    private const int EndLength = 22;
    private const int LocatorLength = 20;
    private const int End64Length = 56;
    private const int EntryLength = 46;
    private const uint EndSignature = 0x06054b50;
    private const uint LocatorSignature = 0x07064b50;
    private const uint End64Signature = 0x06064b50;
    private const uint EntrySignature = 0x02014b50;
    private const ushort Zip64Field = 1;

    // The names are UTF-8; sizes follow the content. PyTorch's writer sets both on every record.
    private const int AllowedFlags = ZipLocalHeader.SizesFollow | 0x0800;

    private static readonly UTF8Encoding StrictUtf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>Reads the records by name, each checked against its local header, the file's length, and the others.</summary>
    /// <param name="source">The file.</param>
    /// <exception cref="EngineException">The archive breaks a rule; nothing of a record's content was read.</exception>
    public static Dictionary<string, ZipRecord> Read(ByteSource source)
    {
        var (offset, size, count) = FindDirectory(source);
        var directory = new byte[size];
        source.ReadExactly(directory, offset);
        var records = new Dictionary<string, ZipRecord>(count, StringComparer.Ordinal);
        var extents = new List<(long Start, long End, string Name)>(count);
        var at = 0;
        for (var i = 0; i < count; i++)
        {
            var entry = ReadEntry(directory, ref at, i);
            var (content, end) = ZipLocalHeader.Check(source, entry, offset);
            if (!records.TryAdd(entry.Name, new ZipRecord(entry.Name, content, entry.Packed, entry.Crc, entry.Method) { Size = (long)Math.Min(entry.RawSize, long.MaxValue) }))
            {
                throw TorchZipErrors.Malformed($"record {EngineException.Quote(entry.Name)} is there twice");
            }

            extents.Add((entry.HeaderOffset, end, entry.Name));
        }

        if (at != directory.Length)
        {
            throw TorchZipErrors.Malformed($"its central directory has {directory.Length:N0} bytes, of which {count:N0} records take {at:N0}");
        }

        extents.Sort((a, b) => a.Start.CompareTo(b.Start));
        for (var i = 1; i < extents.Count; i++)
        {
            if (extents[i].Start < extents[i - 1].End)
            {
                throw TorchZipErrors.Malformed($"records {EngineException.Quote(extents[i - 1].Name)} and {EngineException.Quote(extents[i].Name)} overlap");
            }
        }

        return records;
    }

    // The end record must be the last thing in the file: a search for it, as zip tools do it, lets a file be two archives at once.
    private static (long Offset, int Size, int Count) FindDirectory(ByteSource source)
    {
        var length = source.Length;
        if (length < EndLength)
        {
            throw TorchZipErrors.Malformed($"it has {length:N0} bytes; the smallest zip archive has {EndLength}");
        }

        var tail = new byte[(int)Math.Min(length, EndLength + LocatorLength + End64Length)];
        source.ReadExactly(tail, length - tail.Length);
        var end = tail.AsSpan(tail.Length - EndLength);
        if (UInt32(end, 0) != EndSignature || UInt16(end, 20) != 0)
        {
            throw TorchZipErrors.Malformed("it does not end with a zip archive's end record: it was cut short, or something was added to it");
        }

        if (UInt16(end, 4) != 0 || UInt16(end, 6) != 0 || UInt16(end, 8) != UInt16(end, 10))
        {
            throw TorchZipErrors.Malformed("it is a part of a zip archive of several disks");
        }

        ulong count = UInt16(end, 10);
        ulong size = UInt32(end, 12);
        ulong offset = UInt32(end, 16);
        var directoryEnd = length - EndLength;
        var locator = tail.Length >= EndLength + LocatorLength ? tail.AsSpan(tail.Length - EndLength - LocatorLength, LocatorLength) : default;
        if (!locator.IsEmpty && UInt32(locator, 0) == LocatorSignature)
        {
            directoryEnd -= LocatorLength + End64Length;
            if (directoryEnd < 0 || UInt64(locator, 8) != (ulong)directoryEnd || UInt32(locator, 4) != 0 || UInt32(locator, 16) > 1)
            {
                throw TorchZipErrors.Malformed($"its zip64 locator points to byte {UInt64(locator, 8):N0}; the zip64 end record must be at byte {Math.Max(directoryEnd, 0):N0}, just before it");
            }

            var end64 = tail.AsSpan(0, End64Length);
            if (UInt32(end64, 0) != End64Signature || UInt64(end64, 4) != End64Length - 12 || UInt32(end64, 16) != 0 || UInt32(end64, 20) != 0 || UInt64(end64, 24) != UInt64(end64, 32))
            {
                throw TorchZipErrors.Malformed("its zip64 end record is not one of a whole archive of version 1");
            }

            count = Agreed(count, ushort.MaxValue, UInt64(end64, 32), "number of records");
            size = Agreed(size, uint.MaxValue, UInt64(end64, 40), "size of the central directory");
            offset = Agreed(offset, uint.MaxValue, UInt64(end64, 48), "offset of the central directory");
        }

        if (size > (ulong)directoryEnd || offset != (ulong)directoryEnd - size)
        {
            throw TorchZipErrors.Malformed($"its central directory is said to have {size:N0} bytes from byte {offset:N0} on; it must end at byte {directoryEnd:N0}, where its end record begins");
        }

        if (count > TorchZipLimits.Records || size > TorchZipLimits.DirectoryBytes)
        {
            throw TorchZipErrors.Limit($"its archive has {count:N0} records with a directory of {size:N0} bytes; at most {TorchZipLimits.Records:N0} and {TorchZipLimits.DirectoryBytes:N0} are taken");
        }

        return count * EntryLength <= size ? ((long)offset, (int)size, (int)count)
            : throw TorchZipErrors.Malformed($"its central directory has {size:N0} bytes, which {count:N0} records do not fit");
    }

    // The old field says the same, or that it cannot.
    private static ulong Agreed(ulong old, ulong unknown, ulong value, string what) => old == value || old == unknown ? value
        : throw TorchZipErrors.Malformed($"its end record and its zip64 end record differ in the {what}: {old:N0} and {value:N0}");

    private static ZipEntry ReadEntry(ReadOnlySpan<byte> directory, ref int at, int index)
    {
        var left = directory[at..];
        if (left.Length < EntryLength || UInt32(left, 0) != EntrySignature)
        {
            throw TorchZipErrors.Malformed($"record {index} of its central directory does not begin as one");
        }

        int nameLength = UInt16(left, 28), extraLength = UInt16(left, 30), commentLength = UInt16(left, 32);
        var total = EntryLength + nameLength + extraLength + commentLength;
        if (total > left.Length)
        {
            throw TorchZipErrors.Malformed($"record {index} of its central directory reaches beyond its end");
        }

        if (nameLength is 0 or > TorchZipLimits.RecordNameBytes)
        {
            throw TorchZipErrors.Malformed($"record {index} has a name of {nameLength:N0} bytes; 1 to {TorchZipLimits.RecordNameBytes:N0} are possible");
        }

        at += total;
        var nameBytes = left.Slice(EntryLength, nameLength);
        var name = Name(nameBytes, index);
        int flags = UInt16(left, 8), method = UInt16(left, 10);
        if ((flags & ~AllowedFlags) != 0)
        {
            throw TorchZipErrors.Malformed((flags & 1) != 0
                ? $"record {EngineException.Quote(name)} is encrypted"
                : $"record {EngineException.Quote(name)} has the flags 0x{flags:x4}; only those for UTF-8 names and for sizes after the content are possible");
        }

        if (UInt16(left, 34) != 0)
        {
            throw TorchZipErrors.Malformed($"record {EngineException.Quote(name)} is on another disk");
        }

        ulong packed = UInt32(left, 20), size = UInt32(left, 24), header = UInt32(left, 42);
        Widen(left.Slice(EntryLength + nameLength, extraLength), ref size, ref packed, ref header, name);
        return method != 0 || packed == size ? new ZipEntry(name, nameBytes.ToArray(), flags, method, UInt32(left, 16), packed, size, header)
            : throw TorchZipErrors.Malformed($"record {EngineException.Quote(name)} is stored, and said to take {packed:N0} bytes for its {size:N0}");
    }

    private static string Name(ReadOnlySpan<byte> bytes, int index)
    {
        try
        {
            return StrictUtf8.GetString(bytes);
        }
        catch (DecoderFallbackException)
        {
            throw TorchZipErrors.Malformed($"the name of record {index} is not UTF-8");
        }
    }

    private static void Widen(ReadOnlySpan<byte> extra, ref ulong size, ref ulong packed, ref ulong header, string name)
    {
        var wide = ReadOnlySpan<byte>.Empty;
        var found = false;
        while (!extra.IsEmpty)
        {
            var length = extra.Length < 4 ? int.MaxValue : UInt16(extra, 2);
            if (length > extra.Length - 4)
            {
                throw TorchZipErrors.Malformed($"the extra fields of record {EngineException.Quote(name)} reach beyond their end");
            }

            if (UInt16(extra, 0) == Zip64Field)
            {
                wide = found ? throw TorchZipErrors.Malformed($"record {EngineException.Quote(name)} has two zip64 fields") : extra.Slice(4, length);
                found = true;
            }

            extra = extra[(4 + length)..];
        }

        // In this order, and only those that the directory has no room for.
        size = Next(size, ref wide, name);
        packed = Next(packed, ref wide, name);
        header = Next(header, ref wide, name);
    }

    private static ulong Next(ulong value, ref ReadOnlySpan<byte> wide, string name)
    {
        if (value != uint.MaxValue)
        {
            return value;
        }

        if (wide.Length < sizeof(ulong))
        {
            throw TorchZipErrors.Malformed($"record {EngineException.Quote(name)} lacks the zip64 field that its sizes or its offset point to");
        }

        value = UInt64(wide, 0);
        wide = wide[sizeof(ulong)..];
        return value;
    }

    private static ushort UInt16(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt16LittleEndian(bytes[at..]);

    private static uint UInt32(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[at..]);

    private static ulong UInt64(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt64LittleEndian(bytes[at..]);
}
