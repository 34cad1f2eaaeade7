using System.Text;
using System.Text.Json;
using System.Text.Unicode;
using Sconce.Client;
using Sconce.V1;

namespace Sconce.Cli.State;

/// <summary>One tensor of a safetensors file: where its bytes lie in the file's data section.</summary>
internal sealed record SafetensorsEntry(string Key, DataType DType, IReadOnlyList<long> Shape, long Begin, long End);

/// <summary>
/// The header of a safetensors file (https://github.com/huggingface/safetensors#format), read strictly: what the format forbids is refused, and
/// so is what its reference reader lets by (repeated keys, control characters in names, tensors in array form, more than 64 dimensions).
/// </summary>
internal static class SafetensorsHeader
{
    public const int MaxBytes = 100_000_000;
    private const int MaxTensors = 1_000_000;
    private const int MaxNameLength = 4096;
    private const int MaxRank = 64;
    private const int MaxNesting = 8;

    private static readonly (string Name, DataType DType)[] Types =
    [
        ("F32", DataType.Float32), ("F64", DataType.Float64), ("F16", DataType.Float16), ("BF16", DataType.Bfloat16), ("U8", DataType.Uint8),
        ("I8", DataType.Int8), ("I16", DataType.Int16), ("I32", DataType.Int32), ("I64", DataType.Int64), ("BOOL", DataType.Bool), ("C64", DataType.Complex64),
    ];

    /// <summary>The format's name of a dtype.</summary>
    /// <exception cref="UsageException">The format has none.</exception>
    public static string NameOf(DataType dtype, string key)
        => Array.Find(Types, type => type.DType == dtype).Name
            ?? throw new UsageException($"'{key}' is {DataTypes.NameOf(dtype)}, which the safetensors format cannot hold.");

