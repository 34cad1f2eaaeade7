using System.Text;
using Sconce.Engine.Execution;
using Sconce.Engine.Snapshots;
using Sconce.Engine.Tensors;
using Sconce.Engine.Weights;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Snapshots;

/// <summary>Images and modules made of them, without a disk.</summary>
internal static class Images
{
    private static readonly MemoryLedger Ledger = new(new EngineOptions());

    public static Task<ModuleImage> Capture(this HostedModule module) => module.CaptureAsync(state => ModuleImage.Of(state, Ledger), null, TestContext.Current.CancellationToken).WaitAsync(Execution.Testing.Limit);

    /// <summary>Makes a module of an image, all of which has gone through JSON and bytes.</summary>
    public static async Task<HostedModule> Restore(this EngineHost host, string name, ModuleImage image)
    {
        using var weights = new CopiedFile(image.Weights);
        using var training = new CopiedFile(image.Training);
        return await host.RestoreModuleAsync(name, new ImageReader(Through(image.Facts), weights, training), null, TestContext.Current.CancellationToken).WaitAsync(Execution.Testing.Limit);
    }

    public static ModuleFacts Through(ModuleFacts facts) => FactsJson.Read(new MemoryStream(Encoding.UTF8.GetBytes(Json(facts))));

    public static string Json(ModuleFacts facts)
    {
        using var stream = new MemoryStream();
        FactsJson.Write(stream, facts);
        return Encoding.UTF8.GetString(stream.ToArray());
    }

    /// <summary>Fails where two images differ in anything but the generation.</summary>
    public static void Same(ModuleImage expected, ModuleImage actual)
    {
        Assert.Equal(Json(expected.Facts with { Generation = 0 }), Json(actual.Facts with { Generation = 0 }));
        Assert.Equal(Lines(expected.Weights), Lines(actual.Weights));
        Assert.Equal(Lines(expected.Training), Lines(actual.Training));
    }

    private static List<string> Lines(StateSnapshot state) =>
        [.. state.Entries.Select((entry, i) => $"{entry.Key} {entry.Type} [{string.Join(", ", entry.Shape)}] {Convert.ToHexString(state.Export(i).Data.Span)}")];

    internal sealed class CopiedFile(StateSnapshot state) : IStateFile
    {
        public IReadOnlyList<StateEntryInfo> Entries => state.Entries;

        public Tensor Read(int entry, CancellationToken cancellationToken = default)
        {
            var tensor = empty([.. state.Entries[entry].Shape], dtype: state.Entries[entry].Type.ToScalarType());
            tensor.bytes = state.Export(entry).Data.ToArray();
            return tensor;
        }

        public void Dispose()
        {
        }
    }
}
