using System.Buffers.Binary;
using System.Text;

namespace Sconce.Engine.Tests.Weights.Safetensors;

/// <summary>Makes safetensors files by hand.</summary>
internal static class SafetensorsBytes
{
    /// <summary>What errors call the files of these tests.</summary>
    public const string Name = "the file \"x.safetensors\"";

    /// <summary>A header, its length before it, and zeros for data.</summary>
    public static byte[] File(ReadOnlySpan<byte> header, int dataBytes) => File(header, new byte[dataBytes]);

    /// <summary>A header, its length before it, and data.</summary>
    public static byte[] File(ReadOnlySpan<byte> header, byte[] data)
    {
        var length = new byte[sizeof(ulong)];
        BinaryPrimitives.WriteInt32LittleEndian(length, header.Length);
        return [.. length, .. header, .. data];
    }

    /// <summary>The same of text.</summary>
    public static byte[] File(string header, int dataBytes) => File(Encoding.UTF8.GetBytes(header), dataBytes);

    /// <summary>Only the length of a header.</summary>
    public static byte[] Length(ulong length)
    {
        var bytes = new byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, length);
        return bytes;
    }

    /// <summary>The path of a fixture that another program wrote.</summary>
    public static string Fixture(string name) => Path.Combine(AppContext.BaseDirectory, "Weights", "Fixtures", name);
}
