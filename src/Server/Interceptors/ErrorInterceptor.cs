using System.Diagnostics;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Core.Interceptors;
using Microsoft.Extensions.Logging;

namespace Sconce.Server.Interceptors;

/// <summary>Passes every failure of a call through the <see cref="ErrorFunnel"/>, and logs calls that succeed at Debug.</summary>
internal sealed class ErrorInterceptor(ErrorFunnel errors, ILogger<ErrorInterceptor> logger) : Interceptor
{
    public override Task<TResponse> UnaryServerHandler<TRequest, TResponse>(
        TRequest request, ServerCallContext context, UnaryServerMethod<TRequest, TResponse> continuation)
    {
        if (logger.IsEnabled(LogLevel.Debug))
        {
            return LoggedAsync(request, context, continuation);
        }

        Task<TResponse> call;
        try
        {
            call = continuation(request, context);
        }
        catch (Exception e)
        {
            return Task.FromException<TResponse>(errors.ToRpcException(e, request as IMessage, context));
        }

        // No state machine for the calls that are answered at once.
        return call.IsCompletedSuccessfully && errors.Fits(call.Result) ? call : AwaitAsync(call, request, context);
    }

    public override async Task<TResponse> ClientStreamingServerHandler<TRequest, TResponse>(
        IAsyncStreamReader<TRequest> requestStream, ServerCallContext context, ClientStreamingServerMethod<TRequest, TResponse> continuation)
    {
        var started = Stopwatch.GetTimestamp();
        try
        {
            var response = await continuation(requestStream, context).ConfigureAwait(false);
            errors.CheckAnswer(response);
            Done(null, context, started);
            return response;
        }
        catch (Exception e)
        {
            throw errors.ToRpcException(e, null, context);
        }
    }

    public override async Task ServerStreamingServerHandler<TRequest, TResponse>(
        TRequest request, IServerStreamWriter<TResponse> responseStream, ServerCallContext context, ServerStreamingServerMethod<TRequest, TResponse> continuation)
    {
        var started = Stopwatch.GetTimestamp();
        try
        {
            await continuation(request, responseStream, context).ConfigureAwait(false);
            Done(request as IMessage, context, started);
        }
        catch (Exception e)
        {
            throw errors.ToRpcException(e, request as IMessage, context);
        }
    }

    public override async Task DuplexStreamingServerHandler<TRequest, TResponse>(
        IAsyncStreamReader<TRequest> requestStream, IServerStreamWriter<TResponse> responseStream, ServerCallContext context,
        DuplexStreamingServerMethod<TRequest, TResponse> continuation)
    {
        var started = Stopwatch.GetTimestamp();
        try
        {
            await continuation(requestStream, responseStream, context).ConfigureAwait(false);
            Done(null, context, started);
        }
        catch (Exception e)
        {
            throw errors.ToRpcException(e, null, context);
        }
    }

    private async Task<TResponse> AwaitAsync<TRequest, TResponse>(Task<TResponse> call, TRequest request, ServerCallContext context)
    {
        try
        {
            var response = await call.ConfigureAwait(false);
            errors.CheckAnswer(response);
            return response;
        }
        catch (Exception e)
        {
            throw errors.ToRpcException(e, request as IMessage, context);
        }
    }

    private async Task<TResponse> LoggedAsync<TRequest, TResponse>(
        TRequest request, ServerCallContext context, UnaryServerMethod<TRequest, TResponse> continuation)
        where TRequest : class
        where TResponse : class
    {
        var started = Stopwatch.GetTimestamp();
        try
        {
            var response = await continuation(request, context).ConfigureAwait(false);
            errors.CheckAnswer(response);
            Done(request as IMessage, context, started);
            return response;
        }
        catch (Exception e)
        {
            throw errors.ToRpcException(e, request as IMessage, context);
        }
    }

    private void Done(IMessage? request, ServerCallContext context, long started)
    {
        if (logger.IsEnabled(LogLevel.Debug))
        {
            var facts = RequestFacts.Of(request, context);
            CallLog.Done(logger, context.Method, facts.Module, facts.RequestId, Stopwatch.GetElapsedTime(started).TotalMilliseconds);
        }
    }
}
