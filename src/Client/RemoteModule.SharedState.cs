using Sconce.Client.Internal;
using Sconce.V1;

namespace Sconce.Client;

public sealed partial class RemoteModule
{
    /// <summary>
    /// Loads weights, atomically, through memory that this process and the server share: for a server of this host, with <see cref="SconceClientOptions.SharedMemorySocket"/> set. They are copied twice, once by each, and
    /// cross no wire.
    /// </summary>
    /// <param name="state">Tensors by key, from here on.</param>
    /// <param name="options">How they are loaded; null is strictly, as they are. Their progress is not told.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    /// <returns>Missing and unexpected keys, and the new generation.</returns>
    /// <exception cref="ArgumentException">A tensor is of a kind that the safetensors format does not hold, such as complex128, or its elements are not here.</exception>
    /// <exception cref="InvalidOperationException"><see cref="SconceClientOptions.SharedMemorySocket"/> is not set.</exception>
    public async Task<LoadStateSharedResponse> LoadStateSharedAsync(StateDict state, LoadStateDictOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(state);
        var layout = SafetensorsLayout.Of(state);
        using var region = await SharedRegion.RentAsync(Rpc, layout.FileBytes, _settings, cancellationToken).ConfigureAwait(false);
        region.Write(layout);
        return await LoadStateSharedAsync(region, options, cancellationToken: cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Loads what is in a shared region, atomically: the bytes of a safetensors file, or of a PyTorch zip file of a state dict.</summary>
    /// <param name="region">The region, written to by its owner; leave it alone until this has returned.</param>
    /// <param name="options">How it is loaded; null is strictly, as it is.</param>
    /// <param name="bytes">Bytes of the file, which begins where the region does; 0 is all of the region.</param>
    /// <param name="rootKey">Where in a PyTorch file the state dict is, e.g. <c>state_dict</c>; empty where it is the whole file.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    /// <returns>Missing and unexpected keys, and the new generation.</returns>
    /// <exception cref="SconceNotFoundException">There is no such module; or the region is of another server, or of one that has ended since: rent another.</exception>
    public Task<LoadStateSharedResponse> LoadStateSharedAsync(
        SharedRegion region, LoadStateDictOptions? options = null, long bytes = 0, string rootKey = "", CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(region);
        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        var request = new LoadStateSharedRequest
        {
            Module = Name,
            Path = Path,
            State = (options ?? new LoadStateDictOptions()).ToShared(region, bytes, rootKey),
            RequestId = NewRequestId(),
        };
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        return Rpc.UnaryAsync(Rpc.State.LoadStateSharedAsync, request, _settings, cancellationToken);
    }
}
