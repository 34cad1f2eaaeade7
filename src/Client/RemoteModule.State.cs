using Sconce.Client.Internal;
using Sconce.V1;

namespace Sconce.Client;

public sealed partial class RemoteModule
{
    /// <summary>The weights and persistent buffers, of one generation (nn.Module.state_dict).</summary>
    /// <param name="keys">Only keys that match one of these, <c>*</c> and <c>?</c> as wildcards; null is all.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<StateDict> StateDictAsync(IEnumerable<string>? keys = null, CancellationToken cancellationToken = default)
    {
        var request = new GetStateDictRequest { Module = Name, Path = Path, Keys = { keys ?? [] } };
        return StateTransfer.ReadAsync(
            Rpc,
            Rpc.State.GetStateDict,
            request,
            part => new StatePart(part.Manifest?.Entries, part.Chunk, part.End, part.Manifest?.Generation ?? 0),
            _settings,
            cancellationToken);
    }

    /// <summary>Loads weights, atomically: everything is checked before anything changes (nn.Module.load_state_dict).</summary>
    /// <param name="state">Tensors by key, from here on. It is sent again where the connection fails, so leave it alone until then.</param>
    /// <param name="strict">Refuse missing and unexpected keys; false reports them. A shape that differs is refused either way.</param>
    /// <param name="cancellationToken">Stops waiting; nothing is loaded unless everything had arrived.</param>
    /// <returns>Missing and unexpected keys, and the new generation.</returns>
    public Task<LoadStateDictResponse> LoadStateDictAsync(
        StateDict state, bool strict = true, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(state);
        var header = new LoadStateDictHeader { Module = Name, Path = Path, Strict = strict, RequestId = NewRequestId() };
        header.Entries.AddRange(StateTransfer.Entries(state));
        if (IfGeneration is { } generation)
            header.IfGeneration = generation;
        return StateTransfer.SendAsync(
            Rpc,
            Rpc.State.LoadStateDict,
            () => StateTransfer.Chunks(state)
                .Select(part => part.Chunk is { } chunk ? new LoadStateDictRequest { Chunk = chunk } : new LoadStateDictRequest { End = part.End })
                .Prepend(new LoadStateDictRequest { Header = header }),
            _settings,
            cancellationToken);
    }

    /// <summary>The gradients of the parameters that have one, by name.</summary>
    /// <param name="parameters">Only parameters that match one of these, <c>*</c> and <c>?</c> as wildcards; null is all.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<StateDict> GradientsAsync(IEnumerable<string>? parameters = null, CancellationToken cancellationToken = default)
    {
        var request = new GetGradientsRequest { Module = Name, Path = Path, Parameters = { parameters ?? [] } };
        return StateTransfer.ReadAsync(
            Rpc,
            Rpc.Training.GetGradients,
            request,
            part => new StatePart(part.Manifest?.Entries, part.Chunk, part.End, part.Manifest?.Generation ?? 0),
            _settings,
            cancellationToken);
    }
}
