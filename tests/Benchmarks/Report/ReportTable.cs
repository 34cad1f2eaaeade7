using System.Globalization;
using Spectre.Console;

namespace Sconce.Benchmarks.Report;

/// <summary>The table that the benchmark prints.</summary>
internal static class ReportTable
{
    /// <summary>On narrower terminals the quartiles are left out; the JSON file has them.</summary>
    private const int WideFrom = 100;

    /// <summary>Prints the machine and the rows, claims first.</summary>
    public static void Print(IAnsiConsole console, Machine machine, IReadOnlyList<Row> rows)
    {
        foreach (var line in machine.Lines())
        {
            console.WriteLine(line);
        }

        console.WriteLine();
        var claims = rows.Where(row => row.Target is not null).ToList();
        var figures = rows.Where(row => row.Target is null).ToList();
        var wide = console.Profile.Width >= WideFrom;
        Print(console, wide, "claim", claims, ["target", ""], row =>
            [$"{row.Target!.Op} {Number(row.Target.Value)}", row.Ok == true ? "[green]ok[/]" : "[red]missed[/]"]);
        foreach (var row in claims.Where(row => row.Note is not null))
        {
            console.WriteLine($"{row.Name}: {row.Note}");
        }

        console.WriteLine();
        Print(console, wide, "figure", figures, [], _ => []);
    }

    private static void Print(IAnsiConsole console, bool wide, string title, List<Row> rows, string[] more, Func<Row, string[]> moreCells)
    {
        if (rows.Count == 0)
        {
            return;
        }

        var table = new Table().Border(TableBorder.Simple);
        string[] columns = [title, "value", .. wide ? ["quartiles"] : Array.Empty<string>(), "unit", .. more];
        foreach (var column in columns)
        {
            table.AddColumn(new TableColumn(column) { NoWrap = true, Alignment = column is "value" or "quartiles" ? Justify.Right : Justify.Left });
        }

        foreach (var row in rows)
        {
            table.AddRow([Markup.Escape(row.Name), Number(row.Value), .. wide ? [Quartiles(row)] : Array.Empty<string>(), row.Unit, .. moreCells(row)]);
        }

        console.Write(table);
    }

    private static string Quartiles(Row row) => row.Quartiles is { } q ? $"{Number(q.Low)} – {Number(q.High)}" : "";

    private static string Number(double value) => Math.Abs(value) switch
    {
        >= 1000 => value.ToString("N0", CultureInfo.InvariantCulture),
        >= 100 => value.ToString("0", CultureInfo.InvariantCulture),
        >= 10 => value.ToString("0.0", CultureInfo.InvariantCulture),
        _ => value.ToString("0.00", CultureInfo.InvariantCulture),
    };
}
