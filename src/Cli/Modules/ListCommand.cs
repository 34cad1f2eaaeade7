using System.CommandLine;
using Sconce.Cli.Terminal;
using Sconce.Client;
using Spectre.Console;

namespace Sconce.Cli.Modules;

internal sealed class ListCommand : ClientCommand
{
    private readonly Argument<string> _prefix = new("prefix") { Description = "Only names that begin with this.", DefaultValueFactory = _ => "" };

    public ListCommand(CommandTerminal terminal)
        : base(terminal, "ls", "Lists the modules that the server holds.", "sconce ls", "sconce ls resnet --json")
        => Arguments.Add(_prefix);

    protected override async Task<int> RunAsync(ParseResult parsed, SconceClient client, CancellationToken cancel)
    {
        var modules = await client.ListModulesAsync(parsed.GetValue(_prefix)!, cancel).ConfigureAwait(false);
        if (WantsJson(parsed))
        {
            Terminal.Json(modules.Select(ModuleSummary.Of));
            return ExitCode.Ok;
        }

        if (modules.Count == 0)
        {
            Terminal.Error.WriteLine("No modules. Make one: sconce create mlp --mlp 784,128,10");
            return ExitCode.Ok;
        }

        var table = Listing.Of("NAME", "TYPE", "MODE", ">PARAMETERS", ">SIZE", "DEVICE", ">GENERATION", "OPTIMIZERS");
        foreach (var module in modules)
        {
            table.AddRow(
                Markup.Escape(module.Name),
                Markup.Escape(module.Type),
                module.Training ? "train" : "eval",
                Quantities.Count((long)module.Parameters),
                Quantities.Bytes((long)module.Bytes),
                Markup.Escape(module.Device),
                Quantities.Count((long)module.Generation),
                module.Optimizers.Count == 0 ? "-" : Markup.Escape(string.Join(", ", module.Optimizers)));
        }

        Terminal.Out.Write(table);
        return ExitCode.Ok;
    }
}
