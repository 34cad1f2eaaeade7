using System.Globalization;
using Sconce.Engine.Execution;
using Sconce.Engine.Weights.Safetensors;
using Sconce.Engine.Weights.Script;
using Sconce.TorchChild;
using TorchSharp;

// What a test must do in a process of its own, because it may end that process or needs libtorch not yet loaded.
const string Usage = """
    usage: torchchild stress SECONDS [TorchSharp.dll]   train under constant garbage collection, on another TorchSharp.dll where one is given
           torchchild load [THREADS]                    load libtorch and print the intra-op threads it will use
           torchchild safetensors FILE                  read the header of a file, lay out another like it, and print its length and what of libtorch is loaded
           torchchild script-trial …                    try a TorchScript file, as the server starts itself to do it
           torchchild confined write|connect|start|kill|read
                                                        confine the process, do it, and print 1 where that was refused; exit code 77: it cannot be confined here
    """;

switch (args)
{
    case ["stress", var seconds]:
        return GcStress.Run(Number(seconds));

    case ["stress", var seconds, var path]:
        return (int)new ReplacedTorchSharp(Path.GetFullPath(path)).Invoke(typeof(GcStress), nameof(GcStress.Run), Number(seconds));

    case ["load", .. var threads]:
        try
        {
            TorchLibrary.Load(threads is [var count] ? Number(count) : null);
        }
        catch (TorchLoadException exception)
        {
            Console.Error.WriteLine(exception.Message);
            return 1;
        }

        Console.WriteLine(torch.get_num_threads());
        return 0;

    case ["safetensors", var path]:
        using (var file = File.OpenHandle(path))
        {
            var header = SafetensorsHeader.Read(file);
            var layout = SafetensorsLayout.Of([.. header.Entries.Select(entry => new StateEntryInfo(entry.Key, entry.Type, entry.Shape))], header.Metadata);
            Console.WriteLine(layout.FileBytes);
        }

        // The managed TorchSharp.dll may be there: it is small, and its dtypes' names are the engine's.
        foreach (var library in File.ReadLines("/proc/self/maps").Select(line => Path.GetFileName(line)).Where(name => name.Contains("torch", StringComparison.OrdinalIgnoreCase) && name.EndsWith(".so", StringComparison.Ordinal)).Distinct())
        {
            Console.WriteLine(library);
        }

        return 0;

    case [ScriptTrialProcess.Verb, .. var trial]:
        return ScriptTrialProcess.Run(trial);

    case ["confined", var what]:
        return Confined.Run(what);

    default:
        Console.Error.WriteLine(Usage);
        return 64;
}

static int Number(string text) => int.Parse(text, CultureInfo.InvariantCulture);
