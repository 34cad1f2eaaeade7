using Grpc.Core;
using Grpc.Core.Interceptors;
using Microsoft.AspNetCore.Http;
using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Server.Hosting;

namespace Sconce.Server.Interceptors;

/// <summary>Lets in the calls that this server can serve, and counts them: made against a contract that it knows, bound to no other start of a server, while it is neither restoring nor draining.</summary>
internal sealed class AdmissionInterceptor(DrainSignal drain, EngineHost engine, ServerInstance instance) : Interceptor
{
    // What tells how far a starting server is.
    private static readonly string[] Open = [$"/{V1.HostService.Descriptor.FullName}/", "/grpc.health.v1.", "/grpc.reflection."];

    public override Task<TResponse> UnaryServerHandler<TRequest, TResponse>(
        TRequest request, ServerCallContext context, UnaryServerMethod<TRequest, TResponse> continuation)
    {
        Admit(context);
        return continuation(request, context);
    }

    public override async Task<TResponse> ClientStreamingServerHandler<TRequest, TResponse>(
        IAsyncStreamReader<TRequest> requestStream, ServerCallContext context, ClientStreamingServerMethod<TRequest, TResponse> continuation)
    {
        Admit(context);
        using var open = drain.Open();
        return await continuation(requestStream, context).ConfigureAwait(false);
    }

    public override async Task ServerStreamingServerHandler<TRequest, TResponse>(
        TRequest request, IServerStreamWriter<TResponse> responseStream, ServerCallContext context, ServerStreamingServerMethod<TRequest, TResponse> continuation)
    {
        Admit(context);
        using var open = drain.Open();
        using var cut = CutWhenClosing(context);
        await continuation(request, responseStream, context).ConfigureAwait(false);
    }

    public override async Task DuplexStreamingServerHandler<TRequest, TResponse>(
        IAsyncStreamReader<TRequest> requestStream, IServerStreamWriter<TResponse> responseStream, ServerCallContext context,
        DuplexStreamingServerMethod<TRequest, TResponse> continuation)
    {
        Admit(context);
        using var open = drain.Open();
        using var cut = CutWhenClosing(context);
        await continuation(requestStream, responseStream, context).ConfigureAwait(false);
    }

    /// <summary>A stream may have no end of its own (a health watch, reflection), and Kestrel would wait for it until its timeout.</summary>
    private CancellationTokenRegistration CutWhenClosing(ServerCallContext context) =>
        drain.Closing.Register(static state => ((HttpContext)state!).Abort(), context.GetHttpContext());

    private void Admit(ServerCallContext context)
    {
        // The raw headers: ServerCallContext.RequestHeaders would copy all of them into a new collection on every call.
        var headers = context.GetHttpContext().Request.Headers;
        Handshake.Check(headers);
        instance.Check(headers);

        // Health stays answerable: it is how the draining is told.
        if (drain.IsDraining && !context.Method.StartsWith("/grpc.health.v1.", StringComparison.Ordinal))
        {
            throw DrainSignal.Refusal();
        }

        if (engine.IsRestoring && !Open.Any(service => context.Method.StartsWith(service, StringComparison.Ordinal)))
        {
            var progress = engine.Durable.Progress;
            throw new EngineException(EngineError.Unavailable, "RESTORING",
                $"the server has started and is restoring its modules, {progress.Restored} of {progress.Total} so far; retry, or watch GetHost's restoration or the health service")
            {
                RetryAfter = TimeSpan.FromSeconds(1),
            };
        }

        engine.Usage.Called(context.Method);
    }
}
