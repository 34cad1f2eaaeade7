using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using Sconce.Client;
using Sconce.V1;

namespace Sconce.Cli.Running;

/// <summary>Writes tensors for people, much as PyTorch prints them, and for programs, as nested lists.</summary>
internal static class TensorText
{
    private const int Threshold = 1000;
    private const int Edge = 3;
    private const int MaxOnLine = 8;

    /// <summary>The values in brackets; of a large tensor only the edges.</summary>
    public static string Format(TensorData tensor)
    {
        if (tensor.Length == 0)
            return "[]";
        var cut = tensor.Length > Threshold;
        var width = Visible(tensor, cut).Max(index => Element(tensor, index).Length);
        var text = new StringBuilder();
        Append(text, tensor, 0, 0, cut, width);
        return text.ToString();
    }

    /// <summary>Every value, as JSON.</summary>
    public static JsonNode ToJson(TensorData tensor)
    {
        var at = 0;
        return Build(0);

        JsonNode Build(int dimension)
        {
            if (dimension == tensor.Shape.Length)
                return ToJson(tensor, at++);
            var items = new JsonArray();
            for (long i = 0; i < tensor.Shape[dimension]; i++)
                items.Add(Build(dimension + 1));
            return items;
        }
    }

    private static JsonNode ToJson(TensorData tensor, int index)
    {
        var value = TensorElements.ToDouble(tensor, index);
        return tensor.DType switch
        {
            DataType.Bool => JsonValue.Create(value != 0),
            DataType.Complex64 or DataType.Complex128 => new JsonArray(Number(value), Number(TensorElements.Imaginary(tensor, index))),
            // The shortest digits that give the same float back, not those of its double.
            DataType.Float32 when float.IsFinite((float)value) => JsonValue.Create((float)value),
            DataType.Int64 => JsonValue.Create(tensor.As<long>().Span[index]),
            _ => Number(value),
        };
    }

    private static JsonValue Number(double value)
        => double.IsFinite(value) ? JsonValue.Create(value) : JsonValue.Create(double.IsNaN(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");

    private static void Append(StringBuilder text, TensorData tensor, int dimension, long offset, bool cut, int width)
    {
        if (dimension == tensor.Shape.Length)
        {
            text.Append(Element(tensor, (int)offset).PadLeft(width));
            return;
        }

        var size = tensor.Shape[dimension];
        var stride = 1L;
        for (var i = dimension + 1; i < tensor.Shape.Length; i++)
            stride *= tensor.Shape[i];
        var innermost = dimension == tensor.Shape.Length - 1;
        var column = 0;
        text.Append('[');
        for (long i = 0; i < size; i++)
        {
            if (i > 0)
            {
                text.Append(',');
                if (!innermost)
                    text.Append('\n', Math.Max(1, tensor.Shape.Length - dimension - 1)).Append(' ', dimension + 1);
                else if (++column % MaxOnLine == 0)
                    text.Append('\n').Append(' ', dimension + 1);
                else
                    text.Append(' ');
            }

            if (cut && size > 2 * Edge && i == Edge)
            {
                text.Append("...");
                i = size - Edge - 1;
                continue;
            }

            Append(text, tensor, dimension + 1, offset + (i * stride), cut, width);
        }

        text.Append(']');
    }

    private static IEnumerable<int> Visible(TensorData tensor, bool cut)
    {
        // Only the leading and trailing elements are measured in a cut tensor; a wider one between them merely sticks out.
        return cut ? Enumerable.Range(0, Edge).Concat(Enumerable.Range((int)tensor.Length - Edge, Edge)) : Enumerable.Range(0, (int)tensor.Length);
    }

    private static string Element(TensorData tensor, int index)
    {
        var value = TensorElements.ToDouble(tensor, index);
        return tensor.DType switch
        {
            DataType.Bool => value != 0 ? "True" : "False",
            DataType.Complex64 or DataType.Complex128 => $"{Real(value)}{(TensorElements.Imaginary(tensor, index) < 0 ? "" : "+")}{Real(TensorElements.Imaginary(tensor, index))}j",
            DataType.Float32 or DataType.Float64 or DataType.Float16 or DataType.Bfloat16 => Real(value),
            DataType.Int64 => tensor.As<long>().Span[index].ToString(CultureInfo.InvariantCulture),
            _ => value.ToString(CultureInfo.InvariantCulture),
        };
    }

    private static string Real(double value)
    {
        var magnitude = Math.Abs(value);
        return value.ToString(magnitude is 0 or (>= 1e-3 and < 1e5) || !double.IsFinite(value) ? "0.0000" : "0.0000e+00", CultureInfo.InvariantCulture);
    }
}
