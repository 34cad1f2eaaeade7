using System.CommandLine;
using Sconce.Cli.Running;
using Sconce.Cli.Terminal;
using Sconce.Client;
using Sconce.V1;
using Spectre.Console;

namespace Sconce.Cli.State;

/// <summary>The verbs over state dicts: <c>state ls</c>, <c>state get</c>, <c>state load</c> and <c>state files</c>.</summary>
internal sealed class StateCommand : Command
{
    public StateCommand(CommandTerminal terminal)
        : base("state", "Lists, saves and loads a module's weights, as safetensors files.")
    {
        Subcommands.Add(new ListVerb(terminal));
        Subcommands.Add(new StateGetCommand(terminal));
        Subcommands.Add(new StateLoadCommand(terminal));
        Subcommands.Add(new FilesVerb(terminal));
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

    private sealed class FilesVerb : ClientCommand
    {
        private readonly Option<string> _prefix = new("--prefix") { Description = "Only names that begin with this.", HelpName = "text", DefaultValueFactory = _ => "" };

        public FilesVerb(CommandTerminal terminal)
            : base(terminal, "files", "Lists the files of weights on the server that state load --server-file can load.", "sconce state files") =>
            Options.Add(_prefix);

        protected override async Task<int> RunAsync(ParseResult parsed, SconceClient client, CancellationToken cancel)
        {
            var files = await client.ListModelFilesAsync(parsed.GetValue(_prefix)!, cancel).ConfigureAwait(false);
            if (WantsJson(parsed))
            {
                Terminal.Json(files.Select(file => new { file.Name, file.Bytes, format = NameOf(file.Format), modified = file.Modified.ToDateTimeOffset() }));
                return ExitCode.Ok;
            }

            var table = Listing.Of("NAME", ">SIZE", "FORMAT");
            foreach (var file in files)
                table.AddRow(Markup.Escape(file.Name), Quantities.Bytes((long)file.Bytes), NameOf(file.Format));
            Terminal.Out.Write(table);
            return ExitCode.Ok;
        }

        private static string NameOf(StateFileFormat format) => format == StateFileFormat.TorchZip ? "pytorch" : "safetensors";
    }
}
