using Sconce.Client.Internal;
using Sconce.V1;

namespace Sconce.Client;

/// <summary>
/// An autograd graph kept on the server by <see cref="RemoteModule.ForwardWithGraphAsync"/>: compute a loss here, give its gradient back.
/// </summary>
/// <remarks>
/// Backward uses it up unless told to keep it; disposing releases one that is left. It also ends at <see cref="Expires"/>.
/// </remarks>
public sealed class RemoteGraph : IAsyncDisposable
{
    private readonly RemoteModule _module;
    private bool _gone;

    internal RemoteGraph(RemoteModule module, LiveGraph graph, RemoteValue output)
    {
        _module = module;
        Id = graph.Id;
        Expires = graph.Expires.ToDateTimeOffset();
        EstimatedBytes = (long)graph.EstimatedBytes;
        Output = output;
    }

    /// <summary>What the module returned.</summary>
    public RemoteValue Output { get; }

    /// <summary>Its id on the server.</summary>
    public string Id { get; }

    /// <summary>When the server frees it by itself.</summary>
    public DateTimeOffset Expires { get; }

    /// <summary>Bytes charged for it to the server's graph budget: an estimate.</summary>
    public long EstimatedBytes { get; }

    /// <summary>Runs backward from an output of one element, as <c>loss.backward()</c>.</summary>
    /// <param name="retainGraph">Keep the graph for another backward.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<InputGradients> BackwardAsync(bool retainGraph = false, CancellationToken cancellationToken = default) =>
        BackwardAsync(Inputs.Empty, retainGraph, null, cancellationToken);

    /// <summary>Runs backward: adds to the gradients of the parameters and returns those of the inputs.</summary>
    /// <param name="outputGrads">
    /// Gradient of each tensor of the output in order, a tuple flattened; <see cref="TensorData.None"/> for one that takes no part.
    /// </param>
    /// <param name="retainGraph">Keep the graph for another backward.</param>
    /// <param name="hooks">Hooks on gradients of parameters, for this call alone; others go with the forward. Null is none.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<InputGradients> BackwardAsync(
        Inputs outputGrads, bool retainGraph = false, IReadOnlyList<Hook>? hooks = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(outputGrads);
        var gradients = await _module.BackwardAsync(Id, outputGrads, retainGraph, hooks ?? [], cancellationToken).ConfigureAwait(false);
        _gone = !retainGraph;
        return gradients;
    }

    /// <summary>Frees the graph. One that is gone already is no error.</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task ReleaseAsync(CancellationToken cancellationToken = default) => ReleaseAsync(null, cancellationToken);

    private async Task ReleaseAsync(CallSettings? settings, CancellationToken cancellationToken)
    {
        if (_gone)
            return;
        try
        {
            await _module.ReleaseGraphAsync(Id, settings, cancellationToken).ConfigureAwait(false);
        }
        catch (SconceNotFoundException)
        {
            // Released, expired, or its module deleted: what was wanted.
        }

        _gone = true;
    }

    /// <summary>Frees the graph if it is left. Never throws: what cannot be released expires.</summary>
    public async ValueTask DisposeAsync()
    {
        try
        {
            await ReleaseAsync(CallSettings.OnDispose, CancellationToken.None).ConfigureAwait(false);
        }
        catch (Exception e) when (e is SconceException or ObjectDisposedException)
        {
            // The latter where the client was disposed first.
            Log.GraphNotReleased(_module.Rpc.Logger, Id, e.Message);
        }
    }
}

/// <summary>Gradients that a backward gave for the inputs.</summary>
/// <param name="Positional">One for each positional input; <see cref="TensorData.None"/> for one that has no gradient.</param>
/// <param name="Named">Likewise for the named inputs.</param>
/// <param name="Generation">Generation of the module.</param>
public sealed record InputGradients(IReadOnlyList<TensorData> Positional, IReadOnlyDictionary<string, TensorData> Named, ulong Generation)
{
    /// <summary>What hooks have to say.</summary>
    public HookResults Hooks { get; init; } = HookResults.Empty;
}
