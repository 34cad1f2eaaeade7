using Grpc.Core;
using Sconce.Client.Internal;
using Sconce.V1;

namespace Sconce.Client;

/// <summary>
/// Owns tensors and graphs on the server: when it is disposed, or its connection or this process ends, all of them are freed.
/// </summary>
public sealed class RemoteSession : IAsyncDisposable
{
    private readonly SconceClient _client;
    private readonly Rpc _rpc;
    private readonly AsyncServerStreamingCall<OpenSessionResponse> _call;
    private readonly CancellationTokenSource _lifetime;
    private readonly CancellationTokenSource _ended = new();
    private readonly Task _watch;
    private bool _disposed;

    private RemoteSession(
        SconceClient client, Rpc rpc, string id, AsyncServerStreamingCall<OpenSessionResponse> call, CancellationTokenSource lifetime)
    {
        _client = client;
        _rpc = rpc;
        _call = call;
        _lifetime = lifetime;
        Id = id;
        Ended = _ended.Token;
        _watch = Task.Run(WatchAsync);
    }

    /// <summary>Its id on the server.</summary>
    public string Id { get; }

    /// <summary>
    /// Cancelled when the session has ended, for whatever reason: what it owned is gone then, and another must be opened.
    /// </summary>
    public CancellationToken Ended { get; }

    /// <summary>Keeps a tensor on the server for as long as the session lasts.</summary>
    /// <param name="tensor">The tensor.</param>
    /// <param name="id">Id to keep it under; empty lets the server choose.</param>
    /// <param name="timeToLive">Time to live, restarted by each use; null is the server's <c>kept_tensor_ttl</c>.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<RemoteTensor> PutTensorAsync(
        TensorData tensor, string id = "", TimeSpan? timeToLive = null, CancellationToken cancellationToken = default) =>
        _client.PutTensorAsync(tensor, id, timeToLive, this, cancellationToken);

    /// <summary>The tensors that it owns, without their elements.</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<IReadOnlyList<KeptTensor>> ListTensorsAsync(CancellationToken cancellationToken = default) =>
        _client.ListTensorsAsync(Id, cancellationToken);

    /// <summary>Ends the session.</summary>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, true))
            return;
        await _lifetime.CancelAsync().ConfigureAwait(false);
        await _watch.ConfigureAwait(false);
        _call.Dispose();
        _lifetime.Dispose();
        _ended.Dispose();
    }

    internal static Task<RemoteSession> OpenAsync(
        SconceClient client, Rpc rpc, string label, TimeSpan? timeout, CancellationToken cancellationToken) =>
        rpc.RunAsync(
            static (state, options) => OpenOnceAsync(state.client, state.rpc, state.label, options),
            (client, rpc, label),
            Repeat.Always,
            timeout,
            nameof(TensorService.TensorServiceClient.OpenSession),
            cancellationToken);

    private static async Task<RemoteSession> OpenOnceAsync(SconceClient client, Rpc rpc, string label, CallOptions options)
    {
        // The session outlives the call that opens it: caller's token and deadline apply until the id is here, and not to the stream.
        var lifetime = new CancellationTokenSource();
        var call = rpc.Tensors.OpenSession(new OpenSessionRequest { Label = label }, new CallOptions(options.Headers, null, lifetime.Token));
        try
        {
            using var opening = CancellationTokenSource.CreateLinkedTokenSource(options.CancellationToken);
            if (options.Deadline is { } deadline)
                opening.CancelAfter(deadline - DateTime.UtcNow is { Ticks: > 0 } left ? left : TimeSpan.Zero);
            using var stop = opening.Token.Register(lifetime.Cancel);
            Contract.Check(await call.ResponseHeadersAsync.ConfigureAwait(false), null);
            if (!await call.ResponseStream.MoveNext(CancellationToken.None).ConfigureAwait(false))
                throw new RpcException(new Status(StatusCode.Unavailable, "the server ended the session as it opened"));
            return new RemoteSession(client, rpc, call.ResponseStream.Current.Session, call, lifetime);
        }
        catch (Exception e)
        {
            var late = lifetime.IsCancellationRequested && !options.CancellationToken.IsCancellationRequested;
            call.Dispose();
            lifetime.Dispose();
            if (e is RpcException failure && late)
                throw new RpcException(new Status(StatusCode.DeadlineExceeded, "the session did not open in time", failure));
            throw;
        }
    }

    private async Task WatchAsync()
    {
        var reason = "the server ended it";
        try
        {
            while (await _call.ResponseStream.MoveNext(CancellationToken.None).ConfigureAwait(false))
            {
                // A heartbeat; that the stream lives is all it says.
            }
        }
        catch (RpcException e)
        {
            reason = $"{e.StatusCode}: {e.Status.Detail}";
        }
        catch (ObjectDisposedException)
        {
            reason = "the client was disposed";
        }

        if (!_lifetime.IsCancellationRequested)
            Log.SessionLost(_rpc.Logger, Id, reason);
        await _ended.CancelAsync().ConfigureAwait(false);
    }
}
