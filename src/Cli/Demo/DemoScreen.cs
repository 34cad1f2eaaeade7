using Sconce.Cli.Terminal;
using Spectre.Console;

namespace Sconce.Cli.Demo;

/// <summary>How the demo looks: a heading for each step, its lines below it.</summary>
internal sealed class DemoScreen(CommandTerminal terminal)
{
    /// <summary>Columns left free before the lines of a step.</summary>
    public const int Indent = 2;

    /// <summary>The step that is being taken.</summary>
    public string Step { get; private set; } = "";

    public void Begin(string step, string about = "")
    {
        if (Step.Length > 0)
            terminal.Out.WriteLine();
        Step = step;
        // Without colours a colon keeps the two apart.
        var separator = terminal.IsLive ? "  " : ": ";
        terminal.Out.MarkupLine($"[bold aqua]{Markup.Escape(step)}[/]{(about.Length == 0 ? "" : $"{separator}[grey]{Markup.Escape(about)}[/]")}");
    }

    /// <summary>Prints a line; where the screen is too narrow, what follows begins below its first letter.</summary>
    public void Line(string text)
    {
        var content = text.TrimStart();
        terminal.Out.Write(new Padder(new Text(content), new Padding(Indent + text.Length - content.Length, 0, 0, 0)));
    }

    public void End(DemoReport report)
    {
        terminal.Out.WriteLine();
        terminal.Out.MarkupLine($"[bold green]Done[/] in {report.TotalSeconds:0} s, all of it through the client. Next:");
        terminal.Out.WriteLine("  sconce serve                           the server, on your own");
        terminal.Out.WriteLine("  sconce create mlp --mlp 784,128,10     a module");
        terminal.Out.WriteLine("  sconce --help                          the rest");
    }
}
