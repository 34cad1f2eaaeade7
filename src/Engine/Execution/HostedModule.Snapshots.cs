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
    /// <exception cref="EngineException">The policy makes no sense, the host has no directory for snapshots, or there can be none of the module.</exception>
    public Task<SnapshotPolicy> SetSnapshotPolicyAsync(SnapshotPolicy policy, ulong? ifGeneration, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(policy);
        policy.Check();

        // A policy that nothing follows would be a promise.
        _ = _host.RequireDurable();
        return Change(ifGeneration, () =>
        {
            if (policy.EverySteps > 0 || policy.OnDrain)
            {
                ModuleImage.CheckDurable(_state.Tree);
            }

            return _state.SnapshotPolicy = policy;
        }, cancellationToken);
    }

    /// <summary>Copies the module in its turn, for a snapshot. The module is busy for the copy alone.</summary>
    /// <param name="capture">Makes the copy.</param>
    /// <param name="ifGeneration">The generation that the module must be at; null takes any.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    internal Task<T> CaptureAsync<T>(Func<ModuleState, T> capture, ulong? ifGeneration, CancellationToken cancellationToken) => Read(() =>
    {
        _state.Begin(ifGeneration);
        return capture(_state);
    }, cancellationToken);
}
