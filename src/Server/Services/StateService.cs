using Grpc.Core;
using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Engine.Weights;
using Sconce.Server.ExactlyOnce;
using Sconce.Server.Hosting;
using Sconce.Server.Interceptors;
using Sconce.Server.Mapping;
using Sconce.Server.Streams;

namespace Sconce.Server.Services;

/// <summary>State dicts out and in, and snapshots.</summary>
[BindServiceMethod(typeof(StateBinding), nameof(StateBinding.BindService))]
internal sealed class StateService(
    EngineHost engine, RequestIdStore once, SnapshotCalls snapshots, SconceServerOptions options, DrainSignal drain, StateFileCalls files, UploadCalls uploads) : V1.StateService.StateServiceBase
{
    public override Task<V1.SaveSnapshotResponse> SaveSnapshot(V1.SaveSnapshotRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, snapshots.SaveAsync, context.CancellationToken);

    public override Task<V1.ListSnapshotsResponse> ListSnapshots(V1.ListSnapshotsRequest request, ServerCallContext context) =>
        Task.FromResult(snapshots.List(request));

    public override Task<V1.RestoreSnapshotResponse> RestoreSnapshot(V1.RestoreSnapshotRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, snapshots.RestoreAsync, context.CancellationToken);

    public override Task<V1.DeleteSnapshotResponse> DeleteSnapshot(V1.DeleteSnapshotRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, snapshots.DeleteAsync, context.CancellationToken);

    public override Task<V1.SetSnapshotPolicyResponse> SetSnapshotPolicy(V1.SetSnapshotPolicyRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, snapshots.SetPolicyAsync, context.CancellationToken);

    public override async Task GetStateDict(V1.GetStateDictRequest request, IServerStreamWriter<V1.GetStateDictResponse> responseStream, ServerCallContext context)
    {
        var chunkBytes = StateSender.ChunkBytes(request.ChunkBytes);
        var isFile = StateMapping.IsFile(request.Framing);
        using var snapshot = await engine.GetModule(request.Module).GetStateAsync(StateMapping.ToSelection(request), context.CancellationToken).ConfigureAwait(false);
        var file = isFile ? snapshot.AsSafetensors() : null;
        await StateSender.SendAsync(
            new V1.GetStateDictResponse { Manifest = StateSender.ToManifest(snapshot, file) }, snapshot, chunkBytes, options.StreamIdleTimeout, responseStream,
            static chunk => new V1.GetStateDictResponse { Chunk = chunk }, static end => new V1.GetStateDictResponse { End = end }, context.CancellationToken, file).ConfigureAwait(false);
    }

    public override async Task<V1.LoadStateDictResponse> LoadStateDict(IAsyncStreamReader<V1.LoadStateDictRequest> requestStream, ServerCallContext context)
    {
        using var reader = new UploadReader<V1.LoadStateDictRequest>(
            requestStream, static message => message.Chunk, static message => message.End, options, drain, context.CancellationToken);
        var header = (await reader.ReadHeaderAsync().ConfigureAwait(false)).Header
            ?? throw EngineException.Invalid("header", "is missing: the first message must be a header", "BAD_STREAM");
        RequestFacts.Remember(context, header);

        if (uploads.Takes(header))
        {
            return await uploads.LoadAsync(reader, header, context.CancellationToken).ConfigureAwait(false);
        }

        var entries = header.Entries.Select(TrainingMapping.ToEntryInfo).ToList();
        if (once.Find(header.RequestId) is { } finished)
        {
            // What became of the module since is no matter.
            var lengths = StateUpload.ByteLengths(entries, "header.entries");
            return finished.Answer<V1.LoadStateDictResponse>(header, await reader.DiscardAsync(lengths).ConfigureAwait(false), "header.request_id");
        }

        // Asked for first, so that a mistyped name or key does not cost an upload.
        var module = engine.GetModule(header.Module);
        var plan = StateMapping.ToPlan(header);
        using var upload = engine.ReserveState(entries, "header.entries");
        await module.CheckStateAsync(StateMapping.ToTarget(header), upload, plan, context.CancellationToken).ConfigureAwait(false);
        var digest = await reader.ReceiveAsync(upload).ConfigureAwait(false);
        return await once.RunAsync(header, header.RequestId, (h, cancellationToken) => LoadAsync(module, h, upload, plan, cancellationToken), context.CancellationToken, digest, "header.request_id").ConfigureAwait(false);
    }

    public override Task<V1.ListModelFilesResponse> ListModelFiles(V1.ListModelFilesRequest request, ServerCallContext context) => files.ListAsync(request, context.CancellationToken);

    public override Task<V1.LoadStateFileResponse> LoadStateFile(V1.LoadStateFileRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, files.LoadAsync, context.CancellationToken);

    public override Task<V1.LoadStateSharedResponse> LoadStateShared(V1.LoadStateSharedRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, files.LoadSharedAsync, context.CancellationToken);

    public override Task<V1.SaveStateFileResponse> SaveStateFile(V1.SaveStateFileRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, files.SaveAsync, context.CancellationToken);

    public override Task<V1.GetUploadResponse> GetUpload(V1.GetUploadRequest request, ServerCallContext context) => Task.FromResult(uploads.Get(request));

    internal static async Task<V1.LoadStateDictResponse> LoadAsync(HostedModule module, V1.LoadStateDictHeader header, StateUpload upload, LoadPlan plan, CancellationToken cancellationToken)
    {
        var outcome = await module.LoadStateAsync(StateMapping.ToTarget(header), upload, plan, cancellationToken).ConfigureAwait(false);
        return new V1.LoadStateDictResponse { MissingKeys = { outcome.MissingKeys }, UnexpectedKeys = { outcome.UnexpectedKeys }, Generation = outcome.Generation, LoadedTensors = (uint)outcome.LoadedTensors };
    }
}
