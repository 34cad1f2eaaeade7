using System.Buffers.Binary;
using System.Text;

namespace Sconce.Engine.Weights.TorchZip;

/// <summary>Reads opcodes and their arguments, never beyond the end.</summary>
/// <param name="bytes">The pickle.</param>
internal ref struct PickleReader(ReadOnlySpan<byte> bytes)
{
    // Longer than any name of the list; a line without an end must not be searched to the end of the file for each opcode.
    private const int LongestLine = 256;

    private static readonly UTF8Encoding StrictUtf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private readonly ReadOnlySpan<byte> _bytes = bytes;
    private int _next;

    /// <summary>Byte of the last opcode.</summary>
    public int At { get; private set; }

    /// <summary>Whether nothing is left.</summary>
    public readonly bool IsAtEnd => _next == _bytes.Length;

    /// <summary>The next opcode.</summary>
    public byte Opcode()
    {
        At = _next;
        return Take(1, "its opcode STOP is missing")[0];
    }

    /// <summary>An argument of one byte.</summary>
    public byte Byte() => Take(1)[0];

    /// <summary>An argument of two bytes.</summary>
    public int UInt16() => BinaryPrimitives.ReadUInt16LittleEndian(Take(sizeof(ushort)));

    /// <summary>An argument of four bytes, signed.</summary>
    public int Int32() => BinaryPrimitives.ReadInt32LittleEndian(Take(sizeof(int)));

    /// <summary>An argument of four bytes.</summary>
    public uint UInt32() => BinaryPrimitives.ReadUInt32LittleEndian(Take(sizeof(uint)));

    /// <summary>Passes a number that nobody asks for.</summary>
    public void SkipDouble() => Take(sizeof(double));

    /// <summary>An int that says its own length; null where it has more than 64 bits.</summary>
    public long? Long()
    {
        var digits = Take(Byte());
        if (digits.Length > sizeof(long))
        {
            return null;
        }

        var value = 0L;
        for (var i = 0; i < digits.Length; i++)
        {
            value |= (long)digits[i] << (8 * i);
        }

        // Two's complement of its own length.
        var unused = 64 - (8 * digits.Length);
        return digits.Length == 0 ? 0 : value << unused >> unused;
    }

    /// <summary>A string that says its length.</summary>
    public string Text()
    {
        var length = UInt32();
        if (length > TorchZipLimits.StringBytes)
        {
            throw PickleErrors.Limit(At, $"a string has {length:N0} bytes; at most {TorchZipLimits.StringBytes:N0} are taken");
        }

        var text = Take((int)length);
        try
        {
            return StrictUtf8.GetString(text);
        }
        catch (DecoderFallbackException)
        {
            throw PickleErrors.Malformed(At, "a string is not UTF-8");
        }
    }

    /// <summary>An argument that ends with its line.</summary>
    public string Line()
    {
        var left = _bytes[_next..];
        var length = left[..Math.Min(left.Length, LongestLine + 1)].IndexOf((byte)'\n');
        if (length < 0)
        {
            throw PickleErrors.Malformed(At, $"the name of a global has no end within {LongestLine} bytes");
        }

        _next += length + 1;
        return Encoding.Latin1.GetString(left[..length]);
    }

    private ReadOnlySpan<byte> Take(int length, string missing = "its argument reaches beyond the end")
    {
        if (length > _bytes.Length - _next)
        {
            throw PickleErrors.Malformed(At, missing);
        }

        _next += length;
        return _bytes.Slice(_next - length, length);
    }
}
