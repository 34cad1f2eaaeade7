using Microsoft.Extensions.Logging;

namespace Sconce.Server.Interceptors;

/// <summary>What the log says of calls. Never a tensor's content, never a request's body.</summary>
internal static partial class CallLog
{
    [LoggerMessage(1, LogLevel.Debug, "{Method} module={Module} request={RequestId} ok in {Elapsed:0.00} ms")]
    public static partial void Done(ILogger logger, string method, string module, string requestId, double elapsed);

    [LoggerMessage(EventId = 2, Message = "{Method} module={Module} request={RequestId} {Code} {Reason}: {Message}")]
    public static partial void Refused(ILogger logger, LogLevel level, string method, string module, string requestId, string code, string reason, string message);

    [LoggerMessage(3, LogLevel.Error, "{Method} module={Module} request={RequestId} internal error {Id}")]
    public static partial void Failed(ILogger logger, Exception exception, string method, string module, string requestId, string id);

    [LoggerMessage(4, LogLevel.Information, "{Path}: a request was not a valid protobuf message of this method")]
    public static partial void Malformed(ILogger logger, string path);

    [LoggerMessage(5, LogLevel.Error, "{Path}: internal error {Id} outside of the handler: {Detail}")]
    public static partial void FailedOutside(ILogger logger, string path, string id, string detail);
}
