using System.CommandLine;
using Sconce.Cli.Terminal;
using Sconce.Client;

namespace Sconce.Cli.State;

/// <summary><c>state get</c>, or <c>state save</c>: a state dict to a file.</summary>
internal sealed class StateGetCommand : ClientCommand
{
    private readonly Argument<string> _module = CommonSymbols.Module();
    private readonly Option<string> _path = CommonSymbols.Path();
    private readonly Option<string> _output = new("--output", "-o") { Description = "The .safetensors file to write.", HelpName = "file", Required = true };
    private readonly Option<string[]> _keys = new("--keys", "--key") { Description = "Only keys that match, * and ? as wildcards. May be repeated.", HelpName = "pattern", DefaultValueFactory = _ => [] };
    private readonly Option<string> _prefix = new("--prefix") { Description = "Only keys that begin with this.", HelpName = "text", DefaultValueFactory = _ => "" };
    private readonly Option<string?> _dtype = new("--dtype") { Description = "Cast floating tensors to this, e.g. half or bfloat16.", HelpName = "dtype" };

    public StateGetCommand(CommandTerminal terminal)
        : base(terminal, "get", "Saves a module's state dict to a safetensors file.", "sconce state get mlp -o mlp.safetensors", "sconce state save mlp --dtype bfloat16 -o mlp.safetensors")
    {
        Aliases.Add("save");
        Arguments.Add(_module);
        Options.Add(_path);
        Options.Add(_output);
        Options.Add(_keys);
        Options.Add(_prefix);
        Options.Add(_dtype);
    }

    protected override async Task<int> RunAsync(ParseResult parsed, SconceClient client, CancellationToken cancel)
    {
        var module = client.Module(parsed.GetValue(_module)!).GetSubmodule(parsed.GetValue(_path)!);
        var options = new StateDictOptions
        {
            Keys = parsed.GetValue(_keys)!,
            Prefix = parsed.GetValue(_prefix)!,
            DType = parsed.GetValue(_dtype) is { } dtype ? CommonSymbols.ParseType(dtype) : default,
        };
        var file = parsed.GetValue(_output)!;
        var saved = await SaveAsync(module, file, options, cancel).ConfigureAwait(false);
        if (WantsJson(parsed))
            Terminal.Json(new { saved.Generation, saved.Tensors, saved.TotalBytes, saved.FileBytes, xxh3 = $"{saved.Xxh3:x16}", file });
        else
            Terminal.Output.WriteLine($"{saved.Tensors} tensors, {Quantities.Bytes(saved.TotalBytes)}, generation {saved.Generation} written to {file}");
        return ExitCode.Ok;
    }

    private static async Task<SavedStateDict> SaveAsync(RemoteModule module, string file, StateDictOptions options, CancellationToken cancel)
    {
        try
        {
            return await module.SaveStateDictAsync(file, options, cancel).ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new UsageException($"{file}: cannot be written: {e.Message}", e);
        }
    }
}
