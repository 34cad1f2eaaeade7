using System.Buffers.Binary;
using System.IO.Hashing;
using System.Text;

namespace Sconce.Engine.Weights.TorchZip;

/// <summary>
/// Writes a zip archive as PyTorch's own writer does: records stored, their content at multiples of 64 bytes, sizes and CRC-32 after it, so that nothing is
/// read twice and the stream is never sought; with zip64 fields where numbers need them.
/// </summary>
/// <param name="stream">Where it goes.</param>
internal sealed class ZipWriter(Stream stream)
{
    private const int Alignment = 64;
    private const ushort Flags = 0x0808;
    private const ushort FirstOfJanuary1980 = 0x21;
    private readonly List<Written> _records = [];
    private long _position;

    /// <summary>Writes a record.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="length">Bytes of its content.</param>
    /// <param name="content">Hands the content on, in pieces.</param>
    public void Add(string name, long length, Action<Action<ReadOnlyMemory<byte>>> content)
    {
        var (bytes, offset) = (Encoding.UTF8.GetBytes(name), _position);
        var sum = new Crc32();
        var isWide = IsWide(length, offset);
        Emit(Header(bytes, length, offset));
        content(piece =>
        {
            sum.Append(piece.Span);
            Emit(piece.Span);
        });
        if (_position != offset + HeaderLength(bytes.Length, length, offset) + length)
        {
            throw new InvalidOperationException($"{name} was to have {length} bytes");
        }

        var crc = sum.GetCurrentHashAsUInt32();
        var descriptor = new Bytes().UInt32(0x08074b50).UInt32(crc);
        Emit((isWide ? descriptor.UInt64(length).UInt64(length) : descriptor.UInt32(length).UInt32(length)).Written);
        _records.Add(new Written(bytes, length, offset, crc));
    }


    /// <summary>Writes the directory.</summary>
    public void Finish()
    {
        var start = _position;
        foreach (var record in _records)
        {
            Emit(DirectoryEntry(record));
        }

        var (size, end) = (_position - start, _position);
        Emit(new Bytes().UInt32(0x06064b50).UInt64(44).UInt16(45).UInt16(45).UInt32(0).UInt32(0).UInt64(_records.Count).UInt64(_records.Count).UInt64(size).UInt64(start).Written);
        Emit(new Bytes().UInt32(0x07064b50).UInt32(0).UInt64(end).UInt32(1).Written);
        var count = Math.Min(_records.Count, ushort.MaxValue);
        Emit(new Bytes().UInt32(0x06054b50).UInt16(0).UInt16(0).UInt16(count).UInt16(count).UInt32(Clipped(size)).UInt32(Clipped(start)).UInt16(0).Written);
    }

    /// <summary>Bytes of an archive with these records.</summary>
    /// <param name="records">Names and lengths, in order.</param>
    public static long Length(IEnumerable<(string Name, long Length)> records)
    {
        var (position, directory) = (0L, 0L);
        foreach (var (name, length) in records)
        {
            var bytes = Encoding.UTF8.GetBytes(name);
            directory += DirectoryEntry(new Written(bytes, length, position, 0)).Length;
            position += HeaderLength(bytes.Length, length, position) + length + (IsWide(length, position) ? 24 : 16);
        }

        return position + directory + 56 + 20 + 22;
    }

    private static bool IsWide(long length, long offset) => length >= uint.MaxValue || offset >= uint.MaxValue;

    private static long HeaderLength(int name, long length, long offset)
    {
        var unpadded = 30 + name + Wide(length, offset).Length + 4;
        return (offset + unpadded + Alignment - 1) / Alignment * Alignment - offset;
    }

    private static byte[] Header(byte[] name, long length, long offset)
    {
        var wide = Wide(length, offset);
        var padding = (int)HeaderLength(name.Length, length, offset) - 30 - name.Length - wide.Length - 4;
        var bytes = new Bytes().UInt32(0x04034b50).UInt16(IsWide(length, offset) ? 45 : 20).UInt16(Flags).UInt16(0).UInt16(0).UInt16(FirstOfJanuary1980)
            .UInt32(0).UInt32(0).UInt32(0).UInt16(name.Length).UInt16(wide.Length + 4 + padding).Raw(name).Raw(wide);

        // PyTorch's own field of padding.
        return bytes.Raw("FB"u8).UInt16(padding).Raw(Enumerable.Repeat((byte)'Z', padding).ToArray()).Written;
    }

    private static byte[] DirectoryEntry(Written record)
    {
        var wide = Wide(record.Length, record.Offset);
        return new Bytes().UInt32(0x02014b50).UInt16(45).UInt16(wide.Length > 0 ? 45 : 20).UInt16(Flags).UInt16(0).UInt16(0).UInt16(FirstOfJanuary1980)
            .UInt32(record.Crc).UInt32(Clipped(record.Length)).UInt32(Clipped(record.Length)).UInt16(record.Name.Length).UInt16(wide.Length).UInt16(0).UInt16(0)
            .UInt16(0).UInt32(0).UInt32(Clipped(record.Offset)).Raw(record.Name).Raw(wide).Written;
    }

    // The zip64 field: the numbers that 32 bits do not hold, in this order.
    private static byte[] Wide(long length, long offset)
    {
        var numbers = new Bytes();
        if (length >= uint.MaxValue)
        {
            numbers.UInt64(length).UInt64(length);
        }

        if (offset >= uint.MaxValue)
        {
            numbers.UInt64(offset);
        }

        return numbers.Written.Length == 0 ? [] : new Bytes().UInt16(1).UInt16(numbers.Written.Length).Raw(numbers.Written).Written;
    }

    private static long Clipped(long value) => Math.Min(value, uint.MaxValue);

    private void Emit(ReadOnlySpan<byte> bytes)
    {
        stream.Write(bytes);
        _position += bytes.Length;
    }

    private sealed record Written(byte[] Name, long Length, long Offset, uint Crc);

    /// <summary>Little-endian numbers, one after another.</summary>
    private sealed class Bytes
    {
        private readonly List<byte> _bytes = [];

        public byte[] Written => [.. _bytes];

        public Bytes UInt16(int value)
        {
            Span<byte> bytes = stackalloc byte[sizeof(ushort)];
            BinaryPrimitives.WriteUInt16LittleEndian(bytes, (ushort)value);
            return Raw(bytes);
        }

        public Bytes UInt32(long value)
        {
            Span<byte> bytes = stackalloc byte[sizeof(uint)];
            BinaryPrimitives.WriteUInt32LittleEndian(bytes, (uint)value);
            return Raw(bytes);
        }

        public Bytes UInt64(long value)
        {
            Span<byte> bytes = stackalloc byte[sizeof(ulong)];
            BinaryPrimitives.WriteInt64LittleEndian(bytes, value);
            return Raw(bytes);
        }

        public Bytes Raw(ReadOnlySpan<byte> bytes)
        {
            _bytes.AddRange(bytes);
            return this;
        }
    }
}
