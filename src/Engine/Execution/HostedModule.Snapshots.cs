using Sconce.Engine.Snapshots;

namespace Sconce.Engine.Execution;

/// <content>Snapshots.</content>
public sealed partial class HostedModule
{
    /// <summary>When snapshots are taken by themselves, as of the last change: whoever asks waits for nothing.</summary>
    public SnapshotPolicy SnapshotPolicy => _state.SnapshotPolicy;

    /// <summary>Sets when snapshots are taken by themselves.</summary>
    /// <param name="policy">The policy.</param>
    /// <param name="ifGeneration">The generation that the module must be at; null takes any.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    /// <exception cref="EngineException">The policy makes no sense, or the host has no directory for snapshots.</exception>
    public Task<SnapshotPolicy> SetSnapshotPolicyAsync(SnapshotPolicy policy, ulong? ifGeneration, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(policy);
        policy.Check();

        // A policy that nothing follows would be a promise.
        _ = _host.RequireDurable();
        return Change(ifGeneration, () => _state.SnapshotPolicy = policy, cancellationToken);
    }

    /// <summary>Copies all of the module, for a snapshot. The module is busy for the copy alone.</summary>
    /// <param name="ifGeneration">The generation that the module must be at; null takes any.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    internal Task<ModuleImage> CaptureAsync(ulong? ifGeneration, CancellationToken cancellationToken) => Read(() =>
    {
        _state.Begin(ifGeneration);
        if (Modules.ModuleTree.Walk(_state.Tree.Root).Select(at => at.Node).OfType<Weights.Script.ScriptNode>().FirstOrDefault() is { } script)
        {
            throw EngineException.Precondition("SCRIPT_NOT_DURABLE", $"the module is, or holds, the TorchScript file {EngineException.Quote(script.File.Name)}, which a snapshot would only name: the file may be another after a restart; keep its state by GetStateDict or SaveStateFile");
        }

        return ModuleImage.Of(_state, _host.Ledger);
    }, cancellationToken);
}
