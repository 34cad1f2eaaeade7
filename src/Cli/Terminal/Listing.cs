using Spectre.Console;

namespace Sconce.Cli.Terminal;

/// <summary>Tables without lines: columns two spaces apart, as ls and its kin print them.</summary>
internal static class Listing
{
    /// <summary>A table with these headings; one that begins with ">" is a column of numbers, set to the right.</summary>
    public static Table Of(params ReadOnlySpan<string> headings)
    {
        var table = new Table().Border(TableBorder.None);
        foreach (var heading in headings)
        {
            var number = heading.StartsWith('>');
            table.AddColumn(new TableColumn($"[bold]{Markup.Escape(number ? heading[1..] : heading)}[/]")
            {
                Alignment = number ? Justify.Right : Justify.Left,
                Padding = new Padding(0, 0, 2, 0),
                NoWrap = true,
            });
        }

        return table;
    }
}
