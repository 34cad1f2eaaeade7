using System.Text.Json;
using System.Text.Json.Serialization;

namespace Sconce.Benchmarks.Report;

/// <summary>The file that <c>--json</c> writes.</summary>
internal static class JsonReport
{
    private static readonly JsonSerializerOptions Options = new(JsonSerializerDefaults.Web)
    {
        WriteIndented = true,
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping, // the file is read as JSON, never as HTML
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
    };

    /// <summary>Writes the report whole or not at all.</summary>
    public static void Write(string path, Machine machine, IEnumerable<Row> rows)
    {
        var results = rows.Select(row => new Entry(
            row.Name, Round(row.Value), row.Unit, row.Target?.Value, row.Target?.Op, row.Ok,
            row.Quartiles is { } quartiles ? [Round(quartiles.Low), Round(quartiles.High)] : null, row.Note));
        var temporary = path + ".tmp";
        File.WriteAllText(temporary, JsonSerializer.Serialize(new { machine, results }, Options) + "\n");
        File.Move(temporary, path, overwrite: true);
    }

    /// <summary>Four significant digits: more would only be noise.</summary>
    private static double Round(double value) =>
        value == 0 || !double.IsFinite(value) ? value : Math.Round(value, Math.Clamp(3 - (int)Math.Floor(Math.Log10(Math.Abs(value))), 0, 15));

    private sealed record Entry(string Name, double Value, string Unit, double? Target, string? Op, bool? Ok, double[]? Quartiles, string? Note);
}
