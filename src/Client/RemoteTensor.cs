using Sconce.Client.Internal;
using Sconce.V1;

namespace Sconce.Client;

/// <summary>A tensor kept on the server: sent once, then used as an input by reference. Disposing drops it.</summary>
public sealed class RemoteTensor : IAsyncDisposable
{
    private readonly Rpc _rpc;
    private readonly CallSettings? _settings;
    private bool _dropped;

    internal RemoteTensor(Rpc rpc, KeptTensor kept, CallSettings? settings)
    {
        _rpc = rpc;
        _settings = settings;
        Kept = kept;
        Reference = TensorData.KeptAs(kept);
    }

    /// <summary>Its id.</summary>
    public string Id => Kept.Id;

    /// <summary>What the server said of it when it was put: dtype, shape, bytes, session, when it expires.</summary>
    public KeptTensor Kept { get; }

    /// <summary>A reference to use wherever a tensor goes in.</summary>
    public TensorData Reference { get; }

    /// <summary>A reference to use wherever a tensor goes in.</summary>
    /// <param name="tensor">The kept tensor.</param>
    public static implicit operator TensorData(RemoteTensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        return tensor.Reference;
    }

    /// <summary>The reference; the named form of the conversion operator.</summary>
    public TensorData ToTensorData() => Reference;

    /// <summary>Brings its elements here.</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<TensorData> GetAsync(CancellationToken cancellationToken = default)
    {
        var request = new GetTensorRequest { Id = Id };
        var response = await _rpc.UnaryAsync(_rpc.Tensors.GetTensorAsync, request, _settings, cancellationToken).ConfigureAwait(false);
        return TensorData.From(response.Tensor);
    }

    /// <summary>Drops it and frees its memory. One that is gone already is no error.</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task DropAsync(CancellationToken cancellationToken = default) => DropAsync(_settings, cancellationToken);

    private async Task DropAsync(CallSettings? settings, CancellationToken cancellationToken)
    {
        if (_dropped)
            return;
        try
        {
            var request = new DropTensorRequest { Id = Id, RequestId = Rpc.RequestId(settings) };
            await _rpc.UnaryAsync(_rpc.Tensors.DropTensorAsync, request, settings, cancellationToken).ConfigureAwait(false);
        }
        catch (SconceNotFoundException)
        {
            // Expired, or gone with its session: what was wanted.
        }

        _dropped = true;
    }

    /// <summary>Drops it. Never throws: what cannot be dropped expires.</summary>
    public async ValueTask DisposeAsync()
    {
        try
        {
            await DropAsync(CallSettings.OnDispose, CancellationToken.None).ConfigureAwait(false);
        }
        catch (Exception e) when (e is SconceException or ObjectDisposedException)
        {
            // The latter where the client was disposed first.
            Log.TensorNotDropped(_rpc.Logger, Id, e.Message);
        }
    }
}