    /// <summary>Reads the JSON of a header; the entries are in the order of the JSON.</summary>
    /// <param name="json">The header's bytes.</param>
    /// <param name="dataBytes">Bytes that follow the header in the file.</param>
    /// <exception cref="FormatException">The header is not one; the message says why.</exception>
    public static IReadOnlyList<SafetensorsEntry> Parse(ReadOnlySpan<byte> json, long dataBytes)
    {
        if (json.IsEmpty || json[0] != '{')
            throw new FormatException("the header does not begin with '{'");
        // Utf8JsonReader looks at a string's bytes only when the string is asked for, and names that are skipped never are.
        if (!Utf8.IsValid(json))
            throw new FormatException("the header is not UTF-8");
        try
        {
            var reader = new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = MaxNesting });
            reader.Read();
            var entries = ReadTensors(ref reader);
            reader.Read(); // throws on anything but white space behind the object
            CheckLayout(entries, dataBytes);
            return entries;
        }
        catch (JsonException e)
        {
            throw new FormatException($"the header is not JSON: {e.Message}", e);
        }
        catch (InvalidOperationException e)
        {
            // What GetString throws for an escaped half of a surrogate pair.
            throw new FormatException($"the header holds text that is not Unicode: {e.Message}", e);
        }
    }

    private static List<SafetensorsEntry> ReadTensors(ref Utf8JsonReader reader)
    {
        var entries = new List<SafetensorsEntry>();
        var keys = new HashSet<string>(StringComparer.Ordinal);
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var key = reader.GetString()!;
            if (!keys.Add(key))
                throw new FormatException($"'{Quote(key)}' is there twice");
            reader.Read();
            if (key == "__metadata__")
            {
                CheckMetadata(ref reader);
                continue;
            }

            if (key.Length == 0 || key.Length > MaxNameLength || key.Any(char.IsControl))
                throw new FormatException($"'{Quote(key)}' is no name for a tensor: 1 to {MaxNameLength} characters, none of them a control character");
            if (entries.Count == MaxTensors)
                throw new FormatException($"there are more than {MaxTensors} tensors");
            entries.Add(ReadTensor(ref reader, key));
        }

        return entries;
    }

    private static void CheckMetadata(ref Utf8JsonReader reader)
    {
        if (reader.TokenType == JsonTokenType.Null)
            return;
        if (reader.TokenType != JsonTokenType.StartObject)
            throw new FormatException("__metadata__ is not an object of strings");
        var keys = new HashSet<string>(StringComparer.Ordinal);
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var key = reader.GetString()!;
            if (!keys.Add(key))
                throw new FormatException($"__metadata__ holds '{Quote(key)}' twice");
            reader.Read();
            if (reader.TokenType != JsonTokenType.String)
                throw new FormatException($"__metadata__'s '{Quote(key)}' is not a string");
            _ = reader.GetString();
        }
    }

    private static SafetensorsEntry ReadTensor(ref Utf8JsonReader reader, string key)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
            throw new FormatException($"'{Quote(key)}' is not an object");
        DataType? dtype = null;
        List<long>? shape = null, offsets = null;
        var fields = new HashSet<string>(StringComparer.Ordinal);
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var field = reader.GetString()!;
            if (!fields.Add(field))
                throw new FormatException($"'{Quote(key)}' holds '{Quote(field)}' twice");
            reader.Read();
            switch (field)
            {
                case "dtype":
                    dtype = ReadType(ref reader, key);
                    break;
                case "shape":
                    shape = ReadIntegers(ref reader, key, field, MaxRank);
                    break;
                case "data_offsets":
                    offsets = ReadIntegers(ref reader, key, field, 2);
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        if (dtype is null || shape is null || offsets is not { Count: 2 })
            throw new FormatException($"'{Quote(key)}' lacks its dtype, its shape or its two data_offsets");
        var bytes = (Int128)DataTypes.SizeOf(dtype.Value);
        foreach (var size in shape)
        {
            bytes *= size;
            if (bytes > long.MaxValue)
                throw new FormatException($"'{Quote(key)}' has the shape [{string.Join(", ", shape)}], more than 2^63 bytes");
        }

        if (offsets[1] < offsets[0] || offsets[1] - offsets[0] != bytes)
        {
            throw new FormatException($"'{Quote(key)}' is {DataTypes.NameOf(dtype.Value)}[{string.Join(", ", shape)}], {bytes} bytes, but its data_offsets are [{offsets[0]}, {offsets[1]}]");
        }

        return new SafetensorsEntry(key, dtype.Value, shape, offsets[0], offsets[1]);
    }

    private static DataType ReadType(ref Utf8JsonReader reader, string key)
    {
        var name = reader.TokenType == JsonTokenType.String ? reader.GetString() : null;
        var found = Array.FindIndex(Types, type => type.Name == name);
        return found >= 0
            ? Types[found].DType
            : throw new FormatException($"'{Quote(key)}' has the dtype '{Quote(name ?? "(not a string)")}'; known are {string.Join(", ", Types.Select(type => type.Name))}");
    }

    private static List<long> ReadIntegers(ref Utf8JsonReader reader, string key, string field, int most)
    {
        if (reader.TokenType != JsonTokenType.StartArray)
            throw new FormatException($"'{Quote(key)}': {field} is not an array");
        var values = new List<long>();
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            // "-0" would parse as 0.
            if (reader.TokenType != JsonTokenType.Number || reader.ValueSpan[0] == '-' || !reader.TryGetInt64(out var value))
                throw new FormatException($"'{Quote(key)}': {field} holds something other than whole numbers from 0 to 2^63-1");
            if (values.Count == most)
                throw new FormatException($"'{Quote(key)}': {field} holds more than {most} numbers");
            values.Add(value);
        }

        return values;
    }

    /// <summary>In order of offset the tensors begin at 0, leave no hole, never overlap, and end where the file does.</summary>
    private static void CheckLayout(List<SafetensorsEntry> entries, long dataBytes)
    {
        long at = 0;
        foreach (var entry in entries.OrderBy(entry => entry.Begin).ThenBy(entry => entry.End))
        {
            if (entry.Begin != at)
                throw new FormatException($"'{Quote(entry.Key)}' begins at byte {entry.Begin} of the data, where byte {at} is next: a hole or an overlap");
            at = entry.End;
        }

        if (at != dataBytes)
            throw new FormatException($"its tensors take {at} bytes, but {dataBytes} follow the header: the file is {(at > dataBytes ? "cut short" : "longer than it says")}");
    }

    /// <summary>A name from the file, safe to print.</summary>
    private static string Quote(string text)
    {
        var quoted = new StringBuilder();
        foreach (var c in text.Length > 80 ? text[..80] : text)
            quoted.Append(char.IsControl(c) || char.IsSurrogate(c) ? $"\\u{(int)c:x4}" : c.ToString());
        return text.Length > 80 ? quoted.Append('…').ToString() : quoted.ToString();
    }
}
