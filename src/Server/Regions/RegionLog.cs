using Microsoft.Extensions.Logging;

namespace Sconce.Server.Regions;

/// <summary>What the log says of shared memory. Never an id: whoever has one may use the region.</summary>
internal static partial class RegionLog
{
    [LoggerMessage(201, LogLevel.Information, "shared memory is handed out on {Path}")]
    public static partial void Listening(ILogger logger, string path);

    [LoggerMessage(202, LogLevel.Debug, "a shared region of {Bytes} bytes was handed out; there are {Count}")]
    public static partial void Rented(ILogger logger, long bytes, int count);

    [LoggerMessage(203, LogLevel.Information, "a shared region was refused ({Reason}): {Message}")]
    public static partial void Refused(ILogger logger, string reason, string message);

    [LoggerMessage(204, LogLevel.Warning, "user {User} asked for a shared region and was refused: it is neither the server's user nor root")]
    public static partial void NotAllowed(ILogger logger, uint user);

    [LoggerMessage(205, LogLevel.Warning, "a caller of the socket for shared memory was not accepted: {Failure}")]
    public static partial void NotAccepted(ILogger logger, string failure);

    [LoggerMessage(206, LogLevel.Error, "a connection for shared memory failed")]
    public static partial void Failed(ILogger logger, Exception exception);
}
