using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using Sconce.Cli.Demo;
using Sconce.Cli.Modules;
using Sconce.Cli.Running;
using Sconce.Cli.Serving;
using Sconce.Cli.State;
using Sconce.Cli.Terminal;
using Sconce.Cli.Training;
using Spectre.Console;

namespace Sconce.Cli;

/// <summary>The <c>sconce</c> command: its verbs, its help and its exit code.</summary>
internal static class SconceCommand
{
    /// <summary>Runs one command line.</summary>
    /// <returns>The exit code: see <see cref="ExitCode"/>.</returns>
    public static async Task<int> RunAsync(string[] args, CommandTerminal terminal)
    {
        var parsed = Build(terminal).Parse(args);
        if (parsed.Action is ParseErrorAction)
            return RefuseUsage(parsed, terminal);
        return await parsed.InvokeAsync(new InvocationConfiguration
        {
            Output = terminal.Output,
            Error = terminal.Error.Profile.Out.Writer,
            EnableDefaultExceptionHandler = false,
            // Signals are the commands' own: the server drains on SIGTERM far longer than the library would wait.
            ProcessTerminationTimeout = null,
        }).ConfigureAwait(false);
    }

    private static RootCommand Build(CommandTerminal terminal)
    {
        var root = new RootCommand("Hosts live PyTorch modules behind gRPC: serve them, run them, train them.")
        {
            new DemoCommand(terminal),
            new ServeCommand(terminal),
            new ListCommand(terminal),
            new DescribeCommand(terminal),
            new CreateCommand(terminal),
            new ForwardCommand(terminal),
            new TrainCommand(terminal),
            new ToCommand(terminal),
            new ApplyCommand(terminal),
            new StateCommand(terminal),
            new DeleteCommand(terminal),
            new VersionCommand(terminal),
        };
        Complete(root);
        // `sconce version` also asks the server, which the library's option cannot.
        root.Options.Remove(root.Options.OfType<VersionOption>().Single());
        var help = root.Options.OfType<HelpOption>().Single();
        help.Action = new ExampleHelpAction((SynchronousCommandLineAction)help.Action!);
        return root;
    }

    private static void Complete(Command command)
    {
        (command as ClientCommand)?.AddConnectionOptions();
        foreach (var argument in command.Arguments)
        {
            // The library takes an option that it does not know for an argument: "ls --jsno" would list names that begin with "--jsno".
            argument.Validators.Add(result =>
            {
                foreach (var token in result.Tokens.Where(token => token.Value.StartsWith("--", StringComparison.Ordinal)))
                    result.AddError($"{token.Value} is not an option of '{command.Name}'.");
            });
        }

        foreach (var subcommand in command.Subcommands)
            Complete(subcommand);
    }

    private static int RefuseUsage(ParseResult parsed, CommandTerminal terminal)
    {
        foreach (var error in parsed.Errors)
            terminal.Error.MarkupLineInterpolated($"[red]{error.Message}[/]");
        terminal.Error.WriteLine();
        var help = parsed.RootCommandResult.Command.Options.OfType<HelpOption>().Single();
        // The help of the command that was meant, on standard error: standard output belongs to results.
        parsed.InvocationConfiguration.Output = terminal.Error.Profile.Out.Writer;
        ((SynchronousCommandLineAction)help.Action!).Invoke(parsed);
        return ExitCode.Usage;
    }

    /// <summary>The library's help, then the command's examples.</summary>
    private sealed class ExampleHelpAction(SynchronousCommandLineAction inner) : SynchronousCommandLineAction
    {
        public override bool ClearsParseErrors => inner.ClearsParseErrors;

        public override int Invoke(ParseResult parseResult)
        {
            var code = inner.Invoke(parseResult);
            var output = parseResult.InvocationConfiguration.Output;
            if (parseResult.CommandResult.Command is CliCommand { Examples.Count: > 0 } command)
            {
                output.WriteLine(command.Examples.Count == 1 ? "Example:" : "Examples:");
                foreach (var example in command.Examples)
                    output.WriteLine("  " + example);
                output.WriteLine();
            }
            else if (parseResult.CommandResult.Command is RootCommand)
            {
                output.WriteLine("Examples:");
                output.WriteLine("  sconce demo                            # the whole service on real data, in about half a minute");
                output.WriteLine("  sconce serve &");
                output.WriteLine("  sconce create mlp --mlp 784,128,10");
                output.WriteLine("  sconce forward mlp random:1x784");
                output.WriteLine();
                output.WriteLine("Exit codes:");
                output.WriteLine("  " + ExitCode.Help);
                output.WriteLine();
            }

            return code;
        }
    }
}
