using Grpc.Core;
using Microsoft.Extensions.Logging;

namespace Sconce.Client.Internal;

/// <summary>Everything that the client logs.</summary>
internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Warning, "{Operation} failed with {Status} ({Detail}); attempt {Attempt} follows in {Delay}")]
    public static partial void Repeating(ILogger logger, string? operation, int attempt, TimeSpan delay, StatusCode status, string detail);

    [LoggerMessage(2, LogLevel.Warning, "Session {Session} ended: {Reason}. What it owned on the server is gone")]
    public static partial void SessionLost(ILogger logger, string session, string reason);

    [LoggerMessage(3, LogLevel.Information, "{Operation} lost its connection and resumes with {Count} requests that had no answer yet")]
    public static partial void Resuming(ILogger logger, string operation, int count);

    [LoggerMessage(4, LogLevel.Debug, "Graph {Graph} could not be released and expires by itself: {Reason}")]
    public static partial void GraphNotReleased(ILogger logger, string graph, string reason);

    [LoggerMessage(5, LogLevel.Debug, "Kept tensor {Tensor} could not be dropped and expires by itself: {Reason}")]
    public static partial void TensorNotDropped(ILogger logger, string tensor, string reason);

    [LoggerMessage(6, LogLevel.Warning, "The server warns about module {Module}: {Warning}")]
    public static partial void Warned(ILogger logger, string module, string warning);
}
