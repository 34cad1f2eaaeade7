using System.CommandLine;
using Sconce.Cli.Running;
using Sconce.Cli.Terminal;
using Sconce.Client;
using Sconce.V1;
using Spectre.Console;

namespace Sconce.Cli.State;

/// <summary>The verbs over state dicts: <c>state ls</c>, <c>state get</c> and <c>state load</c>.</summary>
internal sealed class StateCommand : Command
{
    public StateCommand(CommandTerminal terminal)
        : base("state", "Lists, saves and loads a module's weights, as safetensors files.")
    {
        Subcommands.Add(new ListVerb(terminal));
        Subcommands.Add(new GetVerb(terminal));
        Subcommands.Add(new LoadVerb(terminal));
    }

    private sealed class ListVerb : ClientCommand
    {
        private readonly Argument<string> _module = CommonSymbols.Module();
        private readonly Option<string> _path = CommonSymbols.Path();

        public ListVerb(CommandTerminal terminal)
            : base(terminal, "ls", "Lists the keys of a state dict with dtype, shape and norm.", "sconce state ls mlp")
        {
            Arguments.Add(_module);
            Options.Add(_path);
        }

        protected override async Task<int> RunAsync(ParseResult parsed, SconceClient client, CancellationToken cancel)
        {
            var state = await client.Module(parsed.GetValue(_module)!).GetSubmodule(parsed.GetValue(_path)!).StateDictAsync(cancellationToken: cancel).ConfigureAwait(false);
            if (WantsJson(parsed))
            {
                Terminal.Json(new
                {
                    state.Generation,
                    state.TotalBytes,
                    entries = state.Select(entry => new { entry.Key, dtype = DataTypes.NameOf(entry.Value.DType), entry.Value.Shape, norm = Norm(entry.Value) }),
                });
                return ExitCode.Ok;
            }

            var table = Listing.Of("KEY", "DTYPE", "SHAPE", ">NORM");
            foreach (var (key, tensor) in state)
                table.AddRow(Markup.Escape(key), DataTypes.NameOf(tensor.DType), Markup.Escape($"[{string.Join(", ", tensor.Shape)}]"), FormattableString.Invariant($"{Norm(tensor):0.0000}"));
            Terminal.Out.Write(table);
            Terminal.Output.WriteLine($"{state.Count} tensors, {Quantities.Bytes(state.TotalBytes)}, generation {state.Generation}");
            return ExitCode.Ok;
        }

        private static double Norm(TensorData tensor)
        {
            var complex = tensor.DType is DataType.Complex64 or DataType.Complex128;
            double sum = 0;
            for (var i = 0; i < tensor.Length; i++)
                sum += Math.Pow(TensorElements.ToDouble(tensor, i), 2) + (complex ? Math.Pow(TensorElements.Imaginary(tensor, i), 2) : 0);
            return Math.Sqrt(sum);
        }
    }

    private sealed class GetVerb : ClientCommand
    {
        private readonly Argument<string> _module = CommonSymbols.Module();
        private readonly Option<string> _path = CommonSymbols.Path();
        private readonly Option<string> _output = new("--output", "-o") { Description = "The .safetensors file to write.", HelpName = "file", Required = true };
        private readonly Option<string[]> _keys = new("--key") { Description = "Only keys that match, * and ? as wildcards. May be repeated.", HelpName = "pattern", DefaultValueFactory = _ => [] };

        public GetVerb(CommandTerminal terminal)
            : base(terminal, "get", "Saves a module's state dict to a safetensors file.", "sconce state get mlp -o mlp.safetensors")
        {
            Arguments.Add(_module);
            Options.Add(_path);
            Options.Add(_output);
            Options.Add(_keys);
        }

        protected override async Task<int> RunAsync(ParseResult parsed, SconceClient client, CancellationToken cancel)
        {
            var file = parsed.GetValue(_output)!;
            var state = await client.Module(parsed.GetValue(_module)!).GetSubmodule(parsed.GetValue(_path)!).StateDictAsync(parsed.GetValue(_keys)!, cancel).ConfigureAwait(false);
            SafetensorsFile.Write(file, [.. state]);
            if (WantsJson(parsed))
                Terminal.Json(new { state.Generation, tensors = state.Count, state.TotalBytes, file });
            else
                Terminal.Output.WriteLine($"{state.Count} tensors, {Quantities.Bytes(state.TotalBytes)}, generation {state.Generation} written to {file}");
            return ExitCode.Ok;
        }
    }

    private sealed class LoadVerb : ClientCommand
    {
        private readonly Argument<string> _module = CommonSymbols.Module();
        private readonly Option<string> _path = CommonSymbols.Path();
        private readonly Option<string> _input = new("--input", "-i") { Description = "The .safetensors file to read.", HelpName = "file", Required = true };
        private readonly Option<bool> _lenient = new("--no-strict") { Description = "Allow keys that are missing or that the module lacks." };

        public LoadVerb(CommandTerminal terminal)
            : base(terminal, "load", "Loads a safetensors file into a module: all of it or nothing.", "sconce state load mlp -i mlp.safetensors")
        {
            Arguments.Add(_module);
            Options.Add(_path);
            Options.Add(_input);
            Options.Add(_lenient);
        }

        protected override async Task<int> RunAsync(ParseResult parsed, SconceClient client, CancellationToken cancel)
        {
            var file = parsed.GetValue(_input)!;
            var state = new StateDict(SafetensorsFile.Read(file));
            var module = client.Module(parsed.GetValue(_module)!).GetSubmodule(parsed.GetValue(_path)!);
            var loaded = await module.LoadStateDictAsync(state, !parsed.GetValue(_lenient), cancel).ConfigureAwait(false);
            var tensors = state.Count - loaded.UnexpectedKeys.Count;
            if (WantsJson(parsed))
            {
                Terminal.Json(new { loaded.Generation, tensors, missing_keys = loaded.MissingKeys.ToArray(), unexpected_keys = loaded.UnexpectedKeys.ToArray() });
                return ExitCode.Ok;
            }

            Terminal.Output.WriteLine($"{tensors} tensors loaded into {module}, now at generation {loaded.Generation}");
            if (loaded.MissingKeys.Count > 0)
                Terminal.Output.WriteLine($"not in the file: {string.Join(", ", loaded.MissingKeys)}");
            if (loaded.UnexpectedKeys.Count > 0)
                Terminal.Output.WriteLine($"not in the module: {string.Join(", ", loaded.UnexpectedKeys)}");
            return ExitCode.Ok;
        }
    }
}
