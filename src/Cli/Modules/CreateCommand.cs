using System.CommandLine;
using System.Globalization;
using Sconce.Cli.Terminal;
using Sconce.Client;
using Sconce.V1;

namespace Sconce.Cli.Modules;

internal sealed class CreateCommand : ClientCommand
{
    private readonly Argument<string> _module = CommonSymbols.Module();

    private readonly Argument<string?> _spec = new("spec")
    {
        Description = "File with a spec in JSON, or - for standard input. Instead of it: --type, or --mlp.",
        Arity = ArgumentArity.ZeroOrOne,
    };

    private readonly Option<string?> _type = new("--type") { Description = "One module of this type of torch.nn, or a built-in model such as resnet18, with its --arg values.", HelpName = "type" };
    private readonly Option<string[]> _args = CommonSymbols.Arguments("--arg", "Constructor argument by PyTorch's name; the value is JSON or a word. May be repeated.");
    private readonly Option<string?> _mlp = new("--mlp") { Description = "A perceptron with these layer sizes and ReLU between them.", HelpName = "sizes" };
    private readonly Option<long?> _seed = new("--seed") { Description = "Seed for the initial values.", HelpName = "n" };
    private readonly Option<string?> _dtype = new("--dtype") { Description = "Floating dtype of parameters and buffers; float32 if not given.", HelpName = "dtype" };

    public CreateCommand(CommandTerminal terminal)
        : base(
            terminal,
            "create",
            "Builds a module on the server from a spec.",
            "sconce create mlp --mlp 784,128,10 --seed 0",
            "sconce create conv --type Conv2d --arg in_channels=1 --arg out_channels=8 --arg kernel_size=3",
            "sconce create net --type resnet18 --arg num_classes=10",
            """echo '{"type": "Sequential", "children": [{"spec": {"type": "Linear", "args": {"in_features": 4, "out_features": 2}}}]}' | sconce create net -""")
    {
        Arguments.Add(_module);
        Arguments.Add(_spec);
        Options.Add(_type);
        Options.Add(_args);
        Options.Add(_mlp);
        Options.Add(_seed);
        Options.Add(_dtype);
        _type.Validators.Add(result => CommonSymbols.RefuseEmpty(result, "--type", "a type of torch.nn, e.g. Linear"));
        Validators.Add(result =>
        {
            var sources = new object?[] { result.GetValue(_spec), result.GetValue(_type), result.GetValue(_mlp) }.Count(source => source is not null);
            if (sources != 1)
                result.AddError($"A spec is wanted once: a file, - for standard input, --type, or --mlp; {(sources == 0 ? "none" : sources)} given.");
            else if (result.GetValue(_type) is null && result.GetValue(_args) is { Length: > 0 })
                result.AddError("--arg belongs to --type.");
        });
    }

    protected override async Task<int> RunAsync(ParseResult parsed, SconceClient client, CancellationToken cancel)
    {
        var spec = await ReadSpecAsync(parsed, cancel).ConfigureAwait(false);
        var dtype = parsed.GetValue(_dtype) is { } name ? CommonSymbols.ParseType(name) : (DataType?)null;
        var module = await client.CreateModuleAsync(parsed.GetValue(_module)!, spec, parsed.GetValue(_seed), dtype, cancel).ConfigureAwait(false);
        var description = await module.DescribeAsync(cancel).ConfigureAwait(false);
        if (WantsJson(parsed))
        {
            Terminal.Json(ModuleSummary.Of(description.Module));
            return ExitCode.Ok;
        }

        Terminal.Output.WriteLine(description.Repr);
        Terminal.Output.WriteLine($"created {module.Name}: {Quantities.Count((long)description.Module.Parameters)} parameters, {Quantities.Bytes((long)description.Module.Bytes)} on {description.Module.Device}");
        return ExitCode.Ok;
    }

    private async Task<ModuleSpec> ReadSpecAsync(ParseResult parsed, CancellationToken cancel)
    {
        if (parsed.GetValue(_type) is { } type)
            return Nn.Module(type, CommonSymbols.ParseArguments("--arg", parsed.GetValue(_args)!));
        if (parsed.GetValue(_mlp) is { } sizes)
            return Perceptron(sizes);
        var source = parsed.GetValue(_spec)!;
        var text = source == "-" ? await Terminal.ReadInputAsync(cancel).ConfigureAwait(false) : await CommonSymbols.ReadTextAsync(source, cancel).ConfigureAwait(false);
        try
        {
            return Nn.Parse(text);
        }
        catch (FormatException e)
        {
            throw new UsageException($"{(source == "-" ? "standard input" : source)}: {e.Message}", e);
        }
    }

    private static ModuleSpec Perceptron(string text)
    {
        var sizes = text.Split(',', StringSplitOptions.TrimEntries)
            .Select(size => int.TryParse(size, NumberStyles.None, CultureInfo.InvariantCulture, out var value) && value > 0
                ? value
                : throw new UsageException($"--mlp is '{text}'; it must be sizes such as 784,128,10, each a whole number > 0."))
            .ToArray();
        if (sizes.Length < 2)
            throw new UsageException($"--mlp is '{text}'; it must have at least an input and an output size, e.g. 784,10.");
        var layers = new List<ModuleSpec>();
        for (var i = 1; i < sizes.Length; i++)
        {
            if (i > 1)
                layers.Add(Nn.ReLU());
            layers.Add(Nn.Linear(sizes[i - 1], sizes[i]));
        }

        return Nn.Sequential(layers);
    }
}
