using System.Text.Json;
using Sconce.Client;
using Sconce.V1;

namespace Sconce.Cli.Running;

/// <summary>Reads nested lists of numbers, as torch.tensor does: all whole is int64, all true/false is bool, anything else float32.</summary>
internal static class TensorJson
{
    private const int MaxRank = 60; // below System.Text.Json's own limit on nesting

    /// <exception cref="UsageException">Not JSON, or not rectangular; the message says where.</exception>
    public static TensorData Parse(string text, DataType? dtype, string source)
    {
        JsonDocument document;
        try
        {
            document = JsonDocument.Parse(text);
        }
        catch (JsonException e)
        {
            throw new UsageException($"{source}: not JSON: {e.Message}", e);
        }

        using (document)
        {
            var shape = new List<long>();
            for (var inner = document.RootElement; inner.ValueKind == JsonValueKind.Array; inner = inner[0])
            {
                shape.Add(inner.GetArrayLength());
                if (shape.Count > MaxRank)
                    throw new UsageException($"{source}: lists are nested more than {MaxRank} deep.");
                if (inner.GetArrayLength() == 0)
                    break;
            }

            var elements = new List<JsonElement>();
            Collect(document.RootElement, shape, 0, "", elements, source);
            var type = dtype ?? Infer(elements);
            // Doubles hold whole numbers up to 2^53 only.
            return type == DataType.Int64
                ? TensorElements.FromWholes([.. shape], elements.ConvertAll(element => ToWhole(element, source)))
                : TensorElements.FromDoubles(type, [.. shape], elements.ConvertAll(element => ToDouble(element, source)));
        }
    }

    private static void Collect(JsonElement element, List<long> shape, int depth, string path, List<JsonElement> elements, string source)
    {
        if (depth == shape.Count)
        {
            if (element.ValueKind == JsonValueKind.Array)
                throw new UsageException($"{source}: {Where(path)} is a list; by the first items, the tensor is [{string.Join(", ", shape)}].");
            elements.Add(element);
            return;
        }

        if (element.ValueKind != JsonValueKind.Array)
            throw new UsageException($"{source}: {Where(path)} is {element.GetRawText()}; expected a list of {shape[depth]}.");
        if (element.GetArrayLength() != shape[depth])
            throw new UsageException($"{source}: {Where(path)} has {element.GetArrayLength()} items; by the first items, the tensor is [{string.Join(", ", shape)}].");
        var i = 0;
        foreach (var item in element.EnumerateArray())
            Collect(item, shape, depth + 1, $"{path}[{i++}]", elements, source);
    }

    private static DataType Infer(List<JsonElement> elements)
    {
        if (elements.Count > 0 && elements.TrueForAll(element => element.ValueKind is JsonValueKind.True or JsonValueKind.False))
            return DataType.Bool;
        return elements.Count > 0 && elements.TrueForAll(element => element.ValueKind == JsonValueKind.Number && element.TryGetInt64(out _))
            ? DataType.Int64
            : DataType.Float32;
    }

    private static long ToWhole(JsonElement element, string source)
    {
        if (element.ValueKind != JsonValueKind.Number)
            return TensorElements.Whole<long>(ToDouble(element, source));
        if (element.TryGetInt64(out var whole))
            return whole;
        // "5.0" and "5e3" are whole too. A decimal has digits enough for any int64; what is beyond it is no int64 either.
        return element.TryGetDecimal(out var value) ? TensorElements.Whole<long>(value) : TensorElements.Whole<long>(element.GetDouble());
    }

    private static double ToDouble(JsonElement element, string source) => element.ValueKind switch
    {
        JsonValueKind.Number => element.GetDouble(),
        JsonValueKind.True => 1,
        JsonValueKind.False => 0,
        JsonValueKind.String when element.GetString() is "NaN" or "nan" => double.NaN,
        JsonValueKind.String when element.GetString() is "Infinity" or "inf" => double.PositiveInfinity,
        JsonValueKind.String when element.GetString() is "-Infinity" or "-inf" => double.NegativeInfinity,
        _ => throw new UsageException($"{source}: {element.GetRawText()} is not a number (\"NaN\", \"Infinity\" and \"-Infinity\" are)."),
    };

    private static string Where(string path) => path.Length == 0 ? "the whole" : path;
}
