using System.Threading.Channels;
using Google.Protobuf;
using Grpc.Core;
using Sconce.Server.Hosting;
using Sconce.Server.Interceptors;
using Sconce.Server.Mapping;

namespace Sconce.Server.Streams;

/// <summary>Runs the messages of a stream as calls: several at once, started and answered in the order in which they came.</summary>
internal sealed class Pipeline(SconceServerOptions options, DrainSignal drain, ErrorFunnel errors)
{
    /// <summary>Runs a stream to its end.</summary>
    /// <param name="requests">The messages.</param>
    /// <param name="responses">Where the answers go.</param>
    /// <param name="context">The call.</param>
    /// <param name="start">Starts one call; it must take its place in the engine's queue before its first await.</param>
    /// <param name="fail">The answer to a message whose call failed; null to end the stream with that failure.</param>
    /// <param name="awaitEach">Whether the messages behind this one must not start before it has succeeded.</param>
    public async Task RunAsync<TRequest, TResponse>(
        IAsyncStreamReader<TRequest> requests,
        IServerStreamWriter<TResponse> responses,
        ServerCallContext context,
        Func<TRequest, IResponseMemory, CancellationToken, Task<TResponse>> start,
        Func<TRequest, Google.Rpc.Status, TResponse?> fail,
        Func<TRequest, bool> awaitEach)
        where TRequest : class, IMessage
        where TResponse : class
    {
        var pending = Channel.CreateBounded<Step<TRequest, TResponse>>(new BoundedChannelOptions(options.StreamInFlight) { SingleReader = true, SingleWriter = true });
        using var failed = new CancellationTokenSource();
        var writing = WriteAsync(pending.Reader, responses, context, fail, failed);
        Exception? failure = null;
        try
        {
            await ReadAsync(requests, pending.Writer, context, start, awaitEach, failed.Token).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            failure = e;
        }

        // What was started is answered, or at least disposed, before the stream ends for whatever reason. A failed step explains more than what came of it.
        pending.Writer.Complete();
        await writing.ConfigureAwait(false);
        if (failure is not null)
        {
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(failure);
        }
    }

    private async Task ReadAsync<TRequest, TResponse>(
        IAsyncStreamReader<TRequest> requests,
        ChannelWriter<Step<TRequest, TResponse>> pending,
        ServerCallContext context,
        Func<TRequest, IResponseMemory, CancellationToken, Task<TResponse>> start,
        Func<TRequest, bool> awaitEach,
        CancellationToken failed)
        where TRequest : class
    {
        using var reading = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken, drain.Token, failed);
        try
        {
            // A place first, then a message: a full pipeline leaves the rest in the caller's flow control window.
            while (await pending.WaitToWriteAsync(reading.Token).ConfigureAwait(false)
                && await requests.MoveNext(reading.Token).ConfigureAwait(false))
            {
                var request = requests.Current;
                var memory = new MessageMemory();
                var step = new Step<TRequest, TResponse>(request, memory, CheckedAsync(Start(request, memory, start, context.CancellationToken)));
                pending.TryWrite(step);
                if (awaitEach(request))
                {
                    await ((Task)step.Answer).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                    if (!step.Answer.IsCompletedSuccessfully)
                    {
                        return;
                    }
                }
            }
        }
        catch (OperationCanceledException) when (drain.IsDraining && !context.CancellationToken.IsCancellationRequested)
        {
            throw DrainSignal.Refusal();
        }
    }

    private async Task WriteAsync<TRequest, TResponse>(
        ChannelReader<Step<TRequest, TResponse>> pending, IServerStreamWriter<TResponse> responses, ServerCallContext context, Func<TRequest, Google.Rpc.Status, TResponse?> fail,
        CancellationTokenSource failed)
        where TRequest : class, IMessage
        where TResponse : class
    {
        Exception? failure = null;
        while (await pending.WaitToReadAsync().ConfigureAwait(false))
        {
            // Taken only once it is answered, so that the channel's bound counts everything in flight.
            pending.TryPeek(out var step);
            try
            {
                await AnswerAsync(step!, responses, context, fail, failure is null).ConfigureAwait(false);
            }
            catch (Exception e)
            {
                // The steps behind it still have to be waited for: their memory is theirs until they are done. But no more are read, and a caller who sends none
                // until it has an answer is told.
                failure ??= e;
                await failed.CancelAsync().ConfigureAwait(false);
            }

            pending.TryRead(out _);
        }

        if (failure is not null)
        {
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(failure);
        }
    }

    private async Task AnswerAsync<TRequest, TResponse>(
        Step<TRequest, TResponse> step, IServerStreamWriter<TResponse> responses, ServerCallContext context, Func<TRequest, Google.Rpc.Status, TResponse?> fail, bool open)
        where TRequest : class, IMessage
        where TResponse : class
    {
        using (step.Memory)
        {
            TResponse? response;
            try
            {
                response = await step.Answer.ConfigureAwait(false);
            }
            catch (Exception e)
            {
                if (!open)
                {
                    return;
                }

                var status = errors.Describe(e, step.Request, context);
                response = fail(step.Request, status);
                if (response is null)
                {
                    throw status.ToRpcException();
                }
            }

            if (open)
            {
                // The message is serialized before this completes, so the memory that it shows may go afterwards.
                await responses.WriteAsync(response, context.CancellationToken).ConfigureAwait(false);
            }
        }
    }

    // Within the step's own task: what is too large has failed for those too who wait for this step before they take the next.
    private async Task<TResponse> CheckedAsync<TResponse>(Task<TResponse> answer)
    {
        var response = await answer.ConfigureAwait(false);
        errors.CheckAnswer(response);
        return response;
    }

    private static Task<TResponse> Start<TRequest, TResponse>(
        TRequest request, IResponseMemory memory, Func<TRequest, IResponseMemory, CancellationToken, Task<TResponse>> start, CancellationToken cancellationToken)
    {
        try
        {
            return start(request, memory, cancellationToken);
        }
        catch (Exception e)
        {
            return Task.FromException<TResponse>(e);
        }
    }

    /// <summary>One message and the answer that it will get.</summary>
    private sealed record Step<TRequest, TResponse>(TRequest Request, MessageMemory Memory, Task<TResponse> Answer);
}
