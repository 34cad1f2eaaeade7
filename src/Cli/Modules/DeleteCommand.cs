using System.CommandLine;
using Sconce.Cli.Terminal;
using Sconce.Client;

namespace Sconce.Cli.Modules;

internal sealed class DeleteCommand : ClientCommand
{
    private readonly Argument<string> _module = CommonSymbols.Module();

    public DeleteCommand(CommandTerminal terminal)
        : base(terminal, "delete", "Deletes a module, with its optimizers and graphs.", "sconce delete mlp")
        => Arguments.Add(_module);

    protected override async Task<int> RunAsync(ParseResult parsed, SconceClient client, CancellationToken cancel)
    {
        var name = parsed.GetValue(_module)!;
        await client.Module(name).DeleteAsync(cancel).ConfigureAwait(false);
        if (WantsJson(parsed))
            Terminal.Json(new { deleted = name });
        else
            Terminal.Output.WriteLine($"deleted {name}");
        return ExitCode.Ok;
    }
}
