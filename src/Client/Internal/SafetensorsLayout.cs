using System.Buffers.Binary;
using System.Text.Encodings.Web;
using System.Text.Json;
using Sconce.V1;

namespace Sconce.Client.Internal;

/// <summary>
/// A state dict as the bytes of a safetensors file (https://github.com/huggingface/safetensors#format): its header, and then the tensors, those of the widest elements
/// first, so that all are aligned.
/// </summary>
internal sealed class SafetensorsLayout
{
    private const int Alignment = 64;

    private SafetensorsLayout(byte[] header, IReadOnlyList<TensorData> tensors, long dataBytes) => (Header, Tensors, FileBytes) = (header, tensors, header.Length + dataBytes);

    /// <summary>The file's beginning, up to the first tensor's bytes.</summary>
    public byte[] Header { get; }

    /// <summary>The tensors in the order in which their bytes follow.</summary>
    public IReadOnlyList<TensorData> Tensors { get; }

    /// <summary>Bytes of the whole file.</summary>
    public long FileBytes { get; }

    /// <exception cref="ArgumentException">A tensor has its elements elsewhere, or the format cannot hold it.</exception>
    public static SafetensorsLayout Of(StateDict state)
    {
        foreach (var entry in state)
            Check(entry);
        var order = state.OrderByDescending(entry => DataTypes.SizeOf(entry.Value.DType)).ToList();
        var begins = new Dictionary<string, long>(StringComparer.Ordinal);
        var at = 0L;
        foreach (var (key, tensor) in order)
        {
            begins.Add(key, at);
            at += tensor.Bytes.Length;
        }

        return new SafetensorsLayout(Write(state, begins), [.. order.Select(entry => entry.Value)], at);
    }

    private static void Check(KeyValuePair<string, TensorData> entry)
    {
        if (entry.Value.KeptId is not null || entry.Value.IsNone)
            throw new ArgumentException($"'{entry.Key}' is {entry.Value}; a state dict is loaded from tensors whose elements are here.");
        if (entry.Key == "__metadata__" || NameOf(entry.Value.DType) is null)
            throw new ArgumentException($"'{entry.Key}', {entry.Value}, cannot be held by the safetensors format that shared memory is loaded from; LoadStateDictAsync takes it.");
    }

    private static byte[] Write(StateDict state, Dictionary<string, long> begins)
    {
        using var stream = new MemoryStream();
        stream.Write(stackalloc byte[sizeof(long)]);
        using (var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping })) // unsafe in HTML only
        {
            json.WriteStartObject();
            foreach (var (key, tensor) in state)
            {
                json.WriteStartObject(key);
                json.WriteString("dtype", NameOf(tensor.DType));
                json.WriteStartArray("shape");
                foreach (var size in tensor.Shape)
                    json.WriteNumberValue(size);
                json.WriteEndArray();
                json.WriteStartArray("data_offsets");
                json.WriteNumberValue(begins[key]);
                json.WriteNumberValue(begins[key] + tensor.Bytes.Length);
                json.WriteEndArray();
                json.WriteEndObject();
            }

            json.WriteEndObject();
        }

        while (stream.Length % Alignment != 0)
            stream.WriteByte((byte)' ');
        var header = stream.ToArray();
        BinaryPrimitives.WriteInt64LittleEndian(header, header.Length - sizeof(long));
        return header;
    }

    private static string? NameOf(DataType dtype) => dtype switch
    {
        DataType.Float64 => "F64",
        DataType.Float32 => "F32",
        DataType.Float16 => "F16",
        DataType.Bfloat16 => "BF16",
        DataType.Int64 => "I64",
        DataType.Int32 => "I32",
        DataType.Int16 => "I16",
        DataType.Int8 => "I8",
        DataType.Uint8 => "U8",
        DataType.Bool => "BOOL",
        DataType.Complex64 => "C64",
        _ => null,
    };
}
