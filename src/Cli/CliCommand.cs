using System.CommandLine;
using System.Runtime.InteropServices;
using Sconce.Cli.Terminal;

namespace Sconce.Cli;

/// <summary>One verb: its errors become messages and exit codes, its examples are shown by its help, and Ctrl-C cancels it.</summary>
internal abstract class CliCommand : Command
{
    protected CliCommand(CommandTerminal terminal, string name, string description, params IReadOnlyList<string> examples)
        : base(name, description)
    {
        Terminal = terminal;
        Examples = examples;
        SetAction(InvokeAsync);
    }

    /// <summary>Command lines that show what it is for.</summary>
    public IReadOnlyList<string> Examples { get; }

    protected CommandTerminal Terminal { get; }

    /// <summary>Whether errors are to be JSON too.</summary>
    protected virtual bool WantsJson(ParseResult parsed) => false;

    /// <summary>Whether SIGINT and SIGTERM cancel the command; false where it handles them itself.</summary>
    protected virtual bool CancelledBySignals => true;

    protected abstract Task<int> RunAsync(ParseResult parsed, CancellationToken cancel);

    private async Task<int> InvokeAsync(ParseResult parsed, CancellationToken cancel)
    {
        using var stopping = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        using var interrupt = CancelledBySignals ? PosixSignalRegistration.Create(PosixSignal.SIGINT, OnSignal) : null;
        using var terminate = CancelledBySignals ? PosixSignalRegistration.Create(PosixSignal.SIGTERM, OnSignal) : null;
        try
        {
            return await RunAsync(parsed, stopping.Token).ConfigureAwait(false);
        }
#pragma warning disable CA1031 // The last resort of a command: a person sees one line, not a stack trace.
        catch (Exception e)
#pragma warning restore CA1031
        {
            return ErrorReport.Write(Terminal, e, WantsJson(parsed), stopping.IsCancellationRequested);
        }

        void OnSignal(PosixSignalContext context)
        {
            // The second one is for whoever does not want to wait for a clean end.
            context.Cancel = !stopping.IsCancellationRequested;
            stopping.Cancel();
        }
    }
}
