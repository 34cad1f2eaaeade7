using System.Diagnostics;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.Extensions.Logging;
using Polly;
using Sconce.V1;

namespace Sconce.Client.Internal;

/// <summary>When a failed call may be sent again.</summary>
internal enum Repeat
{
    /// <summary>Whenever it failed for the moment: the call changes nothing, or carries a request id.</summary>
    Always,

    /// <summary>Only where the server certainly did not run it: a second run would leave something behind.</summary>
    IfNotRun,
}

/// <summary>Sends calls: deadline, contract version, retries, and one place where statuses become exceptions.</summary>
internal sealed class Rpc
{
    // gRPC's own words, without any mark; they do not say which setting they speak of. The server has rewritten its own.
    private const string TooLargeSent = "Sending message exceeds the maximum configured message size.";
    private const string TooLargeReceived = "Received message exceeds the maximum configured message size.";

    // The reason in the server's words that a call's own deadline passed. With another (an upload too slow) it speaks of a limit of its own.
    private const string PassedDeadline = "DEADLINE_EXCEEDED";

    private readonly ResiliencePipeline _retries;
    private readonly SconceClientOptions _options;
    private readonly Metadata _headers = new() { { Contract.Header, Contract.Version } };

    /// <param name="channel">The channel.</param>
    /// <param name="options">The options; nobody else has them.</param>
    /// <param name="maxSendBytes">The channel's limit on a message that is sent; null where it has none, or it is not known.</param>
    /// <param name="logger">Where to log.</param>
    public Rpc(GrpcChannel channel, SconceClientOptions options, int? maxSendBytes, ILogger logger)
    {
        _options = options;
        MaxSendBytes = maxSendBytes;
        Logger = logger;
        Address = options.Address ?? channel.Target;
        _retries = RetryPolicy.Build(options.Retry, logger);
        var invoker = channel.CreateCallInvoker();
        Host = new HostService.HostServiceClient(invoker);
        Modules = new ModuleService.ModuleServiceClient(invoker);
        Execution = new ExecutionService.ExecutionServiceClient(invoker);
        Training = new TrainingService.TrainingServiceClient(invoker);
        State = new StateService.StateServiceClient(invoker);
        Tensors = new TensorService.TensorServiceClient(invoker);
        Hooks = new HookService.HookServiceClient(invoker);
    }

    public ILogger Logger { get; }

    public string Address { get; }

    /// <summary>The channel's limit on a message that is sent; null where it has none, or it is not known.</summary>
    public int? MaxSendBytes { get; }

    /// <summary>Where the server hands out shared memory; null where nobody has said.</summary>
    public string? SharedMemorySocket => string.IsNullOrEmpty(_options.SharedMemorySocket) ? null : _options.SharedMemorySocket;

    /// <summary>How long a call may take that says nothing else.</summary>
    public TimeSpan? Timeout => _options.Timeout;

    public HostService.HostServiceClient Host { get; }

    public ModuleService.ModuleServiceClient Modules { get; }

    public ExecutionService.ExecutionServiceClient Execution { get; }

    public TrainingService.TrainingServiceClient Training { get; }

    public StateService.StateServiceClient State { get; }

    public TensorService.TensorServiceClient Tensors { get; }

    public HookService.HookServiceClient Hooks { get; }

    /// <summary>An id for one logical call: the same in all its attempts.</summary>
    public static string RequestId(CallSettings? settings) => settings?.RequestId ?? Guid.CreateVersion7().ToString("N");

    public Task<TResponse> UnaryAsync<TRequest, TResponse>(
        Func<TRequest, CallOptions, AsyncUnaryCall<TResponse>> method,
        TRequest request,
        CallSettings? settings,
        CancellationToken cancellationToken,
        Repeat repeat = Repeat.Always)
        where TRequest : class =>
        RunAsync(
            static async (state, options) =>
            {
                using var call = state.method(state.request, options);
                try
                {
                    var response = await call.ResponseAsync.ConfigureAwait(false);
                    Contract.Check(await call.ResponseHeadersAsync.ConfigureAwait(false), null);
                    return response;
                }
                catch (RpcException e)
                {
                    CheckContract(call.ResponseHeadersAsync, e);
                    throw;
                }
            },
            (method, request),
            repeat,
            settings?.Timeout ?? _options.Timeout,
            typeof(TRequest).Name,
            cancellationToken,
            settings?.IfInstance);

    /// <summary>
    /// Runs an operation of any shape under the retry policy; <paramref name="attempt"/> must be repeatable as <paramref name="repeat"/>
    /// says.
    /// </summary>
    public async Task<T> RunAsync<TState, T>(
        Func<TState, CallOptions, Task<T>> attempt,
        TState state,
        Repeat repeat,
        TimeSpan? timeout,
        string operation,
        CancellationToken cancellationToken,
        string? ifInstance = null)
    {
        var run = new RetryRun(repeat, TimeLimit.OrNone(timeout));
        var options = new CallOptions(Headers(ifInstance), run.Deadline, cancellationToken);
        try
        {
            // The first attempt goes past the retry policy, whose bookkeeping a call that succeeds need not pay for.
            run.Attempts = 1;
            return await attempt(state, options).ConfigureAwait(false);
        }
        catch (RpcException e)
        {
            return await RepeatAsync(e, attempt, state, options, run, operation).ConfigureAwait(false);
        }
    }

