using Microsoft.Extensions.Logging;
using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.PlugIns;
using Sconce.Engine.Snapshots;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Execution;

/// <summary>What every hosted module shares with its host.</summary>
internal sealed record HostServices(
    EngineOptions Options, LanePool Lanes, Admission Admission, MemoryLedger Ledger, SessionTable Sessions, KeptTensors Tensors, PlugInTypes PlugIns, ApiUsage Usage, TimeProvider Time,
    ILogger Logger, Func<string, HostedModule?> FindModule)
{
    /// <summary>The modules that are on disk; null where the host has no directory for them.</summary>
    public DurableModules? Durable { get; set; }

    /// <summary>The same, for a call that can do nothing without.</summary>
    /// <exception cref="EngineException">The host has no directory for them.</exception>
    public DurableModules RequireDurable() => Durable
        ?? throw EngineException.Precondition("SNAPSHOTS_OFF", "this server keeps no snapshots: its operator has not set data; GetStateDict reads weights over the wire");

    /// <summary>How large a module may be.</summary>
    public BuildLimits Limits { get; } = new(Options.MaxSpecDepth, Options.MaxSubmodules);

    /// <summary>Builds what a caller asked for.</summary>
    /// <param name="spec">What to build.</param>
    /// <param name="type">Floating dtype of its parameters and buffers; none means float32.</param>
    /// <param name="charge">Grows to what the module takes.</param>
    /// <param name="draw">Runs the building on a random stream.</param>
    /// <param name="initialise">Whether initial values are drawn; else all tensors are to be filled by the caller.</param>
    /// <exception cref="EngineException">The spec is wrong, or the module does not fit; then nothing is left of it.</exception>
    public ModuleTree Build(ModuleSpec spec, ElementType type, MemoryCharge charge, Func<Func<ModuleTree>, ModuleTree> draw, bool initialise = true)
    {
        var floatType = type == ElementType.None ? ElementType.Float32 : type;

        // What does not fit is refused while it is still a number.
        charge.Resize(ModuleBuilder.EstimateBytes(spec, floatType, Limits, PlugIns));
        var tree = draw(() => ModuleBuilder.Build(spec, floatType, Limits, PlugIns, initialise));
        try
        {
            // What plug-ins take is known when they are made.
            charge.Resize(tree.Bytes);
            Usage.Created(tree.Root);
            return tree;
        }
        catch
        {
            tree.Dispose();
            throw;
        }
    }
}
