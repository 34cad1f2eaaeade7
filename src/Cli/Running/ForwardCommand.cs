using System.CommandLine;
using System.Text.Json.Nodes;
using Sconce.Cli.Data;
using Sconce.Cli.Terminal;
using Sconce.Client;
using Sconce.V1;

namespace Sconce.Cli.Running;

internal sealed class ForwardCommand : ClientCommand
{
    private readonly Argument<string> _module = CommonSymbols.Module();
    private readonly Argument<string[]> _inputs = new("input") { Description = TensorSource.Help, Arity = ArgumentArity.ZeroOrMore };
    private readonly Option<string[]> _named = CommonSymbols.Arguments("--input", "An input by name, e.g. attn_mask=mask.npy. May be repeated.");
    private readonly Option<string> _path = CommonSymbols.Path();
    private readonly Option<string?> _dtype = new("--dtype") { Description = "Dtype of JSON, random and raw inputs; otherwise int64, bool or float32 as JSON shows.", HelpName = "dtype" };
    private readonly Option<string?> _shape = new("--shape") { Description = "Shape of raw inputs, e.g. 1x784.", HelpName = "shape" };
    private readonly Option<int> _seed = new("--seed") { Description = "Seed of random inputs.", HelpName = "n", DefaultValueFactory = _ => 0 };
    private readonly Option<string?> _output = new("--output", "-o") { Description = "Write the output to this .npy file instead of printing its values.", HelpName = "file" };

    public ForwardCommand(CommandTerminal terminal)
        : base(
            terminal,
            "forward",
            "Calls a module and prints what it returns.",
            "sconce forward mlp random:2x784",
            "sconce forward tiny '[[1.0, 2.0, 3.0, 4.0]]' --json",
            "sconce forward cnn data/fashion-mnist/t10k-images-idx3-ubyte.gz -o logits.npy")
    {
        Arguments.Add(_module);
        Arguments.Add(_inputs);
        Options.Add(_named);
        Options.Add(_path);
        Options.Add(_dtype);
        Options.Add(_shape);
        Options.Add(_seed);
        Options.Add(_output);
    }

    protected override async Task<int> RunAsync(ParseResult parsed, SconceClient client, CancellationToken cancel)
    {
        var inputs = await ReadInputsAsync(parsed, cancel).ConfigureAwait(false);
        var module = client.Module(parsed.GetValue(_module)!).GetSubmodule(parsed.GetValue(_path)!);
        var value = await module.ForwardAsync(inputs, cancellationToken: cancel).ConfigureAwait(false);
        if (parsed.GetValue(_output) is { } file)
        {
            NpyFile.Write(file, value.IsTuple ? throw new UsageException($"The module returned a tuple, {value}; an npy file holds one tensor: print it instead.") : value.Tensor);
            if (WantsJson(parsed))
                Terminal.Json(new { generation = value.Generation, output = file });
            else
                Terminal.Output.WriteLine($"{value} written to {file}");
        }
        else if (WantsJson(parsed))
        {
            Terminal.Json(new JsonObject { ["generation"] = value.Generation, ["output"] = ToJson(value) });
        }
        else
        {
            Print(value, "");
        }

        return ExitCode.Ok;
    }

    private async Task<Inputs> ReadInputsAsync(ParseResult parsed, CancellationToken cancel)
    {
        var dtype = parsed.GetValue(_dtype) is { } name ? CommonSymbols.ParseType(name) : (DataType?)null;
        var shape = parsed.GetValue(_shape) is { } text ? TensorSource.ParseShape(text) : null;
        var random = new Random(parsed.GetValue(_seed));
        var positional = new List<TensorData>();
        foreach (var source in parsed.GetValue(_inputs) ?? [])
            positional.Add(await TensorSource.ReadAsync(source, dtype, shape, random, Terminal.ReadInputAsync, cancel).ConfigureAwait(false));
        var inputs = Inputs.Create([.. positional]);
        foreach (var named in parsed.GetValue(_named)!)
        {
            var equals = named.IndexOf('=', StringComparison.Ordinal);
            if (equals <= 0)
                throw new UsageException($"--input is '{named}'; it must be name=input.");
            var tensor = await TensorSource.ReadAsync(named[(equals + 1)..], dtype, shape, random, Terminal.ReadInputAsync, cancel).ConfigureAwait(false);
            if (inputs.Named.ContainsKey(named[..equals]))
                throw new UsageException($"--input {named[..equals]} is given twice.");
            inputs = inputs.With(named[..equals], tensor);
        }

        return inputs;
    }

    private void Print(RemoteValue value, string name)
    {
        if (value.IsTuple)
        {
            for (var i = 0; i < value.Items.Count; i++)
                Print(value[i], $"{name}[{i}]");
            return;
        }

        Terminal.Output.WriteLine(name.Length == 0 ? value.Tensor.ToString() : $"{name} {value.Tensor}");
        Terminal.Output.WriteLine(TensorText.Format(value.Tensor));
    }

    private static JsonNode ToJson(RemoteValue value) => value.IsTuple
        ? new JsonArray([.. value.Items.Select(ToJson)])
        : new JsonObject
        {
            ["dtype"] = DataTypes.NameOf(value.Tensor.DType),
            ["shape"] = new JsonArray([.. value.Tensor.Shape.Select(size => JsonValue.Create(size))]),
            ["values"] = TensorText.ToJson(value.Tensor),
        };
}