    /// <summary>Metadata of a call.</summary>
    /// <param name="ifInstance">The only start of a server that may do it; null for any.</param>
    public Metadata Headers(string? ifInstance) => ifInstance is null ? _headers : new() { { Contract.Header, Contract.Version }, { Contract.Instance, ifInstance } };

    private async Task<T> RepeatAsync<TState, T>(
        RpcException first, Func<TState, CallOptions, Task<T>> attempt, TState state, CallOptions options, RetryRun run, string operation)
    {
        var context = ResilienceContextPool.Shared.Get(operation, options.CancellationToken);
        context.Properties.Set(RetryPolicy.Key, run);
        try
        {
            // To the policy the failure that there was is that of its own first attempt.
            return await _retries.ExecuteAsync(
                static (context, call) =>
                {
                    var run = context.Properties.GetValue(RetryPolicy.Key, null!);
                    if (call.failure.Take() is { } failure)
                        return ValueTask.FromException<T>(failure);
                    run.Attempts++;
                    return new ValueTask<T>(call.attempt(call.state, call.options));
                },
                context,
                (failure: new FirstFailure(first), attempt, state, options)).ConfigureAwait(false);
        }
        catch (RpcException e)
        {
            throw Translate(e, run, operation, options.CancellationToken);
        }
        finally
        {
            ResilienceContextPool.Shared.Return(context);
        }
    }

    /// <summary>A failure that is told once.</summary>
    private sealed class FirstFailure(RpcException failure)
    {
        private RpcException? _failure = failure;

        public RpcException? Take()
        {
            var taken = _failure;
            _failure = null;
            return taken;
        }
    }

    /// <summary>Whether a stream that broke this way, after it had got somewhere, may go on in another one.</summary>
    public bool IsTransient(RpcException e) => _options.Retry.MaxAttempts > 1 && RetryPolicy.IsTransient(e);

    /// <summary>Checks the version of an answer that failed, where its headers came at all.</summary>
    public static void CheckContract(Task<Metadata> headers, Exception failure)
    {
        if (headers.IsCompletedSuccessfully)
            Contract.Check(headers.Result, failure);
    }

    /// <summary>
    /// Whether a write to a stream failed because its call is over, or never began: in which way is HTTP's and gRPC's own affair, and the call's status
    /// says more.
    /// </summary>
    public static bool IsFailedWrite(Exception e) => e is RpcException or InvalidOperationException or IOException or HttpRequestException;

    /// <summary>What a stream throws that stood and then broke: nothing of it was repeated.</summary>
    public Exception Broken(RpcException e, string operation, CancellationToken cancellationToken)
    {
        if (cancellationToken.IsCancellationRequested)
            return Cancelled(e, operation, cancellationToken);
        var details = ErrorDetails.Of(e);
        if (RetryPolicy.IsTransport(e))
        {
            details = details with
            {
                Code = StatusCode.Unavailable,
                Message = $"{operation} lost its connection to the Sconce server at {Address}: {Cause(e)}",
            };
        }

        return details.ToException(e);
    }

    private static OperationCanceledException Cancelled(RpcException e, string operation, CancellationToken cancellationToken) =>
        new($"{operation} was cancelled by its caller.", e, cancellationToken);

    private Exception Translate(RpcException e, RetryRun run, string operation, CancellationToken cancellationToken)
    {
        if (cancellationToken.IsCancellationRequested)
            return Cancelled(e, operation, cancellationToken);

        var details = ErrorDetails.Of(e);
        var tries = run.Attempts == 1 ? "1 attempt" : $"{run.Attempts} attempts";
        if (e.StatusCode == StatusCode.DeadlineExceeded && run.Timeout is not null && (details.Reason is null or PassedDeadline))
        {
            var last = run.LastFailure is { } failure && failure != e ? $" Before that: {failure.StatusCode}: {Cause(failure)}" : "";
            details = details with
            {
                Message = $"{operation} had no answer within {run.Timeout} "
                    + $"({tries}; SconceClientOptions.Timeout or CallSettings.Timeout sets the limit).{last}",
            };
        }
        else if (e is { StatusCode: StatusCode.ResourceExhausted, Status.Detail: TooLargeSent or TooLargeReceived } && _options.Address is not null)
        {
            details = e.Status.Detail == TooLargeSent
                ? TooLargeToSend(operation)
                : details with { Message = TooLarge($"{operation} was answered with a message", null) };
        }
        else if (RetryPolicy.IsTransport(e))
        {
            details = details with
            {
                Code = StatusCode.Unavailable,
                Message = $"{operation} did not get through to a Sconce server at {Address}: {Cause(e)} "
                    + $"({tries} in {Stopwatch.GetElapsedTime(run.Started).TotalSeconds:0.0} s; SconceClientOptions.Retry sets how many). "
                    + "Is the server running there?",
            };
        }

        return details.ToException(e);
    }

    /// <summary>What a request says that is over <see cref="MaxSendBytes"/>.</summary>
    public ErrorDetails TooLargeToSend(string operation) => new(StatusCode.ResourceExhausted, TooLarge($"{operation} sends a message", MaxSendBytes));

    private string TooLarge(string what, int? most) =>
        $"{what} larger than the {most ?? _options.MaxMessageBytes} bytes that SconceClientOptions.MaxMessageBytes allows; "
        + "move less in one call, or raise it, and max_message_bytes on the server.";

    private static string Cause(RpcException e) => e.Status.DebugException?.GetBaseException().Message ?? e.Status.Detail;
}
