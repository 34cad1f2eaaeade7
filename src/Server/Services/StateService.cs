using Grpc.Core;
using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Server.ExactlyOnce;
using Sconce.Server.Hosting;
using Sconce.Server.Interceptors;
using Sconce.Server.Mapping;
using Sconce.Server.Streams;

namespace Sconce.Server.Services;

/// <summary>State dicts out and in, and snapshots.</summary>
internal sealed class StateService(EngineHost engine, RequestIdStore once, SnapshotCalls snapshots, SconceServerOptions options, DrainSignal drain) : V1.StateService.StateServiceBase
{
    public override Task<V1.SaveSnapshotResponse> SaveSnapshot(V1.SaveSnapshotRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, snapshots.SaveAsync, context.CancellationToken);

    public override Task<V1.ListSnapshotsResponse> ListSnapshots(V1.ListSnapshotsRequest request, ServerCallContext context) =>
        snapshots.ListAsync(request, context.CancellationToken);

    public override Task<V1.RestoreSnapshotResponse> RestoreSnapshot(V1.RestoreSnapshotRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, snapshots.RestoreAsync, context.CancellationToken);

    public override Task<V1.DeleteSnapshotResponse> DeleteSnapshot(V1.DeleteSnapshotRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, snapshots.DeleteAsync, context.CancellationToken);

    public override Task<V1.SetSnapshotPolicyResponse> SetSnapshotPolicy(V1.SetSnapshotPolicyRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, snapshots.SetPolicyAsync, context.CancellationToken);

    public override async Task GetStateDict(V1.GetStateDictRequest request, IServerStreamWriter<V1.GetStateDictResponse> responseStream, ServerCallContext context)
    {
        var chunkBytes = StateSender.ChunkBytes(request.ChunkBytes);
        using var snapshot = await engine.GetModule(request.Module).GetStateAsync(request.Path, [.. request.Keys], context.CancellationToken).ConfigureAwait(false);
        await StateSender.SendAsync(
            new V1.GetStateDictResponse { Manifest = StateSender.ToManifest(snapshot) }, snapshot, chunkBytes, options.StreamIdleTimeout, responseStream,
            static chunk => new V1.GetStateDictResponse { Chunk = chunk }, static end => new V1.GetStateDictResponse { End = end }, context.CancellationToken).ConfigureAwait(false);
    }

    public override async Task<V1.LoadStateDictResponse> LoadStateDict(IAsyncStreamReader<V1.LoadStateDictRequest> requestStream, ServerCallContext context)
    {
        using var reader = new UploadReader<V1.LoadStateDictRequest>(
            requestStream, static message => message.Chunk, static message => message.End, options, drain, context.CancellationToken);
        var header = (await reader.ReadHeaderAsync().ConfigureAwait(false)).Header
            ?? throw EngineException.Invalid("header", "is missing: the first message must be a header", "BAD_STREAM");
        RequestFacts.Remember(context, header);

        var entries = header.Entries.Select(TrainingMapping.ToEntryInfo).ToList();
        if (once.Find(header.RequestId) is { } finished)
        {
            // What became of the module since is no matter.
            var lengths = StateUpload.ByteLengths(entries, "header.entries");
            return finished.Answer<V1.LoadStateDictResponse>(header, await reader.DiscardAsync(lengths).ConfigureAwait(false), "header.request_id");
        }

        // Asked for first, so that a mistyped name or key does not cost an upload.
        var module = engine.GetModule(header.Module);
        using var upload = engine.ReserveState(entries, "header.entries");
        await module.CheckStateAsync(header.Path, upload.Entries, !header.HasStrict || header.Strict, "header.entries", context.CancellationToken).ConfigureAwait(false);
        var digest = await reader.ReceiveAsync(upload).ConfigureAwait(false);
        return await once.RunAsync(header, header.RequestId, (h, cancellationToken) => LoadAsync(module, h, upload, cancellationToken), context.CancellationToken, digest, "header.request_id").ConfigureAwait(false);
    }

    private static async Task<V1.LoadStateDictResponse> LoadAsync(HostedModule module, V1.LoadStateDictHeader header, StateUpload upload, CancellationToken cancellationToken)
    {
        var target = new ChangeTarget(header.Path, header.HasIfGeneration ? header.IfGeneration : null);
        var outcome = await module.LoadStateAsync(target, upload, !header.HasStrict || header.Strict, cancellationToken).ConfigureAwait(false);
        return new V1.LoadStateDictResponse { MissingKeys = { outcome.MissingKeys }, UnexpectedKeys = { outcome.UnexpectedKeys }, Generation = outcome.Generation };
    }
}
