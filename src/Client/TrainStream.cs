using Sconce.Client.Internal;
using Sconce.V1;

namespace Sconce.Client;

/// <summary>
/// A pipeline of training steps over one stream: start several, await them as their answers come. Steps are taken in the order of the
/// calls, each exactly once.
/// </summary>
/// <remarks>
/// Where the connection fails the stream opens again and repeats the steps that had no answer under their first ids, so that none is taken
/// twice; not so with a server that has started anew since the first answer, and may have lost steps before them: then it ends with a
/// <see cref="SconceServerRestartedException"/>.
/// So it does where the server's queue is full, unless steps go on after an error: then the step throws
/// <see cref="SconceResourceExhaustedException"/>, since those behind it may have been taken. <see cref="CallSettings.Timeout"/> limits each step.
/// Disposing cancels what has no answer (steps already sent may still be taken); <see cref="CompleteAsync"/> waits for it.
/// </remarks>
public sealed class TrainStream : IAsyncDisposable
{
    private readonly RemoteModule _module;
    private readonly Loss _loss;
    private readonly TrainStepOptions? _options;
    private readonly bool _stopOnError;
    private readonly Pipeline<TrainStreamRequest, TrainStreamResponse> _pipeline;

    internal TrainStream(RemoteModule module, Loss loss, TrainStepOptions? options, int maxInFlight, bool stopOnError)
    {
        ArgumentNullException.ThrowIfNull(loss);
        _module = module;
        _loss = loss;
        _options = options;
        _stopOnError = stopOnError;
        var rpc = module.Rpc;
        // A step repeated after those behind it would be out of order; one that stops the stream has none of them taken.
        _pipeline = new(
            rpc, nameof(TrainStream), rpc.Training.TrainStream, response => (response.Id, response.Error), maxInFlight, module.Timeout, mayOvertake: false,
            failsAlone: !stopOnError, module.IfInstance, staysWithFirst: true);
    }

    /// <summary>Takes a step after the steps before it. Does not wait for their answers, only for a place in the pipeline.</summary>
    /// <param name="inputs">Inputs of the module; leave their memory alone until the answer is there.</param>
    /// <param name="targets">What the loss takes after the module's outputs.</param>
    /// <param name="cancellationToken">Stops waiting; a step not yet sent is then never sent, one already sent may still be taken.</param>
    public Task<TrainStepResult> StepAsync(Inputs inputs, Inputs targets, CancellationToken cancellationToken = default) =>
        StepAsync(new TrainBatch(inputs, targets), cancellationToken);

    /// <summary>Takes a step after the steps before it. Does not wait for their answers, only for a place in the pipeline.</summary>
    /// <param name="batch">Inputs and targets, and where the step may have to be repeated later, its id.</param>
    /// <param name="cancellationToken">Stops waiting; a step not yet sent is then never sent, one already sent may still be taken.</param>
    public async Task<TrainStepResult> StepAsync(TrainBatch batch, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(batch);
        var step = _module.NewTrainStep(batch.Inputs, batch.Targets, _loss, _options);
        if (batch.RequestId is { } id)
            step.RequestId = id;
        TrainStreamRequest Request(ulong id) => new() { Id = id, Step = step, StopOnError = _stopOnError };
        var response = await _pipeline.SendAsync(Request, cancellationToken).ConfigureAwait(false);
        return TrainStepResult.From(response.Step);
    }

    /// <summary>
    /// Takes no more steps and waits until those before are answered; throws what ended the stream early, if anything did.
    /// </summary>
    public Task CompleteAsync() => _pipeline.CompleteAsync();

    /// <summary>Ends the stream; steps without an answer are cancelled.</summary>
    public ValueTask DisposeAsync() => _pipeline.DisposeAsync();
}
