using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using System.Text.RegularExpressions;
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
internal static partial class SconceCommand
{
    /// <summary>Runs one command line.</summary>
    /// <returns>The exit code: see <see cref="ExitCode"/>.</returns>
    public static async Task<int> RunAsync(string[] args, CommandTerminal terminal)
    {
        // "sconce", "sconce help" and "sconce help create" are what people try first.
        if (args is [] or ["help", ..])
            args = [.. args.Skip(1), "--help"];
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
            new SnapshotCommand(terminal),
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
        var command = parsed.CommandResult.Command;
        // The demo's --json is a file for its results.
        var json = command is not DemoCommand && parsed.Tokens.Any(token => token.Value == "--json");
        var help = "--help";
        for (var at = command; at is not RootCommand; at = at.Parents.OfType<Command>().Single())
            help = $"{at.Name} {help}";
        return ErrorReport.WriteUsage(terminal, [.. parsed.Errors.Select(error => InPlainWords(error.Message)).Distinct()], $"sconce {help}", json);
    }

    /// <summary>The library names .NET's types where a value does not parse.</summary>
    private static string InPlainWords(string message)
    {
        if (UnparsedValue().Match(message) is not { Success: true } match)
            return message;
        var type = match.Groups["type"].Value;
        var expected = type.Contains("Int", StringComparison.Ordinal) ? "a whole number within range"
            : type.Contains("Double", StringComparison.Ordinal) ? "a number"
            : type.Contains("Boolean", StringComparison.Ordinal) ? "true or false"
            : "another kind of value";
        return $"{match.Groups["name"].Value} is '{match.Groups["value"].Value}'; it must be {expected}.";
    }

    [GeneratedRegex(@"^Cannot parse argument '(?<value>.*)' for (option|argument|command) '(?<name>[^']+)' as expected type '(?<type>[^']+)'\.", RegexOptions.Singleline)]
    private static partial Regex UnparsedValue();

    /// <summary>The library's help, then the command's examples.</summary>
    private sealed class ExampleHelpAction(SynchronousCommandLineAction inner) : SynchronousCommandLineAction
    {
        public override bool ClearsParseErrors => inner.ClearsParseErrors;

        public override int Invoke(ParseResult parseResult)
        {
            var code = inner.Invoke(parseResult);
            var output = parseResult.InvocationConfiguration.Output;
            if (parseResult.CommandResult.Command is RootCommand)
            {
                output.WriteLine("In a source checkout, ./sconce also has:");
                output.WriteLine("  test    Builds everything and runs the tests; arguments go to dotnet test.");
                output.WriteLine("  soak    Runs the tests of kills, files and races for hours instead of seconds; --help tells more.");
                output.WriteLine("  bench   Measures the service beside a bare gRPC method; --help tells more.");
                output.WriteLine();
                output.WriteLine("Examples:");
                output.WriteLine("  sconce demo                            # the whole service on real data, in about 20 s once built");
                output.WriteLine("  sconce serve &");
                output.WriteLine("  sconce create mlp --mlp 784,128,10");
                output.WriteLine("  sconce forward mlp random:1x784");
                output.WriteLine();
                output.WriteLine("Exit codes:");
                output.WriteLine("  " + ExitCode.Help);
                output.WriteLine();
            }
            else if (ExamplesOf(parseResult.CommandResult.Command) is { Count: > 0 } examples)
            {
                output.WriteLine(examples.Count == 1 ? "Example:" : "Examples:");
                foreach (var example in examples)
                    output.WriteLine("  " + example);
                output.WriteLine();
            }

            return code;
        }

        // A group of verbs (state) shows those of its verbs.
        private static List<string> ExamplesOf(Command command) =>
            [.. (command as CliCommand)?.Examples ?? [], .. command.Subcommands.SelectMany(ExamplesOf)];
    }
}
