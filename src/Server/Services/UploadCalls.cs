using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Server.ExactlyOnce;
using Sconce.Server.Mapping;
using Sconce.Server.Streams;

namespace Sconce.Server.Services;

/// <summary>Loads whose uploads survive their connection.</summary>
internal sealed class UploadCalls(EngineHost engine, RequestIdStore once, UploadStore store)
{
    public V1.GetUploadResponse Get(V1.GetUploadRequest request) => store.Describe(request.UploadId);

    /// <summary>Whether a load is to go this way: not one whose answer is known while its upload is not, which is received anew and answered.</summary>
    public bool Takes(V1.LoadStateDictHeader header) => header.UploadId.Length > 0 && (store.Knows(header.UploadId) || once.Find(header.RequestId) is null);

    public async Task<V1.LoadStateDictResponse> LoadAsync(UploadReader<V1.LoadStateDictRequest> reader, V1.LoadStateDictHeader header, CancellationToken cancellationToken)
    {
        RequestIdStore.Check(header.UploadId, "header.upload_id");
        RequestIdStore.Check(header.RequestId, "header.request_id");
        using var lease = await store.OpenAsync(header, () => BeginAsync(header, cancellationToken), cancellationToken).ConfigureAwait(false);
        if (lease.Finished is { } known)
        {
            await reader.SkipAsync(lease.TotalBytes, known, lease.Taken).ConfigureAwait(false);
            return once.Find(header.RequestId) is { } finished
                ? finished.Answer<V1.LoadStateDictResponse>(header, known, "header.request_id")
                : throw EngineException.Precondition("ANSWER_NOT_KEPT", "this upload was loaded, and its answer is remembered no longer; raise request_id_retention or request_id_capacity on the server");
        }

        ulong digest;
        try
        {
            digest = await reader.ReceiveAsync(lease.Upload, lease.Framing, lease.Taken).ConfigureAwait(false);
        }
        catch (EngineException exception) when (exception.Error is not (EngineError.DeadlineExceeded or EngineError.Aborted or EngineError.Unavailable))
        {
            // What came is wrong or does not fit. All else is the connection's fault, and another one may go on.
            lease.Drop();
            throw;
        }

        try
        {
            var module = engine.GetModule(header.Module);
            var plan = StateMapping.ToPlan(header);
            var upload = lease.Upload;
            var response = await once.RunAsync(
                header, header.RequestId, (h, token) => StateService.LoadAsync(module, h, upload, plan, token), cancellationToken, digest, "header.request_id").ConfigureAwait(false);
            lease.End(digest, header.RequestId.Length > 0);
            return response;
        }
        catch (EngineException exception) when (!RequestIdStore.CanSucceedLater(exception))
        {
            lease.End(digest, header.RequestId.Length > 0 && once.Find(header.RequestId) is not null);
            throw;
        }
    }

    private async Task<StateUpload> BeginAsync(V1.LoadStateDictHeader header, CancellationToken cancellationToken)
    {
        var module = engine.GetModule(header.Module);
        var plan = StateMapping.ToPlan(header);
        var upload = engine.ReserveState([.. header.Entries.Select(TrainingMapping.ToEntryInfo)], "header.entries");
        try
        {
            await module.CheckStateAsync(StateMapping.ToTarget(header), upload, plan, cancellationToken).ConfigureAwait(false);
            return upload;
        }
        catch
        {
            upload.Dispose();
            throw;
        }
    }
}
