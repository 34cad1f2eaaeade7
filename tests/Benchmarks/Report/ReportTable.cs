using System.Globalization;
using Spectre.Console;

namespace Sconce.Benchmarks.Report;

/// <summary>The table that the benchmark prints.</summary>
internal static class ReportTable
{
    /// <summary>Prints the machine and the rows, claims first.</summary>
    public static void Print(IAnsiConsole console, Machine machine, IReadOnlyList<Row> rows)
    {
        foreach (var line in machine.Lines())
        {
            console.WriteLine(line);
        }

        console.WriteLine();
        var claims = rows.Where(row => row.Target is not null).ToList();
        if (claims.Count > 0)
        {
            var table = NewTable("claim", "value", "quartiles", "unit", "target", "");
            foreach (var row in claims)
            {
                table.AddRow(
                    Markup.Escape(row.Name), Number(row.Value), Quartiles(row), row.Unit,
                    $"{row.Target!.Op} {Number(row.Target.Value)}", row.Ok == true ? "[green]ok[/]" : "[red]missed[/]");
            }

            console.Write(table);
        }

        var figures = rows.Where(row => row.Target is null).ToList();
        if (figures.Count > 0)
        {
            var table = NewTable("figure", "value", "quartiles", "unit");
            foreach (var row in figures)
            {
                table.AddRow(Markup.Escape(row.Name), Number(row.Value), Quartiles(row), row.Unit);
            }

            console.Write(table);
        }
    }

    private static Table NewTable(params string[] columns)
    {
        var table = new Table().Border(TableBorder.Simple);
        foreach (var column in columns)
        {
            table.AddColumn(new TableColumn(column) { NoWrap = true, Alignment = column is "value" or "quartiles" ? Justify.Right : Justify.Left });
        }

        return table;
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
