using System.Buffers.Binary;
using System.Text.Json;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Weights;

/// <summary>Writes tensors in the safetensors layout: the length of a JSON header, the header, then the tensors' bytes without gaps.</summary>
internal static class SafetensorsWriter
{
    private const int Chunk = 1 << 26;

    // Readers map the file, and the data begins where the header ends.
    private const int Alignment = 64;

    /// <summary>The header, its length before it.</summary>
    /// <param name="entries">The tensors, in order.</param>
    /// <exception cref="EngineException">A tensor has a dtype that the layout does not know.</exception>
    public static byte[] Header(IReadOnlyList<StateEntry> entries)
    {
        using var stream = new MemoryStream();
        stream.Write(new byte[sizeof(ulong)]);
        using (var json = new Utf8JsonWriter(stream))
        {
            json.WriteStartObject();
            json.WriteStartObject("__metadata__");
            json.WriteString("format", "pt");
            json.WriteEndObject();
            var offset = 0L;
            foreach (var (key, tensor) in entries)
            {
                var type = tensor.dtype.ToElementType();
                json.WriteStartObject(key);
                json.WriteString("dtype", Name(type) ?? throw new EngineException(EngineError.Unimplemented, "DTYPE_UNSUPPORTED",
                    $"{EngineException.Quote(key)} is {type.Name()}, which the safetensors layout does not know; convert it first"));
                json.WriteStartArray("shape");
                foreach (var size in tensor.shape)
                {
                    json.WriteNumberValue(size);
                }

                json.WriteEndArray();
                json.WriteStartArray("data_offsets");
                json.WriteNumberValue(offset);
                json.WriteNumberValue(offset += tensor.numel() * type.Size());
                json.WriteEndArray();
                json.WriteEndObject();
            }

            json.WriteEndObject();
        }

        while (stream.Length % Alignment != 0)
        {
            stream.WriteByte((byte)' ');
        }

        var header = stream.ToArray();
        BinaryPrimitives.WriteInt64LittleEndian(header, header.Length - sizeof(ulong));
        return header;
    }

    /// <summary>Writes the tensors' bytes.</summary>
    public static void WriteData(Stream stream, IReadOnlyList<StateEntry> entries)
    {
        foreach (var (_, tensor) in entries)
        {
            // An alias, so that what is freed afterwards is not the module's; or a dense copy of one that is not row-major.
            using var export = TensorExport.Take(tensor.detach().alias());
            for (var offset = 0L; offset < export.ByteLength; offset += Chunk)
            {
                stream.Write(export.Slice(offset, (int)Math.Min(Chunk, export.ByteLength - offset)).Span);
            }
        }
    }

    private static string? Name(ElementType type) => type switch
    {
        ElementType.Float32 => "F32",
        ElementType.Float64 => "F64",
        ElementType.Float16 => "F16",
        ElementType.BFloat16 => "BF16",
        ElementType.UInt8 => "U8",
        ElementType.Int8 => "I8",
        ElementType.Int16 => "I16",
        ElementType.Int32 => "I32",
        ElementType.Int64 => "I64",
        ElementType.Bool => "BOOL",
        ElementType.Complex64 => "C64",
        _ => null,
    };
}
