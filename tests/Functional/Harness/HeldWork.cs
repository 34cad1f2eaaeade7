using Sconce.Client;
using Sconce.V1;

namespace Sconce.Functional.Harness;

/// <summary>A module whose first forward lasts until it is let go, on a machine of any speed; those after it are short.</summary>
internal sealed class HeldWork : IDisposable
{
    public const string Module = "held";
    private const int Width = 16;

    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("sconce-held-");

    /// <summary>The setting that a server needs for it.</summary>
    public static (string Setting, string Value) PlugIn => ("plugin-dir", Built.Folder("Sconce.BrokenPlugIn"));

    /// <summary>Bytes of the gradients that a step leaves behind.</summary>
    public static ulong GradientBytes => sizeof(float) * ((Width * Width) + Width);

    private string File => Path.Combine(_directory.FullName, "held");

    /// <summary>Makes the module and its optimizer.</summary>
    public async Task PrepareAsync(Stubs stubs)
    {
        await stubs.Modules.CreateModuleAsync(new() { Module = Module, Spec = Nn.Sequential(Nn.Module("Held", ("file", File)), Nn.Linear(Width, Width)), Seed = 1 });
        await stubs.Training.CreateOptimizerAsync(new() { Module = Module, Type = "SGD", Args = Specs.Args(("lr", 0)) });
    }

    /// <summary>A training step.</summary>
    public static TrainStepRequest Step() => new() { Module = Module, Inputs = { Input() }, Targets = { Input() }, Loss = new() { Type = "MSELoss" } };

    /// <summary>An input that it takes.</summary>
    public static Tensor Input() => Wire.Pattern(2, Width);

    /// <summary>Sends a training step.</summary>
    public static Task<TrainStepResponse> Start(Stubs stubs, CancellationToken cancellationToken = default) =>
        stubs.Training.TrainStepAsync(Step(), cancellationToken: cancellationToken).ResponseAsync;

    /// <summary>Waits until its first forward runs.</summary>
    public Task RunsAsync() => Eventually.TrueAsync(() => System.IO.File.Exists(File), () => "the call that is held has not begun");

    /// <summary>Lets the first forward end.</summary>
    public void LetGo() => System.IO.File.Delete(File);

    /// <inheritdoc/>
    public void Dispose() => _directory.Delete(recursive: true);
}
