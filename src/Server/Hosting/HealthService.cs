using Grpc.Core;
using Grpc.Health.V1;
using Grpc.HealthCheck;

namespace Sconce.Server.Hosting;

/// <summary>grpc.health.v1. A watch sees the whole drain, and then ends as Sconce's own streams do.</summary>
internal sealed class HealthService(DrainSignal drain) : HealthServiceImpl
{
    public override async Task Watch(HealthCheckRequest request, IServerStreamWriter<HealthCheckResponse> responseStream, ServerCallContext context)
    {
        // The library's watch ends when its call's token fires, after it has written what there is.
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken, drain.Ending);
        await base.Watch(request, responseStream, new EndingContext(context, ending.Token)).ConfigureAwait(false);
        if (drain.Ending.IsCancellationRequested)
        {
            throw DrainSignal.Refusal();
        }
    }

    /// <summary>A call with a token of its own.</summary>
    private sealed class EndingContext(ServerCallContext call, CancellationToken token) : ServerCallContext
    {
        protected override CancellationToken CancellationTokenCore => token;

        protected override string MethodCore => call.Method;

        protected override string HostCore => call.Host;

        protected override string PeerCore => call.Peer;

        protected override DateTime DeadlineCore => call.Deadline;

        protected override Metadata RequestHeadersCore => call.RequestHeaders;

        protected override Metadata ResponseTrailersCore => call.ResponseTrailers;

        protected override Status StatusCore { get => call.Status; set => call.Status = value; }

        protected override WriteOptions? WriteOptionsCore { get => call.WriteOptions; set => call.WriteOptions = value; }

        protected override AuthContext AuthContextCore => call.AuthContext;

        protected override ContextPropagationToken CreatePropagationTokenCore(ContextPropagationOptions? options) => call.CreatePropagationToken(options);

        protected override Task WriteResponseHeadersAsyncCore(Metadata responseHeaders) => call.WriteResponseHeadersAsync(responseHeaders);
    }
}
