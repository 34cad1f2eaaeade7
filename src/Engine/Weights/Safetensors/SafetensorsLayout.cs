using System.Buffers.Binary;
using System.Text.Encodings.Web;
using System.Text.Json;
using Sconce.Engine.Execution;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Weights.Safetensors;

/// <summary>
/// What a safetensors file of given tensors will look like, before a byte of them is there: its header, where each tensor goes, and the file's exact
/// length. Public because the command line writes files with it too; it needs no libtorch.
/// </summary>
/// <remarks>
/// The header lists the tensors in the order given. Their bytes lie in descending order of element size, among equals as given, and begin at a multiple
/// of 64 bytes: so every tensor is aligned to its elements, as in the files of the format's own library. What this makes, <see cref="SafetensorsHeader"/> reads.
/// </remarks>
public sealed class SafetensorsLayout
{
    // Some readers map the file.
    private const int Alignment = 64;

    private static readonly Dictionary<string, string> PyTorch = new() { ["format"] = "pt" };

    private SafetensorsLayout(byte[] header, int[] order, long dataBytes) => (Header, Order, FileBytes) = (header, order, header.Length + dataBytes);

    /// <summary>The file's beginning: the header's length, the header, and white space up to where the data begins.</summary>
    public ReadOnlyMemory<byte> Header { get; }

    /// <summary>The tensors, by their index, in the order in which their bytes follow the header without gaps.</summary>
    public IReadOnlyList<int> Order { get; }

    /// <summary>Bytes of the whole file.</summary>
    public long FileBytes { get; }

    /// <summary>Lays a file out.</summary>
    /// <param name="entries">The tensors, in the order of the header.</param>
    /// <param name="metadata">The file's <c>__metadata__</c>, left out where it is empty. By default <c>{"format": "pt"}</c>, which Python's transformers asks for.</param>
    /// <exception cref="EngineException">A tensor has a dtype that the format lacks (UNIMPLEMENTED), or a name that it cannot hold or twice; or there are too many.</exception>
    public static SafetensorsLayout Of(IReadOnlyList<StateEntryInfo> entries, IReadOnlyDictionary<string, string>? metadata = null)
    {
        ArgumentNullException.ThrowIfNull(entries);
        SafetensorsRule.CheckCount(entries.Count);
        var lengths = Lengths(entries);
        int[] order = [.. Enumerable.Range(0, entries.Count).OrderByDescending(i => entries[i].Type.Size())];
        var begins = new long[entries.Count];
        var at = 0L;
        foreach (var index in order)
        {
            begins[index] = at;
            at = lengths[index] <= long.MaxValue - at
                ? at + lengths[index]
                : throw SafetensorsRule.Broken(SafetensorsRule.ShapeOverflow, "all tensors together have 2^63 bytes or more", entries[index].Key);
        }

        return new SafetensorsLayout(Write(entries, begins, lengths, metadata ?? PyTorch), order, at);
    }

    private static long[] Lengths(IReadOnlyList<StateEntryInfo> entries)
    {
        var lengths = new long[entries.Count];
        var keys = new HashSet<string>(StringComparer.Ordinal);
        var memory = 0L;
        for (var i = 0; i < lengths.Length; i++)
        {
            var (key, type, shape) = entries[i];
            if (SafetensorsRule.OfName(key) is { } problem)
            {
                throw SafetensorsRule.Broken(SafetensorsRule.TensorName, $"{EngineException.Quote(key)} is no name for a tensor in a safetensors file: it {problem}", key);
            }

            if (!keys.Add(key))
            {
                throw SafetensorsRule.Broken(SafetensorsRule.TensorTwice, $"{EngineException.Quote(key)} is there twice; a safetensors file holds each name once", key);
            }

            if (SafetensorsTypes.NameOf(type) is null)
            {
                throw SafetensorsRule.Broken(SafetensorsRule.DTypeUnsupported, $"{EngineException.Quote(key)} is {type.Name()}, which the safetensors format cannot hold; convert it first", key);
            }

            lengths[i] = TensorLayout.ByteLength(type, shape, new FieldPath("", "entries", i));
            SafetensorsRule.CheckMemory(ref memory, key, shape.Count);
        }

        return lengths;
    }

    private static byte[] Write(IReadOnlyList<StateEntryInfo> entries, long[] begins, long[] lengths, IReadOnlyDictionary<string, string> metadata)
    {
        using var stream = new MemoryStream();
        stream.Write(stackalloc byte[SafetensorsHeader.PrefixBytes]);
        using (var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping })) // unsafe in HTML only
        {
            json.WriteStartObject();
            WriteMetadata(json, metadata);
            for (var i = 0; i < entries.Count; i++)
            {
                var (key, type, shape) = entries[i];
                json.WriteStartObject(key);
                json.WriteString("dtype", SafetensorsTypes.NameOf(type));
                json.WriteStartArray("shape");
                foreach (var size in shape)
                {
                    json.WriteNumberValue(size);
                }

                json.WriteEndArray();
                json.WriteStartArray("data_offsets");
                json.WriteNumberValue(begins[i]);
                json.WriteNumberValue(begins[i] + lengths[i]);
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
        var length = header.Length - SafetensorsHeader.PrefixBytes;
        if (length > SafetensorsHeader.MaxBytes)
        {
            throw SafetensorsRule.Broken(SafetensorsRule.HeaderTooLarge, $"the header would have {length} bytes; the safetensors format allows {SafetensorsHeader.MaxBytes}: split the file");
        }

        BinaryPrimitives.WriteInt64LittleEndian(header, length);
        return header;
    }

    private static void WriteMetadata(Utf8JsonWriter json, IReadOnlyDictionary<string, string> metadata)
    {
        if (metadata.Count == 0)
        {
            return;
        }

        SafetensorsRule.CheckMetadata(metadata);
        json.WriteStartObject(SafetensorsHeader.MetadataKey);
        foreach (var (key, value) in metadata)
        {
            json.WriteString(key, value);
        }

        json.WriteEndObject();
    }
}
