using System.CommandLine;
using Sconce.Cli.Terminal;
using Sconce.Client;

namespace Sconce.Cli.Modules;

internal sealed class ApplyCommand : ClientCommand
{
    private readonly Argument<string> _module = CommonSymbols.Module();
    private readonly Argument<string> _function = new("function") { Description = "An initialiser of torch.nn.init, e.g. xavier_uniform_ or fill_, or reset_parameters." };
    private readonly Option<string> _path = CommonSymbols.Path();
    private readonly Option<string[]> _args = CommonSymbols.Arguments("--arg", "Argument of the function by PyTorch's name; the value is JSON or a word. May be repeated.");
    private readonly Option<string> _type = Filter("--type", "Only submodules of exactly this type.", "type");
    private readonly Option<string> _isInstance = Filter("--isinstance", "Only submodules of this type or one derived from it, e.g. _ConvNd.", "type");
    private readonly Option<string> _glob = Filter("--glob", "Only submodules whose path matches; * and ? are wildcards.", "pattern");
    private readonly Option<string[]> _parameters = new("--parameter") { Description = "Only parameters of this name, e.g. weight. May be repeated.", HelpName = "name", DefaultValueFactory = _ => [] };
    private readonly Option<long?> _seed = new("--seed") { Description = "Seed for this call.", HelpName = "n" };

    public ApplyCommand(CommandTerminal terminal)
        : base(terminal, "apply", "Applies an initialiser to submodules, children first, and shows each visit.",
            "sconce apply net fill_ --arg val=1.0 --type Linear --parameter weight", "sconce apply net kaiming_normal_ --isinstance _ConvNd --parameter weight --seed 0")
    {
        Arguments.Add(_module);
        Arguments.Add(_function);
        foreach (var option in new Option[] { _path, _args, _type, _isInstance, _glob, _parameters, _seed })
            Options.Add(option);
    }

    protected override async Task<int> RunAsync(ParseResult parsed, SconceClient client, CancellationToken cancel)
    {
        var module = client.Module(parsed.GetValue(_module)!).GetSubmodule(parsed.GetValue(_path)!);
        var filter = new ApplyFilter
        {
            Type = parsed.GetValue(_type)!,
            IsInstance = parsed.GetValue(_isInstance)!,
            Glob = parsed.GetValue(_glob)!,
            Parameters = parsed.GetValue(_parameters)!,
        };
        var args = CommonSymbols.ParseArguments("--arg", parsed.GetValue(_args)!);
        var outcome = await module.ApplyAsync(parsed.GetValue(_function)!, args, filter, parsed.GetValue(_seed), cancel).ConfigureAwait(false);
        if (WantsJson(parsed))
        {
            Terminal.Json(new
            {
                module = ModuleSummary.Of(outcome.Module),
                visits = outcome.Visits.Select(visit => new { path = visit.Path, repr = visit.Repr, applied = visit.Applied }),
            });
            return ExitCode.Ok;
        }

        foreach (var visit in outcome.Visits)
            Terminal.Output.WriteLine($"{(visit.Applied ? "applied" : "visited")} {(visit.Path.Length == 0 ? "" : visit.Path + ": ")}{visit.Repr}");
        return ExitCode.Ok;
    }

    private static Option<string> Filter(string name, string description, string help) =>
        new(name) { Description = description, HelpName = help, DefaultValueFactory = _ => "" };
}
