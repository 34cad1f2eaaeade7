using System.Globalization;

namespace Sconce.Engine.Catalog;

/// <summary>Writes values as Python's repr does.</summary>
internal static class PythonFormat
{
    public static string Bool(bool value) => value ? "True" : "False";

    public static string Tuple(IReadOnlyList<long> items) =>
        items.Count == 1 ? string.Create(CultureInfo.InvariantCulture, $"({Int(items[0])},)") : $"({string.Join(", ", items.Select(Int))})";

    public static string Tuple(IReadOnlyList<double> items) =>
        items.Count == 1 ? $"({Float(items[0])},)" : $"({string.Join(", ", items.Select(Float))})";

    private static string Int(long value) => value == Argument.NoneItem ? "None" : value.ToString(CultureInfo.InvariantCulture);

    /// <summary>The shortest digits that read back the same; an exponent below 1e-4 and from 1e16 on, of at least two digits.</summary>
    public static string Float(double value)
    {
        if (!double.IsFinite(value))
        {
            return double.IsNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
        }

        var magnitude = Math.Abs(value);
        if (magnitude != 0 && (magnitude < 1e-4 || magnitude >= 1e16))
        {
            var scientific = value.ToString("E16", CultureInfo.InvariantCulture);
            for (var digits = 0; digits < 17; digits++)
            {
                scientific = value.ToString("E" + digits.ToString(CultureInfo.InvariantCulture), CultureInfo.InvariantCulture);
                if (double.Parse(scientific, CultureInfo.InvariantCulture) == value)
                {
                    break;
                }
            }

            var at = scientific.IndexOf('E', StringComparison.Ordinal);
            var exponent = int.Parse(scientific.AsSpan(at + 1), CultureInfo.InvariantCulture);
            return string.Create(CultureInfo.InvariantCulture, $"{scientific.AsSpan(0, at)}e{(exponent < 0 ? '-' : '+')}{Math.Abs(exponent):00}");
        }

        var text = value.ToString("R", CultureInfo.InvariantCulture);
        return text.Contains('E', StringComparison.Ordinal) ? ((decimal)value).ToString("0.0", CultureInfo.InvariantCulture)
            : text.Contains('.', StringComparison.Ordinal) ? text : text + ".0";
    }
}
