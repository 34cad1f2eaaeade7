using System.Diagnostics;
using System.Net.Sockets;
using Grpc.Core;
using Microsoft.Extensions.Logging;
using Polly;
using Polly.Retry;

namespace Sconce.Client.Internal;

/// <summary>What the retry policy knows of one logical call.</summary>
internal sealed class RetryRun(Repeat repeat, TimeSpan? timeout)
{
    public Repeat Repeat => repeat;

    public TimeSpan? Timeout => timeout;

    public DateTime? Deadline { get; } = timeout is { } limit ? DateTime.UtcNow + limit : null;

    public long Started { get; } = Stopwatch.GetTimestamp();

    public int Attempts { get; set; }

    public RpcException? LastFailure { get; set; }

    public TimeSpan? RetryAfter { get; set; }
}

/// <summary>Decides which failures are repeated, and when.</summary>
internal static class RetryPolicy
{
    public static readonly ResiliencePropertyKey<RetryRun> Key = new("sconce.run");

    // HTTP/2's REFUSED_STREAM: by definition (RFC 9113, 8.7) the server has processed nothing of the stream.
    private const long RefusedStream = 7;

    public static ResiliencePipeline Build(SconceRetryOptions options, ILogger logger)
    {
        if (options.MaxAttempts == 1)
            return ResiliencePipeline.Empty;
        return new ResiliencePipelineBuilder()
            .AddRetry(new RetryStrategyOptions
            {
                MaxRetryAttempts = options.MaxAttempts - 1,
                ShouldHandle = arguments => ValueTask.FromResult(
                    arguments.Outcome.Exception is RpcException e
                    && !arguments.Context.CancellationToken.IsCancellationRequested
                    && MayRepeat(e, arguments.Context.Properties.GetValue(Key, null!))),
                DelayGenerator = arguments => ValueTask.FromResult<TimeSpan?>(
                    Delay(options, arguments.AttemptNumber, arguments.Context.Properties.GetValue(Key, null!).RetryAfter)),
                OnRetry = arguments =>
                {
                    var failure = (RpcException)arguments.Outcome.Exception!;
                    var attempt = arguments.AttemptNumber + 2;
                    Log.Repeating(logger, arguments.Context.OperationKey, attempt, arguments.RetryDelay, failure.StatusCode, failure.Status.Detail);
                    return ValueTask.CompletedTask;
                },
            })
            .Build();
    }

    /// <summary>Whether the connection failed, rather than the server answering with a status.</summary>
    public static bool IsTransport(RpcException e) =>
        e.StatusCode is not (StatusCode.DeadlineExceeded or StatusCode.ResourceExhausted)
        && e.Status.DebugException is HttpRequestException or IOException or SocketException;

    /// <summary>Whether the failure is one of the moment.</summary>
    public static bool IsTransient(RpcException e) =>
        IsTransport(e)
        || e.StatusCode == StatusCode.Unavailable
        || (e.StatusCode == StatusCode.ResourceExhausted && ErrorDetails.Of(e).RetryAfter is not null);

    private static bool MayRepeat(RpcException e, RetryRun run)
    {
        run.RetryAfter = null;
        bool may;
        if (IsTransport(e))
        {
            // A certificate that is refused now is refused again.
            may = e.Status.DebugException is not HttpRequestException { HttpRequestError: HttpRequestError.SecureConnectionError }
                && (run.Repeat == Repeat.Always || NeverSent(e.Status.DebugException));
        }
        else
        {
            // Both, in the server's own words, say that it did not run the call. A proxy's do not: it may have sent it on.
            var details = e.StatusCode is StatusCode.Unavailable or StatusCode.ResourceExhausted ? ErrorDetails.Of(e) : null;
            run.RetryAfter = details?.RetryAfter;
            may = details is not null
                && (e.StatusCode == StatusCode.Unavailable || run.RetryAfter is not null)
                && (run.Repeat == Repeat.Always || details.IsTheServers);
        }

        if (!may)
            return false;
        run.LastFailure = e;
        return run.Deadline is not { } deadline || DateTime.UtcNow + (run.RetryAfter ?? TimeSpan.Zero) < deadline;
    }

    private static bool NeverSent(Exception? failure)
    {
        // gRPC connects by itself before it hands a call to HTTP, whose own failures come wrapped: a bare one is that of connecting.
        if (failure is SocketException)
            return true;
        for (; failure is not null; failure = failure.InnerException)
        {
            if (failure is HttpProtocolException { ErrorCode: RefusedStream }
                or HttpRequestException { HttpRequestError: HttpRequestError.ConnectionError or HttpRequestError.NameResolutionError })
            {
                return true;
            }
        }

        return false;
    }

    private static TimeSpan Delay(SconceRetryOptions options, int attempt, TimeSpan? retryAfter)
    {
        var full = Math.Min(options.BaseDelay.TotalMilliseconds * Math.Pow(2, attempt), options.MaxDelay.TotalMilliseconds);
        // Half of it at random, so that callers refused together do not come back together.
        var delay = TimeSpan.FromMilliseconds(full * (0.5 + (Random.Shared.NextDouble() / 2)));
        return retryAfter > delay ? retryAfter.Value : delay;
    }
}
