using System.Text.Json;
using Spectre.Console;

namespace Sconce.Cli.Terminal;

/// <summary>Where a command writes: results to standard output, everything else to standard error. Colours only where a person looks.</summary>
internal sealed class CommandTerminal
{
    private static readonly JsonSerializerOptions Compact = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        NumberHandling = System.Text.Json.Serialization.JsonNumberHandling.AllowNamedFloatingPointLiterals,
    };

    private static readonly JsonSerializerOptions Indented = new(Compact) { WriteIndented = true };

    /// <param name="output">Standard output.</param>
    /// <param name="error">Standard error.</param>
    /// <param name="input">Standard input.</param>
    public CommandTerminal(TextWriter output, TextWriter error, TextReader input)
    {
        Output = output;
        Input = input;
        Out = Create(output);
        Error = Create(error);
    }

    /// <summary>Standard output, with markup.</summary>
    public IAnsiConsole Out { get; }

    /// <summary>Standard error, with markup.</summary>
    public IAnsiConsole Error { get; }

    /// <summary>Standard output as it is: nothing is wrapped at the width of the screen.</summary>
    public TextWriter Output { get; }

    /// <summary>Standard input.</summary>
    public TextReader Input { get; }

    /// <summary>Whether lines on standard output can be redrawn: progress bars are drawn then, and plain lines printed otherwise.</summary>
    public bool IsLive => Out.Profile.Out.IsTerminal && Out.Profile.Capabilities.Ansi;

    /// <summary>Reads standard input to its end. The console's own asynchronous reads block their caller, and could not be cancelled.</summary>
    public Task<string> ReadInputAsync(CancellationToken cancel) => Task.Run(Input.ReadToEnd, CancellationToken.None).WaitAsync(cancel);

    /// <summary>The terminal of this process.</summary>
    public static CommandTerminal OfProcess() => new(Console.Out, Console.Error, Console.In);

    /// <summary>Prints one JSON document: indented for a person, on one line for a program.</summary>
    public void Json<T>(T value) => Output.WriteLine(ToJson(value, Out.Profile.Out.IsTerminal));

    /// <summary>A value as JSON with snake_case names.</summary>
    public static string ToJson<T>(T value, bool indented) => JsonSerializer.Serialize(value, indented ? Indented : Compact);

    private static IAnsiConsole Create(TextWriter writer)
    {
        var console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(writer) });
        if (!console.Profile.Out.IsTerminal)
        {
            // Without a terminal there is no width to keep to: tables and messages stay on their lines.
            console.Profile.Width = 10_000;
            console.Profile.Capabilities.Ansi = false;
            console.Profile.Capabilities.ColorSystem = ColorSystem.NoColors;
            console.Profile.Capabilities.Interactive = false;
        }

        return console;
    }
}
