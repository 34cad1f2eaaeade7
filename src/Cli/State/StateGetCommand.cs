using System.CommandLine;
using Sconce.Cli.Terminal;
using Sconce.Client;

namespace Sconce.Cli.State;

/// <summary><c>state get</c>, or <c>state save</c>: a state dict to a file.</summary>
internal sealed class StateGetCommand : ClientCommand
{
    private readonly Argument<string> _module = CommonSymbols.Module();
    private readonly Option<string> _path = CommonSymbols.Path();
    private readonly Option<string?> _output = new("--output", "-o") { Description = "The .safetensors file to write here.", HelpName = "file" };
    private readonly Option<string?> _serverFile = new("--server-file") { Description = "Write a file of the server's export directory instead; .pt and .pth are PyTorch's.", HelpName = "name" };
    private readonly Option<bool> _overwrite = new("--overwrite") { Description = "Replace a server file of that name." };
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
        Options.Add(_serverFile);
        Options.Add(_overwrite);
        Options.Add(_keys);
        Options.Add(_prefix);
        Options.Add(_dtype);
        Validators.Add(result =>
        {
            if (result.GetResult(_output) is null == result.GetResult(_serverFile) is null)
                result.AddError("Give either '--output', a file here, or '--server-file', a file of the server.");
        });
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
        if (parsed.GetValue(_serverFile) is { } name)
        {
            var written = await module.SaveStateFileAsync(name, new SaveStateFileOptions { State = options, Overwrite = parsed.GetValue(_overwrite) }, cancel).ConfigureAwait(false);
            if (WantsJson(parsed))
                Terminal.Json(new { written.Generation, written.Tensors, written.Bytes, xxh3 = $"{written.Xxh3:x16}", server_file = written.File });
            else
                Terminal.Output.WriteLine($"{written.Tensors} tensors, {Quantities.Bytes((long)written.Bytes)}, generation {written.Generation} written to {written.File} on the server");
            return ExitCode.Ok;
        }

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
