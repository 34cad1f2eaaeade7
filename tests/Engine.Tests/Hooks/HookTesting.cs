using System.Runtime.InteropServices;
using Sconce.Engine.Execution;
using Sconce.Engine.Hooks;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Tests.Hooks;

/// <summary>Hooks and calls for the tests of hooks.</summary>
internal static class HookTesting
{
    public static readonly CaptureAction Capture = new(HookDestination.Default);

    public static HookOperand Number(double value) => new(Scalar: value);

    public static HookOperand Values(long[] shape, params float[] values) => new(Tensor: Execution.Testing.Floats(shape, values));

    public static HookSpec On(HookSite site, string path, params HookAction[] actions) =>
        new() { Site = site, Target = new(HookTargetKind.Path, path), Actions = actions };

    public static HookSpec At(HookSite site, HookTargetKind kind, string text, params HookAction[] actions) =>
        new() { Site = site, Target = new(kind, text), Actions = actions };

    public static HookSelect Index(int dim, long index) => new(null, [new HookDim(dim) { Index = index }]);

    public static ForwardCall With(this ForwardCall call, params HookSpec[] hooks) => new()
    {
        Path = call.Path,
        Inputs = call.Inputs,
        RecordGraph = call.RecordGraph,
        InputGrads = call.InputGrads,
        Hooks = hooks,
    };

    public static Task<HookInfo> Register(this HostedModule module, HookSpec spec, params TensorInput[] examples) =>
        module.RegisterHookAsync(spec, examples.Length == 0 ? null : new CallInputs(examples, null, "example_"), null, default);

    public static T[] Read<T>(this TensorExport export)
        where T : unmanaged => MemoryMarshal.Cast<byte, T>(export.Data.Span).ToArray();

    public static float[] Floats(this HookCapture capture) => capture.Tensor!.Read<float>();

    public static void Same(float[] actual, params float[] expected) => Assert.Equal(expected, actual);

    /// <summary>Parameters of a module, set by a load.</summary>
    public static async Task Fill(this HostedModule module, EngineHost host, string key, long[] shape, params float[] values)
    {
        using var upload = host.ReserveState([new StateEntryInfo(key, ElementType.Float32, shape)], "entries");
        upload.Write(0, 0, MemoryMarshal.AsBytes(values.AsSpan()));
        await module.LoadStateAsync(default, upload, strict: false, default);
    }
}
