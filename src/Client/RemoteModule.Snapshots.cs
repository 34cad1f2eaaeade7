using Sconce.V1;

namespace Sconce.Client;

public sealed partial class RemoteModule
{
    /// <summary>
    /// Saves all of the module's training state to the server's disk. Once it returns, the snapshot is durable, and so is the module:
    /// a server that starts again on the same data directory has it.
    /// </summary>
    /// <param name="keepLast">How many of the newest snapshots stay, this one among them, 1 to 1,000; null keeps as many as the policy says.</param>
    /// <param name="cancellationToken">Stops waiting; the snapshot may be taken all the same.</param>
    /// <exception cref="SconceFailedPreconditionException">The server keeps no snapshots, or its disk failed.</exception>
    public async Task<Snapshot> SaveSnapshotAsync(int? keepLast = null, CancellationToken cancellationToken = default)
    {
        RequireWhole("a snapshot");
        if (keepLast is < 1)
            throw new ArgumentOutOfRangeException(nameof(keepLast), keepLast, "At least one snapshot is kept.");
        var request = new SaveSnapshotRequest { Module = Name, KeepLast = (uint)(keepLast ?? 0), RequestId = NewRequestId() };
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        return (await SendAsync(Rpc.State.SaveSnapshotAsync, request, cancellationToken).ConfigureAwait(false)).Snapshot;
    }

    /// <summary>The module's snapshots, the oldest first, with its policy and what was found damaged.</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<ListSnapshotsResponse> ListSnapshotsAsync(CancellationToken cancellationToken = default) =>
        SendAsync(Rpc.State.ListSnapshotsAsync, new ListSnapshotsRequest { Module = Name }, cancellationToken);

    /// <summary>
    /// Restores the module, in its own place or, where it is not held, anew: training goes on as it would have gone on from there. Handles stay good; the generation rises
    /// above every one before.
    /// </summary>
    /// <param name="snapshot">The snapshot's id, which may be another module's; null takes the newest of this one that is whole.</param>
    /// <param name="cancellationToken">Stops waiting; the module may be restored all the same.</param>
    /// <returns>The new generation, and the snapshot.</returns>
    public Task<RestoreSnapshotResponse> RestoreSnapshotAsync(string? snapshot = null, CancellationToken cancellationToken = default)
    {
        RequireWhole("a snapshot");
        var request = new RestoreSnapshotRequest { Module = Name, Snapshot = snapshot ?? "", RequestId = NewRequestId() };
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        return SendAsync(Rpc.State.RestoreSnapshotAsync, request, cancellationToken);
    }

    /// <summary>Sets when the server takes snapshots of the module by itself, and how many it keeps: <c>new() { EverySteps = 100, OnDrain = true }</c>.</summary>
    /// <param name="policy">The policy, in place of the one before.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    /// <returns>The policy in force.</returns>
    public async Task<SnapshotPolicy> SetSnapshotPolicyAsync(SnapshotPolicy policy, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(policy);
        RequireWhole("a snapshot policy");
        var request = new SetSnapshotPolicyRequest { Module = Name, Policy = policy, RequestId = NewRequestId() };
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        return (await SendAsync(Rpc.State.SetSnapshotPolicyAsync, request, cancellationToken).ConfigureAwait(false)).Policy;
    }
}
