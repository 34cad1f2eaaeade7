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
    private readonly LastingStream<OpenSessionResponse> _stream;
    private readonly CancellationTokenSource _ended = new();
    private readonly Task _watch;
    private bool _disposed;

    private RemoteSession(SconceClient client, Rpc rpc, LastingStream<OpenSessionResponse> stream)
    {
        _client = client;
        _rpc = rpc;
        _stream = stream;
        Id = stream.Current.Session;
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
        _stream.Cancel();
        await _watch.ConfigureAwait(false);
        _stream.Dispose();
        _ended.Dispose();
    }

    internal static async Task<RemoteSession> OpenAsync(
        SconceClient client, Rpc rpc, string label, CallSettings? settings, CancellationToken cancellationToken)
    {
        var request = new OpenSessionRequest { Label = label };
        return new RemoteSession(client, rpc, await LastingStream.OpenAsync(rpc, rpc.Tensors.OpenSession, request, settings, cancellationToken).ConfigureAwait(false));
    }

    private async Task WatchAsync()
    {
        var reason = "the server ended it";
        try
        {
            while (await _stream.MoveNextAsync().ConfigureAwait(false))
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

        if (!_stream.IsCancelled)
            Log.SessionLost(_rpc.Logger, Id, reason);
        await _ended.CancelAsync().ConfigureAwait(false);
    }
}
