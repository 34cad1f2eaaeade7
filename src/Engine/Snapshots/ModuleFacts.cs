using Sconce.Engine.Catalog;
using Sconce.Engine.Execution;
using Sconce.Engine.Hooks;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using Sconce.Engine.Training;

namespace Sconce.Engine.Snapshots;

/// <summary>All of a module that is not a tensor's bytes. Written as JSON; members may be added, and one whose meaning changes raises <see cref="CurrentFormat"/>.</summary>
internal sealed record ModuleFacts
{
    /// <summary>The format that this build writes, and the newest that it reads.</summary>
    public const int CurrentFormat = 1;

    /// <summary>The format that these were written in.</summary>
    public int Format { get; init; } = CurrentFormat;

    /// <summary>When the module was made.</summary>
    public required DateTimeOffset Created { get; init; }

    /// <summary>Its generation.</summary>
    public required ulong Generation { get; init; }

    /// <summary>Floating dtype that it was made in. Conversions since show in the tensors.</summary>
    public required ElementType FloatType { get; init; }

    /// <summary>What builds the tree again.</summary>
    public required ModuleSpec Spec { get; init; }

    /// <summary>Paths of the submodules that were put in eval mode; all others are in training mode.</summary>
    public required IReadOnlyList<string> Eval { get; init; }

    /// <summary>Names of the parameters without requires_grad.</summary>
    public required IReadOnlyList<string> NoGrad { get; init; }

    /// <summary>What <c>train(True)</c> must leave alone.</summary>
    public required TrainPolicy TrainPolicy { get; init; }

    /// <summary>Memory formats other than row-major, by the tensors' keys.</summary>
    public required IReadOnlyDictionary<string, MemoryFormat> MemoryFormats { get; init; }

    /// <summary>Keys of complex128 tensors, whose bytes are written as float64 with a last dimension of two: safetensors has no such dtype.</summary>
    public required IReadOnlyList<string> Complex128 { get; init; }

    /// <summary>Optimizers and their schedulers.</summary>
    public required IReadOnlyList<OptimizerMemory> Optimizers { get; init; }

    /// <summary>Registered hooks, those of sessions left out.</summary>
    public required IReadOnlyList<HookMemory> Hooks { get; init; }

    /// <summary>When snapshots are taken by themselves.</summary>
    public SnapshotPolicy Policy { get; init; } = new();

    /// <summary>Steps that its optimizers have taken, those of deleted ones among them.</summary>
    public required long Steps { get; init; }
}

/// <summary>When snapshots of a module are taken by themselves, and how many are kept.</summary>
/// <param name="EverySteps">After so many optimizer steps; 0 for never.</param>
/// <param name="OnDrain">When the host drains.</param>
/// <param name="KeepLast">How many of the newest are kept; at least 1.</param>
public sealed record SnapshotPolicy(long EverySteps = 0, bool OnDrain = false, int KeepLast = SnapshotPolicy.DefaultKeepLast)
{
    /// <summary>How many are kept where nothing is said.</summary>
    public const int DefaultKeepLast = 3;

    /// <summary>Most that can be kept.</summary>
    public const int MaxKeepLast = 1000;

    /// <summary>Throws where it makes no sense.</summary>
    /// <param name="field">Its path in the request.</param>
    /// <exception cref="EngineException">A number is out of range.</exception>
    public void Check(string field = "policy")
    {
        if (EverySteps < 0)
        {
            throw EngineException.Invalid($"{field}.every_steps", $"is {EverySteps}; it must be at least 1, or 0 for never");
        }

        CheckKeepLast(KeepLast, $"{field}.keep_last");
    }

    /// <summary>Throws where so many cannot be kept.</summary>
    /// <param name="keepLast">How many.</param>
    /// <param name="field">Its path in the request.</param>
    internal static void CheckKeepLast(int keepLast, string field)
    {
        if (keepLast is < 1 or > MaxKeepLast)
        {
            throw EngineException.Invalid(field, $"is {keepLast}; it must be from 1 to {MaxKeepLast}");
        }
    }
}
