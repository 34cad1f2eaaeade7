using Google.Protobuf.WellKnownTypes;
using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Engine.Snapshots;

namespace Sconce.Server.Services;

/// <summary>Modules on the server's disk.</summary>
internal sealed class SnapshotCalls(EngineHost engine)
{
    public async Task<V1.SaveSnapshotResponse> SaveAsync(V1.SaveSnapshotRequest request, CancellationToken cancellationToken)
    {
        int? keep = request.KeepLast == 0 ? null : KeepLast(request.KeepLast);
        var info = await engine.Durable.SaveAsync(request.Module, keep, request.HasIfGeneration ? request.IfGeneration : null, cancellationToken).ConfigureAwait(false);
        return new() { Snapshot = ToSnapshot(info) };
    }

    public V1.ListSnapshotsResponse List(V1.ListSnapshotsRequest request)
    {
        var response = new V1.ListSnapshotsResponse
        {
            Snapshots = { engine.Durable.List(request.Module).Select(ToSnapshot) },
            Damaged = { engine.Durable.Damaged.Select(damaged => new V1.DamagedSnapshot { Id = damaged.Id, Module = damaged.Module ?? "", Why = damaged.Why }) },
        };
        if (engine.FindModule(request.Module) is { } held)
        {
            response.Policy = ToPolicy(held.SnapshotPolicy);
        }

        return response;
    }

    public async Task<V1.RestoreSnapshotResponse> RestoreAsync(V1.RestoreSnapshotRequest request, CancellationToken cancellationToken)
    {
        var (module, snapshot) = await engine.Durable
            .RestoreAsync(request.Module, request.Snapshot, request.HasIfGeneration ? request.IfGeneration : null, cancellationToken).ConfigureAwait(false);
        return new() { Module = module.Name, Generation = module.Summary.Generation, Snapshot = ToSnapshot(snapshot) };
    }

    public async Task<V1.DeleteSnapshotResponse> DeleteAsync(V1.DeleteSnapshotRequest request, CancellationToken cancellationToken)
    {
        // Not left while it runs: a retry would be told that there is no such snapshot.
        await engine.Durable.DeleteAsync(request.Snapshot, cancellationToken).ConfigureAwait(false);
        return new();
    }

    public async Task<V1.SetSnapshotPolicyResponse> SetPolicyAsync(V1.SetSnapshotPolicyRequest request, CancellationToken cancellationToken)
    {
        if (request.Policy is not { } policy)
        {
            throw EngineException.Invalid("policy", "is not set; give one, e.g. every_steps=100 or on_drain=true; an empty one takes no snapshots by itself");
        }

        if (policy.EverySteps > long.MaxValue)
        {
            throw EngineException.Invalid("policy.every_steps", $"is {policy.EverySteps}; it must be < 2^63");
        }

        var keep = policy.KeepLast == 0 ? SnapshotPolicy.DefaultKeepLast : KeepLast(policy.KeepLast);
        var module = engine.GetModule(request.Module);
        var set = await module.SetSnapshotPolicyAsync(new((long)policy.EverySteps, policy.OnDrain, keep), request.HasIfGeneration ? request.IfGeneration : null, cancellationToken).ConfigureAwait(false);
        return new() { Policy = ToPolicy(set) };
    }

    // What no int holds is more than can be kept.
    private static int KeepLast(uint given) => (int)Math.Min(given, int.MaxValue);

    private static V1.SnapshotPolicy ToPolicy(SnapshotPolicy policy) => new() { EverySteps = (ulong)policy.EverySteps, OnDrain = policy.OnDrain, KeepLast = (uint)policy.KeepLast };

    private static V1.Snapshot ToSnapshot(SnapshotInfo info) => new()
    {
        Id = info.Id,
        Module = info.Module,
        Created = info.Created.ToTimestamp(),
        Generation = (ulong)info.Facts.Generation,
        Step = (ulong)info.Facts.Step,
        Reason = info.Facts.Reason,
        Bytes = (ulong)info.Bytes,
        Sha256 = info.Digest,
        Files = { info.Parts.Select(part => new V1.SnapshotFile { Name = part.Name, Bytes = (ulong)part.Bytes, Sha256 = part.Sha256 }) },
    };
}
