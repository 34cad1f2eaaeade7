using Grpc.Core;
using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Server.ExactlyOnce;
using Sconce.Server.Hosting;
using Sconce.Server.Interceptors;
using Sconce.Server.Mapping;
using Sconce.Server.Streams;

namespace Sconce.Server.Services;

/// <summary>The streams of TrainingService that carry tensors: optimizer state both ways, gradients out.</summary>
internal sealed class OptimizerStreams(EngineHost engine, RequestIdStore once, SconceServerOptions options, DrainSignal drain)
{
    public async Task GetStateAsync(V1.GetOptimizerStateRequest request, IServerStreamWriter<V1.GetOptimizerStateResponse> responses, ServerCallContext context)
    {
        var chunkBytes = StateSender.ChunkBytes(request.ChunkBytes);
        using var snapshot = await engine.GetModule(request.Module).GetOptimizerStateAsync(request.Optimizer, context.CancellationToken).ConfigureAwait(false);
        await StateSender.SendAsync(
            new V1.GetOptimizerStateResponse { State = TrainingMapping.ToState(snapshot) }, snapshot.Tensors, chunkBytes, options.StreamIdleTimeout, responses,
            static chunk => new V1.GetOptimizerStateResponse { Chunk = chunk }, static end => new V1.GetOptimizerStateResponse { End = end },
            context.CancellationToken).ConfigureAwait(false);
    }

    public async Task<V1.LoadOptimizerStateResponse> LoadStateAsync(IAsyncStreamReader<V1.LoadOptimizerStateRequest> requests, ServerCallContext context)
    {
        using var reader = new UploadReader<V1.LoadOptimizerStateRequest>(
            requests, static message => message.Chunk, static message => message.End, options, drain, context.CancellationToken);
        var header = (await reader.ReadHeaderAsync().ConfigureAwait(false)).Header
            ?? throw EngineException.Invalid("header", "is missing: the first message must be a header", "BAD_STREAM");
        RequestFacts.Remember(context, header);
        var state = header.State ?? throw EngineException.Invalid("header.state", "is not set; it lists the groups and the tensors that follow");
        var entries = state.Entries.Select(TrainingMapping.ToEntryInfo).ToList();
        if (once.Find(header.RequestId) is { } finished)
        {
            // What became of the module since is no matter.
            var lengths = StateUpload.ByteLengths(entries, "header.state.entries");
            return finished.Answer<V1.LoadOptimizerStateResponse>(header, await reader.DiscardAsync(lengths).ConfigureAwait(false), "header.request_id");
        }

        var module = engine.GetModule(header.Module);

        // Seen before anything is sent; decided when it is loaded.
        _ = await module.GetOptimizerAsync(header.Optimizer, context.CancellationToken).ConfigureAwait(false);
        using var upload = engine.ReserveState(entries, "header.state.entries");
        var digest = await reader.ReceiveAsync(upload).ConfigureAwait(false);
        return await once.RunAsync(header, header.RequestId, (h, cancellationToken) => LoadAsync(module, h, upload, cancellationToken), context.CancellationToken, digest, "header.request_id").ConfigureAwait(false);
    }

    public async Task GetGradientsAsync(V1.GetGradientsRequest request, IServerStreamWriter<V1.GetGradientsResponse> responses, ServerCallContext context)
    {
        var chunkBytes = StateSender.ChunkBytes(request.ChunkBytes);
        using var snapshot = await engine.GetModule(request.Module).GetGradientsAsync(request.Path, [.. request.Parameters], context.CancellationToken).ConfigureAwait(false);
        await StateSender.SendAsync(
            new V1.GetGradientsResponse { Manifest = StateSender.ToManifest(snapshot) }, snapshot, chunkBytes, options.StreamIdleTimeout, responses,
            static chunk => new V1.GetGradientsResponse { Chunk = chunk }, static end => new V1.GetGradientsResponse { End = end }, context.CancellationToken).ConfigureAwait(false);
    }

    private static async Task<V1.LoadOptimizerStateResponse> LoadAsync(
        HostedModule module, V1.LoadOptimizerStateHeader header, StateUpload upload, CancellationToken cancellationToken)
    {
        var scalars = new Dictionary<string, double>(header.State.Scalars, StringComparer.Ordinal);
        var optimizer = await module.LoadOptimizerStateAsync(
            header.Optimizer, TrainingMapping.ToStateGroups(header.State), scalars, upload, "header.state",
            header.HasIfGeneration ? header.IfGeneration : null, cancellationToken).ConfigureAwait(false);
        return new V1.LoadOptimizerStateResponse { Optimizer = TrainingMapping.ToOptimizer(optimizer) };
    }
}
