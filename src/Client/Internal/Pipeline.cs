using System.Threading.Channels;
using Google.Protobuf;
using Grpc.Core;
using Sconce.V1;

namespace Sconce.Client.Internal;

/// <summary>
/// Requests in flight over one duplex stream, answered in order. Where the stream breaks it is opened again and what had no answer yet
/// is sent again in the same order, so every request must be repeatable. So it is where the server refuses a request for the moment.
/// </summary>
internal sealed class Pipeline<TRequest, TResponse> : IAsyncDisposable
    where TRequest : class, IMessage
{
    private readonly Rpc _rpc;
    private readonly Func<CallOptions, AsyncDuplexStreamingCall<TRequest, TResponse>> _open;
    private readonly Func<TResponse, (ulong Id, CallError? Error)> _read;
    private readonly string _operation;
    private readonly TimeSpan? _timeout;
    private readonly bool _mayOvertake;
    private readonly bool _failsAlone;
    private readonly bool _staysWithFirst;
    private string? _instance;
    // A channel keeps waiting writers in their order, which is the order of the calls.
    private readonly Channel<Pending> _incoming;
    private readonly Queue<Pending> _inFlight = new();
    private readonly SemaphoreSlim _window;
    private readonly CancellationTokenSource _stop = new();
    private readonly Task _run;
    private ulong _lastId;

    /// <param name="rpc">Sends the streams.</param>
    /// <param name="operation">What it is, for messages.</param>
    /// <param name="open">Opens a stream.</param>
    /// <param name="read">Reads the id of an answer, and its error if it is one.</param>
    /// <param name="maxInFlight">Most requests without an answer at a time.</param>
    /// <param name="timeout">How long each request may take, from <see cref="SendAsync"/> to its answer; null for ever.</param>
    /// <param name="mayOvertake">
    /// Whether a request may run after those behind it: then one that met a full queue is repeated, else that is its answer.
    /// </param>
    /// <param name="failsAlone">Whether those behind a request that is too large to be sent are sent all the same; else it ends the stream.</param>
    /// <param name="ifInstance">The only start of a server that may do them; null for any.</param>
    /// <param name="staysWithFirst">Whether, where none is given, it is the first that answers.</param>
    public Pipeline(
        Rpc rpc,
        string operation,
        Func<CallOptions, AsyncDuplexStreamingCall<TRequest, TResponse>> open,
        Func<TResponse, (ulong Id, CallError? Error)> read,
        int maxInFlight,
        TimeSpan? timeout,
        bool mayOvertake,
        bool failsAlone,
        string? ifInstance,
        bool staysWithFirst)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(maxInFlight, 1);
        _rpc = rpc;
        _operation = operation;
        _timeout = TimeLimit.OrNone(timeout);
        _mayOvertake = mayOvertake;
        _failsAlone = failsAlone;
        _instance = ifInstance;
        _staysWithFirst = staysWithFirst;
        _open = open;
        _read = read;
        _incoming = Channel.CreateBounded<Pending>(new BoundedChannelOptions(maxInFlight) { SingleReader = true });
        _window = new SemaphoreSlim(maxInFlight);
        _run = Task.Run(RunAsync);
        // Its failure is that of the calls; who completes the stream is told once more.
        Pipelines.Observe(_run);
    }

    /// <summary>
    /// Sends one request after those before it and waits for its answer. <paramref name="create"/> gets the id to put in it.
    /// </summary>
    public async Task<TResponse> SendAsync(Func<ulong, TRequest> create, CancellationToken cancellationToken)
    {
        if (_timeout is not { } timeout)
            return await EnqueueAsync(create, cancellationToken).ConfigureAwait(false);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(timeout);
        try
        {
            return await EnqueueAsync(create, limit.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException e) when (e.CancellationToken == limit.Token)
        {
            if (cancellationToken.IsCancellationRequested)
                throw new OperationCanceledException($"{_operation}'s call was cancelled by its caller.", e, cancellationToken);
            throw new ErrorDetails(StatusCode.DeadlineExceeded, $"{_operation}'s call had no answer within {timeout} (CallSettings.Timeout sets the limit).")
                .ToException(e);
        }
    }

    private async Task<TResponse> EnqueueAsync(Func<ulong, TRequest> create, CancellationToken cancellationToken)
    {
        var id = Interlocked.Increment(ref _lastId);
        var request = create(id);
        // gRPC would find it in the write, and there the whole stream fails.
        if (_failsAlone && request.CalculateSize() > _rpc.MaxSendBytes)
            throw _rpc.TooLargeToSend(_operation).ToException(null);
        var pending = new Pending(id, request, cancellationToken);
        try
        {
            await _incoming.Writer.WriteAsync(pending, cancellationToken).ConfigureAwait(false);
        }
        catch (ChannelClosedException e)
        {
            if (e.InnerException is SconceException failure)
                throw Ended(failure);
            throw new InvalidOperationException("The stream was completed or disposed; open another for further calls.", e.InnerException);
        }

        try
        {
            return await pending.Answer.Task.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            // Its answer may come yet.
            Pipelines.Observe(pending.Answer.Task);
            throw;
        }
    }

    /// <summary>
    /// Takes no more requests, waits for the answers of those before, and throws what ended the stream early, if anything did.
    /// </summary>
    public Task CompleteAsync()
    {
        _incoming.Writer.TryComplete();
        return _run;
    }

    public async ValueTask DisposeAsync()
    {
        if (!_incoming.Writer.TryComplete() && _run.IsCompleted)
            return;
        // With nothing on its way the stream ends in good order, else it is cut off.
        if (Waiting().Length == 0)
            await Task.WhenAny(_run, Task.Delay(TimeSpan.FromSeconds(1))).ConfigureAwait(false);
        await _stop.CancelAsync().ConfigureAwait(false);
        await _run.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    private async Task RunAsync()
    {
        static Task<bool> Attempt(Pipeline<TRequest, TResponse> self, CallOptions options) => self.AttemptAsync(options);
        try
        {
            do
            {
                // Without work there is nothing to be connected for.
                if (Waiting().Length == 0 && !await _incoming.Reader.WaitToReadAsync(_stop.Token).ConfigureAwait(false))
                    return;
            }
            while (await _rpc.RunAsync(Attempt, this, Repeat.Always, null, _operation, _stop.Token).ConfigureAwait(false));
        }
        catch (Exception e)
        {
            _incoming.Writer.TryComplete(e);
            var failure = e is OperationCanceledException
                ? new OperationCanceledException("The stream was disposed before this call had its answer.")
                : e;
            while (_incoming.Reader.TryRead(out var pending))
                pending.Answer.TrySetException(failure);
            foreach (var pending in Waiting())
                pending.Answer.TrySetException(failure);
            throw;
        }
    }

    /// <summary>One stream from opening to end; true where it broke after some answers, so that another may go on at once.</summary>
    private async Task<bool> AttemptAsync(CallOptions options)
    {
        using var attempt = CancellationTokenSource.CreateLinkedTokenSource(options.CancellationToken);
        using var call = _open(new CallOptions(_rpc.Headers(_instance), null, attempt.Token));
        var writer = WriteAsync(call.RequestStream, attempt);
        var progress = false;
        try
        {
            var headers = await call.ResponseHeadersAsync.ConfigureAwait(false);
            Contract.Check(headers, null);
            if (_staysWithFirst)
                _instance ??= headers.GetValue(Contract.Instance);
            while (await call.ResponseStream.MoveNext(attempt.Token).ConfigureAwait(false))
            {
                Take(call.ResponseStream.Current);
                progress = true;
            }

            return writer.IsCompletedSuccessfully && Waiting().Length == 0
                ? false
                : throw new RpcException(new Status(StatusCode.Unavailable, "the server ended the stream before it had answered everything"));
        }
        catch (RpcException e)
        {
            Rpc.CheckContract(call.ResponseHeadersAsync, e);
            // A write that failed by itself (a message over the limit) is the cause, and the cancelled call its effect.
            if (writer.IsFaulted && e.StatusCode == StatusCode.Cancelled && writer.Exception!.InnerException is RpcException cause)
                throw cause;
            var waiting = Waiting().Length;
            if (!options.CancellationToken.IsCancellationRequested && (progress || waiting == 0) && _rpc.IsTransient(e))
            {
                Log.Resuming(_rpc.Logger, _operation, waiting);
                await attempt.CancelAsync().ConfigureAwait(false);
                await Task.Delay(ErrorDetails.Of(e).RetryAfter ?? TimeSpan.Zero, options.CancellationToken).ConfigureAwait(false);
                return true;
            }

            throw;
        }
        finally
        {
            await attempt.CancelAsync().ConfigureAwait(false);
            await writer.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private async Task WriteAsync(IClientStreamWriter<TRequest> stream, CancellationTokenSource attempt)
    {
        var cancellationToken = attempt.Token;
        try
        {
            foreach (var pending in Waiting())
                await stream.WriteAsync(pending.Request, cancellationToken).ConfigureAwait(false);
            while (await _incoming.Reader.WaitToReadAsync(cancellationToken).ConfigureAwait(false))
            {
                await _window.WaitAsync(cancellationToken).ConfigureAwait(false);
                if (!_incoming.Reader.TryRead(out var pending) || pending.CancellationToken.IsCancellationRequested)
                {
                    _window.Release();
                    continue;
                }

                // In the queue before it is sent: an answer may come, or the stream break, before the write returns.
                lock (_inFlight)
                    _inFlight.Enqueue(pending);
                await stream.WriteAsync(pending.Request, cancellationToken).ConfigureAwait(false);
            }

            await stream.CompleteAsync().ConfigureAwait(false);
        }
        catch (Exception e) when (Rpc.IsFailedWrite(e))
        {
            // The reader sees the status of a call that is over. One that is not over will not end by itself.
            attempt.CancelAfter(TimeSpan.FromSeconds(1));
            throw;
        }
    }

    private void Take(TResponse response)
    {
        var (id, error) = _read(response);
        // It stays in flight, and so is sent again, before those behind it.
        if (error is not null && RefusedForNow(error) is { } refusal)
            throw refusal;
        Pending pending;
        lock (_inFlight)
        {
            if (_inFlight.Count == 0 || _inFlight.Peek().Id != id)
                throw new ErrorDetails(StatusCode.DataLoss, $"The server answered request {id} of the stream out of order.").ToException(null);
            pending = _inFlight.Dequeue();
        }

        _window.Release();
        if (error is null)
            pending.Answer.TrySetResult(response);
        else
            pending.Answer.TrySetException(ErrorDetails.Of(error).ToException(null));
    }

    private RpcException? RefusedForNow(CallError error)
    {
        if ((StatusCode)error.Code != StatusCode.Unavailable && !(_mayOvertake && (StatusCode)error.Code == StatusCode.ResourceExhausted))
            return null;
        var refusal = ErrorDetails.ToRpcException(error);
        return _rpc.IsTransient(refusal) ? refusal : null;
    }

    private Pending[] Waiting()
    {
        lock (_inFlight)
            return [.. _inFlight];
    }

    // A new exception for each late caller: one that is thrown again and again gathers their stack traces.
    private static SconceException Ended(SconceException failure) =>
        new ErrorDetails(failure.StatusCode, $"The stream has ended: {failure.Message}") { Reason = failure.Reason, Fields = failure.Fields }
            .ToException(failure);

    private sealed record Pending(ulong Id, TRequest Request, CancellationToken CancellationToken)
    {
        public TaskCompletionSource<TResponse> Answer { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
