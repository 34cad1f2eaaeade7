using System.Runtime.CompilerServices;
using Google.Protobuf.WellKnownTypes;
using Sconce.Client.Internal;
using Sconce.V1;

namespace Sconce.Client;

public sealed partial class RemoteModule
{
    /// <summary>Calls the module: <c>await model.ForwardAsync(x)</c>, or <c>await lstm.ForwardAsync([x, h, c])</c>.</summary>
    /// <remarks>
    /// Repeated after a connection failure; in training mode a repeat may update running statistics a second time.
    /// </remarks>
    /// <param name="inputs">Its inputs.</param>
    /// <param name="options">What to do besides; null is nothing.</param>
    /// <param name="cancellationToken">Stops waiting; work still queued on the server is then never run.</param>
    public async Task<RemoteValue> ForwardAsync(
        Inputs inputs, ForwardOptions? options = null, CancellationToken cancellationToken = default)
    {
        var request = NewForward(inputs, options);
        return ToValue(await SendAsync(Rpc.Execution.ForwardAsync, request, cancellationToken).ConfigureAwait(false));
    }

    /// <summary>
    /// Calls the module and keeps the autograd graph on the server, for a loss computed here: dispose it or run its backward.
    /// </summary>
    /// <remarks>Repeated only where the server certainly did not run it: a second run would leave a graph that nobody knows.</remarks>
    /// <param name="inputs">Its inputs.</param>
    /// <param name="options">What to do besides; null is the defaults.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<RemoteGraph> ForwardWithGraphAsync(
        Inputs inputs, GraphOptions? options = null, CancellationToken cancellationToken = default)
    {
        options ??= new GraphOptions();
        var request = NewForward(inputs, null);
        request.RecordGraph = true;
        request.InputGrads = options.InputGrads;
        request.RejectNonfinite = options.RejectNonFinite;
        request.Session = options.Session?.Id ?? "";
        CopyHooks(options.Hooks, request.Hooks);
        if (options.TimeToLive is { } ttl)
            request.GraphTtl = Duration.FromTimeSpan(ttl);
        var response = await SendAsync(Rpc.Execution.ForwardAsync, request, cancellationToken, Repeat.IfNotRun).ConfigureAwait(false);
        return response.Graph is null
            ? throw new InvalidOperationException(
                $"The hook '{response.Hooks?.StoppedBy}' stopped the call, so there is no graph: call ForwardAsync for what it captured.")
            : new RemoteGraph(OfHandle, response.Graph, ToValue(response));
    }

    /// <summary>Calls a method by name: "forward", or another that the module's type has.</summary>
    /// <remarks>Repeated only where the server certainly did not run it, since a method may change what it likes.</remarks>
    /// <param name="method">The method.</param>
    /// <param name="inputs">Its inputs.</param>
    /// <param name="options">What to do besides; null is nothing.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<RemoteValue> CallAsync(
        string method, Inputs inputs, ForwardOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(method);
        var request = new CallRequest { Method = method, Forward = NewForward(inputs, options) };
        var response = await SendAsync(Rpc.Execution.CallAsync, request, cancellationToken, Repeat.IfNotRun).ConfigureAwait(false);
        return ToValue(response.Forward);
    }

    /// <summary>Opens a pipeline of forwards: several in flight over one stream, answered in order.</summary>
    /// <param name="maxInFlight">Most calls without an answer at a time; further ones wait.</param>
    public ForwardStream OpenForwardStream(int maxInFlight = 16) => new(this, maxInFlight);

    /// <summary>Runs a sequence of inputs through a pipeline: <c>await foreach (var y in model.ForwardStreamAsync(batches))</c>.</summary>
    /// <param name="inputs">The inputs, read as the pipeline has room.</param>
    /// <param name="options">What each forward does besides; null is nothing.</param>
    /// <param name="maxInFlight">Most calls without an answer at a time.</param>
    /// <param name="cancellationToken">Ends the pipeline.</param>
    /// <returns>The outputs, in the order of the inputs. The first failure ends it.</returns>
    public async IAsyncEnumerable<RemoteValue> ForwardStreamAsync(
        IAsyncEnumerable<Inputs> inputs,
        ForwardOptions? options = null,
        int maxInFlight = 16,
        [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(inputs);
        var stream = OpenForwardStream(maxInFlight);
        await using (stream.ConfigureAwait(false))
        {
            Task<RemoteValue> ForwardAsync(Inputs next) => stream.ForwardAsync(next, options, cancellationToken);
            await foreach (var output in Pipelines.RunAsync(inputs, ForwardAsync, maxInFlight, cancellationToken).ConfigureAwait(false))
                yield return output;
        }
    }

    internal ForwardRequest NewForward(Inputs inputs, ForwardOptions? options)
    {
        ArgumentNullException.ThrowIfNull(inputs);
        var request = new ForwardRequest { Module = Name, Path = Path, RejectNonfinite = options?.RejectNonFinite ?? false };
        inputs.CopyTo(request.Inputs, request.NamedInputs);
        if (options is not null)
            CopyHooks(options.Hooks, request.Hooks);
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        return request;
    }

    internal static RemoteValue ToValue(ForwardResponse response) => new(response.Output, response.Generation) { Hooks = HookResults.From(response.Hooks) };

    internal async Task<InputGradients> BackwardAsync(
        string graph, Inputs outputGrads, bool retainGraph, IReadOnlyList<Hook> hooks, CancellationToken cancellationToken)
    {
        outputGrads.RefuseNamed(nameof(outputGrads));
        var request = new BackwardRequest { Module = Name, Graph = graph, RetainGraph = retainGraph, RequestId = NewRequestId() };
        outputGrads.CopyTo(request.OutputGrads);
        CopyHooks(hooks, request.Hooks);
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        var response = await SendAsync(Rpc.Execution.BackwardAsync, request, cancellationToken).ConfigureAwait(false);
        return new InputGradients(
            [.. response.InputGrads.Select(TensorData.From)],
            response.NamedInputGrads.ToDictionary(named => named.Key, named => TensorData.From(named.Value)),
            response.Generation)
        {
            Hooks = HookResults.From(response.Hooks),
        };
    }

    internal Task ReleaseGraphAsync(string graph, CallSettings? settings, CancellationToken cancellationToken) =>
        Rpc.UnaryAsync(Rpc.Execution.ReleaseGraphAsync, new ReleaseGraphRequest { Module = Name, Graph = graph }, settings ?? _settings, cancellationToken);
}
