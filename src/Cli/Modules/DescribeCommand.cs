using System.CommandLine;
using System.Text.Json.Nodes;
using Sconce.Cli.Terminal;
using Sconce.Client;
using Sconce.V1;
using Spectre.Console;

namespace Sconce.Cli.Modules;

internal sealed class DescribeCommand : ClientCommand
{
    private readonly Argument<string> _module = CommonSymbols.Module();
    private readonly Option<string> _path = CommonSymbols.Path();
    private readonly Option<bool> _tensors = new("--tensors", "-t") { Description = "List every parameter and buffer too." };

    public DescribeCommand(CommandTerminal terminal)
        : base(terminal, "describe", "Prints a module as PyTorch prints it, and what is in it.", "sconce describe mlp", "sconce describe resnet --path layer1.0 --tensors")
    {
        Arguments.Add(_module);
        Options.Add(_path);
        Options.Add(_tensors);
    }

    protected override async Task<int> RunAsync(ParseResult parsed, SconceClient client, CancellationToken cancel)
    {
        var module = client.Module(parsed.GetValue(_module)!).GetSubmodule(parsed.GetValue(_path)!);
        var description = await module.DescribeAsync(cancel).ConfigureAwait(false);
        if (WantsJson(parsed))
        {
            Terminal.Json(new
            {
                module = ModuleSummary.Of(description.Module),
                description.Repr,
                train_policy = new
                {
                    norm_eval = description.TrainPolicy?.NormEval ?? false,
                    frozen = (IReadOnlyList<string>)[.. description.TrainPolicy?.Frozen ?? []],
                    rules = (description.TrainPolicy?.Rules ?? []).Select(rule => new { path = rule.Path, hold = Hold(rule.Hold), requires_grad = rule.HasRequiresGrad ? rule.RequiresGrad : (bool?)null }),
                },
                root = ToJson(description.Root),
            });
            return ExitCode.Ok;
        }

        Terminal.Output.WriteLine(description.Repr);
        Terminal.Output.WriteLine();
        var summary = description.Module;
        Terminal.Output.WriteLine(
            $"{Quantities.Count((long)summary.Parameters)} parameters, {Quantities.Bytes((long)summary.Bytes)} on {summary.Device}, {(summary.Training ? "training" : "eval")} mode, generation {summary.Generation}");
        if (summary.Optimizers.Count > 0)
            Terminal.Output.WriteLine($"optimizers: {string.Join(", ", summary.Optimizers)}");
        if (description.TrainPolicy is { Frozen.Count: > 0 } policy)
            Terminal.Output.WriteLine($"frozen: {string.Join(", ", policy.Frozen)}");
        foreach (var rule in description.TrainPolicy?.Rules ?? [])
            Terminal.Output.WriteLine($"held: {Describe(rule)}");
        if (description.TrainPolicy is { NormEval: true })
            Terminal.Output.WriteLine("batch norm stays in eval mode (norm_eval)");
        if (parsed.GetValue(_tensors))
            WriteTensors(description.Root);
        return ExitCode.Ok;
    }

    private void WriteTensors(ModuleNode root)
    {
        var table = Listing.Of("TENSOR", "DTYPE", "SHAPE", "KIND");
        AddTensors(root, "");
        Terminal.Output.WriteLine();
        Terminal.Out.Write(table);

        void AddTensors(ModuleNode node, string prefix)
        {
            foreach (var tensor in node.Parameters)
                Add(prefix, tensor, tensor.RequiresGrad || tensor.IsNone ? "parameter" : "parameter, frozen");
            foreach (var tensor in node.Buffers)
                Add(prefix, tensor, tensor.Persistent ? "buffer" : "buffer, not in state_dict");
            foreach (var child in node.Children)
                AddTensors(child, $"{prefix}{child.Name}.");
        }

        void Add(string prefix, TensorInfo tensor, string kind)
        {
            var shape = tensor.IsNone ? "" : $"[{string.Join(", ", tensor.Shape)}]";
            table.AddRow(
                Markup.Escape(prefix + tensor.Name), tensor.IsNone ? "None" : DataTypes.NameOf(tensor.Dtype), Markup.Escape(shape), Markup.Escape(tensor.AliasOf.Length == 0 ? kind : $"{kind}, the same as {tensor.AliasOf}"));
        }
    }

    private static string? Hold(TrainHold hold) => hold switch { TrainHold.Train => "train", TrainHold.Eval => "eval", _ => null };

    private static string Describe(TrainRule rule)
    {
        var holds = new[] { Hold(rule.Hold), rule.HasRequiresGrad ? $"requires_grad={(rule.RequiresGrad ? "True" : "False")}" : null };
        return $"{(rule.Path.Length == 0 ? "the module" : rule.Path)} ({string.Join(", ", holds.OfType<string>())})";
    }

    private static JsonObject ToJson(ModuleNode node) => new()
    {
        ["name"] = node.Name,
        ["path"] = node.Path,
        ["type"] = node.Type,
        ["extra_repr"] = node.ExtraRepr,
        ["training"] = node.Training,
        ["hold"] = Hold(node.Hold),
        ["alias_of"] = node.AliasOf,
        ["parameters"] = new JsonArray([.. node.Parameters.Select(ToJson)]),
        ["buffers"] = new JsonArray([.. node.Buffers.Select(ToJson)]),
        ["children"] = new JsonArray([.. node.Children.Select(ToJson)]),
    };

    private static JsonObject ToJson(TensorInfo tensor) => new()
    {
        ["name"] = tensor.Name,
        ["dtype"] = tensor.IsNone ? null : DataTypes.NameOf(tensor.Dtype),
        ["shape"] = new JsonArray([.. tensor.Shape.Select(size => JsonValue.Create(size))]),
        ["requires_grad"] = tensor.RequiresGrad,
        ["persistent"] = tensor.Persistent,
        ["has_grad"] = tensor.HasGrad,
        ["is_none"] = tensor.IsNone,
        ["alias_of"] = tensor.AliasOf,
    };
}
