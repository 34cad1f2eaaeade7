using System.CommandLine;
using Sconce.Cli.Terminal;
using Sconce.Client;
using Sconce.V1;

namespace Sconce.Cli.State;

/// <summary><c>state load</c>: a file into a module.</summary>
internal sealed class StateLoadCommand : ClientCommand
{
    private readonly Argument<string> _module = CommonSymbols.Module();
    private readonly Option<string> _path = CommonSymbols.Path();
    private readonly Option<string?> _input = new("--input", "-i") { Description = "The .safetensors file to read here.", HelpName = "file" };
    private readonly Option<string?> _serverFile = new("--server-file") { Description = "Load a file of the server's models directory instead (state files lists them).", HelpName = "name" };
    private readonly Option<string> _rootKey = new("--root-key") { Description = "Where in a PyTorch server file the state dict is, e.g. state_dict.", HelpName = "key", DefaultValueFactory = _ => "" };
    private readonly Option<bool> _lenient = new("--no-strict") { Description = "Allow keys that are missing or that the module lacks." };
    private readonly Option<string> _strip = new("--strip-prefix") { Description = "Take this from the keys that begin with it, e.g. module. of DataParallel.", HelpName = "text", DefaultValueFactory = _ => "" };
    private readonly Option<string> _add = new("--prefix", "--add-prefix") { Description = "Put this before every key, e.g. encoder.", HelpName = "text", DefaultValueFactory = _ => "" };
    private readonly Option<string[]> _keys = new("--keys", "--key") { Description = "Load only keys that match, * and ? as wildcards. May be repeated.", HelpName = "pattern", DefaultValueFactory = _ => [] };
    private readonly Option<bool> _assign = new("--assign") { Description = "Take the tensors with their dtype instead of converting them to the module's." };

    public StateLoadCommand(CommandTerminal terminal)
        : base(terminal, "load", "Loads a safetensors file into a module: all of it or nothing.", "sconce state load mlp -i mlp.safetensors", "sconce state load mlp -i ddp.safetensors --strip-prefix module.")
    {
        Arguments.Add(_module);
        Options.Add(_path);
        Options.Add(_input);
        Options.Add(_serverFile);
        Options.Add(_rootKey);
        Options.Add(_lenient);
        Options.Add(_strip);
        Options.Add(_add);
        Options.Add(_keys);
        Options.Add(_assign);
        Validators.Add(result =>
        {
            if (result.GetResult(_input) is null == result.GetResult(_serverFile) is null)
                result.AddError("Give either '--input', a file here, or '--server-file', a file of the server.");
        });
    }

    protected override async Task<int> RunAsync(ParseResult parsed, SconceClient client, CancellationToken cancel)
    {
        var module = client.Module(parsed.GetValue(_module)!).GetSubmodule(parsed.GetValue(_path)!);
        var options = new LoadStateDictOptions
        {
            Strict = !parsed.GetValue(_lenient),
            StripPrefix = parsed.GetValue(_strip)!,
            AddPrefix = parsed.GetValue(_add)!,
            Keys = parsed.GetValue(_keys)!,
            Assign = parsed.GetValue(_assign),
        };
        if (parsed.GetValue(_serverFile) is { } name)
        {
            var read = await module.LoadStateFileAsync(name, options, parsed.GetValue(_rootKey)!, cancel).ConfigureAwait(false);
            Report(parsed, module, new LoadStateDictResponse
            {
                MissingKeys = { read.MissingKeys },
                UnexpectedKeys = { read.UnexpectedKeys },
                Generation = read.Generation,
                LoadedTensors = read.LoadedTensors,
            });
            return ExitCode.Ok;
        }

        var state = new StateDict(SafetensorsFile.Read(parsed.GetValue(_input)!));
        var loaded = await module.LoadStateDictAsync(state, options, cancel).ConfigureAwait(false);
        Report(parsed, module, loaded);
        return ExitCode.Ok;
    }

    private void Report(ParseResult parsed, RemoteModule module, LoadStateDictResponse loaded)
    {
        if (WantsJson(parsed))
        {
            Terminal.Json(new { loaded.Generation, tensors = loaded.LoadedTensors, missing_keys = loaded.MissingKeys.ToArray(), unexpected_keys = loaded.UnexpectedKeys.ToArray() });
            return;
        }

        Terminal.Output.WriteLine($"{loaded.LoadedTensors} tensors loaded into {module}, now at generation {loaded.Generation}");
        if (loaded.MissingKeys.Count > 0)
            Terminal.Output.WriteLine($"not in the file: {string.Join(", ", loaded.MissingKeys)}");
        if (loaded.UnexpectedKeys.Count > 0)
            Terminal.Output.WriteLine($"not in the module: {string.Join(", ", loaded.UnexpectedKeys)}");
    }
}
