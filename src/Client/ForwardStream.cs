using Sconce.Client.Internal;
using Sconce.V1;

namespace Sconce.Client;

/// <summary>
/// A pipeline of forwards over one stream: start several, await them as their answers come. Answers come in the order of the calls; one
/// that fails throws by itself and the others go on.
/// </summary>
/// <remarks>
/// A message that is too large for the server's own <c>max_message_bytes</c>, or an answer that is too large for
/// <see cref="SconceClientOptions.MaxMessageBytes"/>, cannot be passed over and ends the stream. Where the connection fails, or the server's queue is full, the stream opens again and asks anew what had no answer, in the same order.
/// <see cref="CallSettings.Timeout"/> limits each call. Disposing cancels what has no answer; <see cref="CompleteAsync"/> waits for it.
/// </remarks>
public sealed class ForwardStream : IAsyncDisposable
{
    private readonly RemoteModule _module;
    private readonly Pipeline<ForwardStreamRequest, ForwardStreamResponse> _pipeline;

    internal ForwardStream(RemoteModule module, int maxInFlight)
    {
        _module = module;
        var rpc = module.Rpc;
        _pipeline = new(
            rpc, nameof(ForwardStream), rpc.Execution.ForwardStream, response => (response.Id, response.Error), maxInFlight, module.Timeout, mayOvertake: true,
            failsAlone: true, module.IfInstance, staysWithFirst: false);
    }

    /// <summary>Calls the module after the calls before it. Does not wait for their answers, only for a place in the pipeline.</summary>
    /// <param name="inputs">Its inputs; leave their memory alone until the answer is there.</param>
    /// <param name="options">What to do besides; null is nothing.</param>
    /// <param name="cancellationToken">Stops waiting; a call not yet sent is then never sent.</param>
    public async Task<RemoteValue> ForwardAsync(
        Inputs inputs, ForwardOptions? options = null, CancellationToken cancellationToken = default)
    {
        var forward = _module.NewForward(inputs, options);
        ForwardStreamRequest Request(ulong id) => new() { Id = id, Forward = forward };
        var response = await _pipeline.SendAsync(Request, cancellationToken).ConfigureAwait(false);
        return RemoteModule.ToValue(response.Forward);
    }

    /// <summary>
    /// Takes no more calls and waits until those before are answered; throws what ended the stream early, if anything did.
    /// </summary>
    public Task CompleteAsync() => _pipeline.CompleteAsync();

    /// <summary>Ends the stream; calls without an answer are cancelled.</summary>
    public ValueTask DisposeAsync() => _pipeline.DisposeAsync();
}
