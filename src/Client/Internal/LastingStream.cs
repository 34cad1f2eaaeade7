using Grpc.Core;

namespace Sconce.Client.Internal;

/// <summary>Opens streams that last as long as their readers.</summary>
internal static class LastingStream
{
    /// <summary>
    /// Opens a stream, which it is when its first message has come: till then the call's time limit and token apply and a failure is repeated, and
    /// not to the stream that outlives the opening.
    /// </summary>
    public static Task<LastingStream<TResponse>> OpenAsync<TRequest, TResponse>(
        Rpc rpc,
        Func<TRequest, CallOptions, AsyncServerStreamingCall<TResponse>> method,
        TRequest request,
        CallSettings? settings,
        CancellationToken cancellationToken)
        where TRequest : class =>
        rpc.RunAsync(
            static (state, options) => OpenOnceAsync(state.method, state.request, options),
            (method, request),
            Repeat.Always,
            settings?.Timeout ?? rpc.Timeout,
            typeof(TRequest).Name,
            cancellationToken,
            settings?.IfInstance);

    private static async Task<LastingStream<TResponse>> OpenOnceAsync<TRequest, TResponse>(
        Func<TRequest, CallOptions, AsyncServerStreamingCall<TResponse>> method, TRequest request, CallOptions options)
    {
        var lifetime = new CancellationTokenSource();
        var call = method(request, new CallOptions(options.Headers, null, lifetime.Token));
        try
        {
            using var opening = CancellationTokenSource.CreateLinkedTokenSource(options.CancellationToken);
            if (options.Deadline is { } deadline)
                opening.CancelAfter(deadline - DateTime.UtcNow is { Ticks: > 0 } left ? left : TimeSpan.Zero);
            using var stop = opening.Token.Register(lifetime.Cancel);
            Contract.Check(await call.ResponseHeadersAsync.ConfigureAwait(false), null);
            if (!await call.ResponseStream.MoveNext(CancellationToken.None).ConfigureAwait(false))
                throw new RpcException(new Status(StatusCode.Unavailable, "the server ended the stream as it opened"));
            return new LastingStream<TResponse>(call, lifetime);
        }
        catch (Exception e)
        {
            var late = lifetime.IsCancellationRequested && !options.CancellationToken.IsCancellationRequested;
            var headers = call.ResponseHeadersAsync;
            call.Dispose();
            lifetime.Dispose();
            if (e is not RpcException failure)
                throw;
            if (late)
                throw new RpcException(new Status(StatusCode.DeadlineExceeded, "the stream did not open in time", failure));
            Rpc.CheckContract(headers, failure);
            throw;
        }
    }
}

/// <summary>A stream of the server's that lasts as long as its reader, and whose first message has come.</summary>
internal sealed class LastingStream<TResponse>(AsyncServerStreamingCall<TResponse> call, CancellationTokenSource lifetime) : IDisposable
{
    public TResponse Current => call.ResponseStream.Current;

    public bool IsCancelled => lifetime.IsCancellationRequested;

    /// <exception cref="RpcException">It broke.</exception>
    public Task<bool> MoveNextAsync() => call.ResponseStream.MoveNext(CancellationToken.None);

    public void Cancel() => lifetime.Cancel();

    public void Dispose()
    {
        call.Dispose();
        lifetime.Dispose();
    }
}
