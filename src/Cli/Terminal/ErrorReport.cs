using Grpc.Core;
using Sconce.Client;
using Sconce.Server;
using Spectre.Console;

namespace Sconce.Cli.Terminal;

/// <summary>Turns what went wrong into a message on standard error and an exit code.</summary>
internal static class ErrorReport
{
    public static int Write(CommandTerminal terminal, Exception error, bool json, bool interrupted)
    {
        var (exit, code) = Classify(error, interrupted);
        var server = error as SconceException;
        if (json)
        {
            terminal.Error.Profile.Out.Writer.WriteLine(CommandTerminal.ToJson(new
            {
                error = new
                {
                    code,
                    message = MessageOf(error, exit),
                    reason = server?.Reason,
                    fields = server?.Fields.Select(field => new { field.Path, field.Description }),
                    exit,
                },
            }, indented: false));
            return exit;
        }

        terminal.Error.MarkupLineInterpolated($"[red]{code}[/]: {MessageOf(error, exit)}");
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

    private static (int Exit, string Code) Classify(Exception error, bool interrupted) => error switch
    {
        OperationCanceledException or SconceException { StatusCode: StatusCode.Cancelled } when interrupted => (ExitCode.Cancelled, "interrupted"),
        UsageException => (ExitCode.Usage, "sconce"),
        ConfigurationException => (ExitCode.Config, "configuration"),
        SconceUnavailableException or NoServerException => (ExitCode.Unavailable, "UNAVAILABLE"),
        SconceException e => (ExitCode.Refused, NameOf(e.StatusCode)),
        OperationCanceledException => (ExitCode.Refused, "CANCELLED"),
        _ => (ExitCode.Refused, "sconce"),
    };

    private static string MessageOf(Exception error, int exit) => error switch
    {
        _ when exit == ExitCode.Cancelled => "stopped at your request.",
        SconceException or NoServerException or UsageException or ConfigurationException or OperationCanceledException => error.Message,
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
