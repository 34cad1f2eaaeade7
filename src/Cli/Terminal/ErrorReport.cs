using Grpc.Core;
using Sconce.Client;
using Sconce.Server;
using Spectre.Console;

namespace Sconce.Cli.Terminal;

/// <summary>Turns what went wrong into a message on standard error and an exit code.</summary>
internal static class ErrorReport
{
    // What is this program's own and no status of the server's.
    private const string Usage = "USAGE";
    private const string Unexpected = "UNEXPECTED";

    public static int Write(CommandTerminal terminal, Exception error, bool json, bool interrupted)
    {
        var (exit, code) = Classify(error, interrupted);
        var message = MessageOf(error, exit);
        var server = error as SconceException;
        if (json)
        {
            WriteJson(terminal, code, message, server?.Reason, server?.Fields ?? [], exit);
            return exit;
        }

        terminal.Error.MarkupLineInterpolated($"[red]{(code is Usage or Unexpected ? "sconce" : code)}[/]: {message}");
        // The field paths, unless the message says no more than they do.
        foreach (var field in server?.Fields ?? [])
        {
            if (!error.Message.Contains(field.Path, StringComparison.Ordinal) || !error.Message.Contains(field.Description, StringComparison.Ordinal))
                terminal.Error.MarkupLineInterpolated($"  [red]{field.Path}[/]: {field.Description}");
        }

        foreach (var condition in server?.Conditions ?? [])
        {
            if (!error.Message.Contains(condition.Description, StringComparison.Ordinal))
                terminal.Error.MarkupLineInterpolated($"  [red]{condition.Subject}[/]: {condition.Description}");
        }

        return exit;
    }

    /// <summary>What is wrong with a command line, which the parser says in a sentence or several.</summary>
    public static int WriteUsage(CommandTerminal terminal, IReadOnlyList<string> errors, string help, bool json)
    {
        if (json)
        {
            WriteJson(terminal, Usage, string.Join(' ', errors), null, [], ExitCode.Usage);
            return ExitCode.Usage;
        }

        foreach (var error in errors)
            terminal.Error.MarkupLineInterpolated($"[red]sconce[/]: {error}");
        terminal.Error.MarkupLineInterpolated($"\"{help}\" shows what it takes, with examples.");
        return ExitCode.Usage;
    }

    private static void WriteJson(CommandTerminal terminal, string code, string message, string? reason, IReadOnlyList<FieldViolation> fields, int exit) =>
        terminal.Error.Profile.Out.Writer.WriteLine(CommandTerminal.ToJson(
            new { error = new { code, message, reason, fields = fields.Select(field => new { field.Path, field.Description }), exit } }, indented: false));

    private static (int Exit, string Code) Classify(Exception error, bool interrupted) => error switch
    {
        OperationCanceledException or SconceException { StatusCode: StatusCode.Cancelled } when interrupted => (ExitCode.Cancelled, "INTERRUPTED"),
        UsageException or IOException or UnauthorizedAccessException => (ExitCode.Usage, Usage),
        ConfigurationException => (ExitCode.Config, "CONFIGURATION"),
        SconceUnavailableException or NoServerException => (ExitCode.Unavailable, "UNAVAILABLE"),
        SconceException e => (ExitCode.Refused, NameOf(e.StatusCode)),
        OperationCanceledException => (ExitCode.Refused, "CANCELLED"),
        _ => (ExitCode.Refused, Unexpected),
    };

    private static string MessageOf(Exception error, int exit) => error switch
    {
        _ when exit == ExitCode.Cancelled => "stopped at your request.",
        SconceException or NoServerException or UsageException or ConfigurationException or OperationCanceledException => error.Message,
        // Files are the commands' own to tell of; what is left is the output: a full disk, or closed.
        IOException or UnauthorizedAccessException => $"standard output cannot be written: {error.GetBaseException().Message}",
        // Anything else is a fault of this program: its type helps whoever reports it.
        _ => $"unexpected {error.GetType().Name}: {error.Message}",
    };

    /// <summary>The name that gRPC's own documents use, e.g. INVALID_ARGUMENT.</summary>
    private static string NameOf(StatusCode code)
    {
        var name = code.ToString();
        return string.Concat(name.Select((c, i) => i > 0 && char.IsUpper(c) ? "_" + c : char.ToUpperInvariant(c).ToString()));
    }
}
