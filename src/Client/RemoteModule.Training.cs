using System.Runtime.CompilerServices;
using Sconce.Client.Internal;
using Sconce.V1;

namespace Sconce.Client;

public sealed partial class RemoteModule
{
    /// <summary>Makes an optimizer over the module's parameters: <c>model.CreateOptimizerAsync("Adam", [("lr", 1e-3)])</c>.</summary>
    /// <param name="type">PyTorch's type name.</param>
    /// <param name="args">Constructor arguments by PyTorch's names; null is PyTorch's defaults.</param>
    /// <param name="groups">Parameter groups; null is one group of all parameters.</param>
    /// <param name="name">Name for it; empty is "default".</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<RemoteOptimizer> CreateOptimizerAsync(
        string type, Arguments? args = null, IEnumerable<ParameterGroup>? groups = null, string name = "", CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(type);
        RequireWhole("an optimizer");
        var request = new CreateOptimizerRequest { Module = Name, Optimizer = name, Type = type, Args = args?.ToMessage(), RequestId = NewRequestId() };
        request.Groups.AddRange((groups ?? []).Select(group => group.ToMessage()));
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        var response = await SendAsync(Rpc.Training.CreateOptimizerAsync, request, cancellationToken).ConfigureAwait(false);
        return new RemoteOptimizer(Rpc, Name, response.Optimizer.Name, _settings?.OfHandle);
    }

    /// <summary>
    /// An optimizer that was made before, with this module's settings. No call is made: one that is not there is NOT_FOUND when used.
    /// </summary>
    /// <param name="name">Its name; empty is "default".</param>
    public RemoteOptimizer Optimizer(string name = "") => new(Rpc, Name, name.Length == 0 ? "default" : name, _settings);

    /// <summary>One training step: forward, loss, zero_grad, backward, clip and step in one call.</summary>
    /// <param name="inputs">Inputs of the module.</param>
    /// <param name="targets">What the loss takes after the module's outputs.</param>
    /// <param name="loss">The loss, e.g. <c>Nn.CrossEntropyLoss()</c>.</param>
    /// <param name="options">What to do besides; null is the defaults.</param>
    /// <param name="cancellationToken">Stops waiting; a step still queued is then never taken.</param>
    public async Task<TrainStepResult> TrainStepAsync(
        Inputs inputs, Inputs targets, Loss loss, TrainStepOptions? options = null, CancellationToken cancellationToken = default)
    {
        var request = NewTrainStep(inputs, targets, loss, options);
        return TrainStepResult.From(await SendAsync(Rpc.Training.TrainStepAsync, request, cancellationToken).ConfigureAwait(false));
    }

    /// <summary>Opens a pipeline of training steps: several in flight over one stream, taken and answered in order.</summary>
    /// <param name="loss">The loss of every step.</param>
    /// <param name="options">What each step does besides; null is the defaults.</param>
    /// <param name="maxInFlight">Most steps without an answer at a time; further ones wait.</param>
    /// <param name="stopOnError">
    /// Whether a step that fails ends the stream and keeps those behind it from being taken. If not, each step that fails throws by itself, also one
    /// that met a full queue.
    /// </param>
    /// <exception cref="InvalidOperationException">The module has settings that belong to one call: a request id or a generation.</exception>
    public TrainStream OpenTrainStream(Loss loss, TrainStepOptions? options = null, int maxInFlight = 8, bool stopOnError = true) =>
        _settings switch
        {
            { RequestId: { } id } => throw new InvalidOperationException(
                $"The request id '{id}' belongs to one call, and a stream makes many: open it on the module without With."),
            { IfGeneration: { } generation } => throw new InvalidOperationException(
                $"IfGeneration is {generation}, and each step of a stream makes another generation: open it on the module without With."),
            _ => new(this, loss, options, maxInFlight, stopOnError),
        };

    /// <summary>
    /// Trains on a sequence of batches through a pipeline: <c>await foreach (var step in model.TrainStreamAsync(batches, loss))</c>.
    /// </summary>
    /// <param name="batches">The batches, read as the pipeline has room.</param>
    /// <param name="loss">The loss of every step.</param>
    /// <param name="options">What each step does besides; null is the defaults.</param>
    /// <param name="maxInFlight">Most steps without an answer at a time.</param>
    /// <param name="cancellationToken">Ends the pipeline.</param>
    /// <returns>What each step did, in order. A step that fails ends it, and none behind it is taken.</returns>
    public async IAsyncEnumerable<TrainStepResult> TrainStreamAsync(
        IAsyncEnumerable<TrainBatch> batches,
        Loss loss,
        TrainStepOptions? options = null,
        int maxInFlight = 8,
        [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(batches);
        var stream = OpenTrainStream(loss, options, maxInFlight);
        await using (stream.ConfigureAwait(false))
        {
            Task<TrainStepResult> StepAsync(TrainBatch batch) => stream.StepAsync(batch, cancellationToken);
            await foreach (var step in Pipelines.RunAsync(batches, StepAsync, maxInFlight, cancellationToken).ConfigureAwait(false))
                yield return step;
        }
    }

    /// <summary>Forward, loss and backward of one micro-batch: adds to the gradients and steps nothing.</summary>
    /// <param name="inputs">Inputs of the module.</param>
    /// <param name="targets">What the loss takes after the module's outputs.</param>
    /// <param name="loss">The loss.</param>
    /// <param name="lossScale">The loss is multiplied by this before backward, e.g. 1/k over k micro-batches.</param>
    /// <param name="returnOutput">Return the module's output too.</param>
    /// <param name="hooks">Hooks for this call alone; null is none.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<ForwardBackwardResult> ForwardBackwardAsync(
        Inputs inputs, Inputs targets, Loss loss, double lossScale = 1, bool returnOutput = false, IReadOnlyList<Hook>? hooks = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(targets);
        ArgumentNullException.ThrowIfNull(loss);
        targets.RefuseNamed(nameof(targets));
        var request = new ForwardBackwardRequest
        {
            Module = Name,
            Path = Path,
            Loss = loss,
            LossScale = lossScale,
            ReturnOutput = returnOutput,
            RequestId = NewRequestId(),
        };
        inputs.CopyTo(request.Inputs, request.NamedInputs);
        targets.CopyTo(request.Targets);
        CopyHooks(hooks ?? [], request.Hooks);
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        var response = await SendAsync(Rpc.Training.ForwardBackwardAsync, request, cancellationToken).ConfigureAwait(false);
        var output = response.Output is null ? null : new RemoteValue(response.Output, response.Generation);
        return new ForwardBackwardResult(response.Loss, output, response.Generation) { Hooks = HookResults.From(response.Hooks) };
    }

    /// <summary>
    /// Clips gradients in place (clip_grad_norm_, clip_grad_value_): <c>model.ClipGradientsAsync(new() { MaxNorm = 1 })</c>.
    /// </summary>
    /// <param name="clip">How.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    /// <returns>The total norm before clipping; null where they were clipped by value.</returns>
    public async Task<double?> ClipGradientsAsync(GradientClip clip, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(clip);
        var request = new ClipGradientsRequest { Module = Name, Path = Path, Clip = clip, RequestId = NewRequestId() };
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        var response = await SendAsync(Rpc.Training.ClipGradientsAsync, request, cancellationToken).ConfigureAwait(false);
        return response.HasGradNorm ? response.GradNorm : null;
    }

    /// <summary>Seeds the module's own random numbers (torch.manual_seed); from then on it has a generator of its own.</summary>
    /// <param name="seed">The seed.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task ManualSeedAsync(long seed, CancellationToken cancellationToken = default)
    {
        RequireWhole("a seed");
        var request = new ManualSeedRequest { Module = Name, Seed = seed, RequestId = NewRequestId() };
        return SendAsync(Rpc.Training.ManualSeedAsync, request, cancellationToken);
    }

    internal TrainStepRequest NewTrainStep(Inputs inputs, Inputs targets, Loss loss, TrainStepOptions? options)
    {
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(targets);
        ArgumentNullException.ThrowIfNull(loss);
        targets.RefuseNamed(nameof(targets));
        var request = new TrainStepRequest { Module = Name, Path = Path, Loss = loss, RequestId = NewRequestId() };
        if (options is not null)
        {
            request.Optimizer = options.Optimizer;
            request.ZeroGrad = options.ZeroGrad;
            request.Clip = options.Clip;
            request.SchedulerStep = options.SchedulerStep;
            request.ReturnOutput = options.ReturnOutput;
            CopyHooks(options.Hooks, request.Hooks);
        }

        inputs.CopyTo(request.Inputs, request.NamedInputs);
        targets.CopyTo(request.Targets);
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        return request;
    }
}
