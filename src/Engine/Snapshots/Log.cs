using Microsoft.Extensions.Logging;

namespace Sconce.Engine.Snapshots;

/// <summary>What the snapshot store logs.</summary>
internal static partial class Log
{
    [LoggerMessage(1301, LogLevel.Information, "Snapshots are in {Directory}: {Count} of {Modules} modules; {Strays} left by a killed process were removed")]
    public static partial void Opened(ILogger logger, string directory, int count, int modules, int strays);

    [LoggerMessage(1302, LogLevel.Error, "The snapshot {Snapshot} of module {Module} was quarantined: {Why}")]
    public static partial void Quarantined(ILogger logger, string snapshot, string module, string why);

    [LoggerMessage(1303, LogLevel.Error, "The damaged snapshot {Snapshot} could not be moved into quarantine; it is not used until the next start, which will find it again: {Why}")]
    public static partial void NotQuarantined(ILogger logger, Exception exception, string snapshot, string why);

    [LoggerMessage(1304, LogLevel.Warning, "{Path} could not be removed; the next start tries again")]
    public static partial void NotRemoved(ILogger logger, Exception exception, string path);

    [LoggerMessage(1305, LogLevel.Warning, "The snapshot {Snapshot} of module {Module} is older than those to keep and could not be deleted; the next save tries again")]
    public static partial void NotPruned(ILogger logger, Exception exception, string snapshot, string module);

    [LoggerMessage(1306, LogLevel.Warning, "The disk of {Directory} is full: snapshots can be restored and deleted, not saved")]
    public static partial void Full(ILogger logger, string directory);

    [LoggerMessage(1307, LogLevel.Debug, "{Path} is not the snapshot store's and stays as it is")]
    public static partial void Unknown(ILogger logger, string path);

    [LoggerMessage(1308, LogLevel.Warning, "Why {Snapshot} is in quarantine could not be written beside it")]
    public static partial void ReasonNotWritten(ILogger logger, Exception exception, string snapshot);

    [LoggerMessage(1309, LogLevel.Information, "Saved the snapshot {Snapshot} of module {Module}: {Bytes} bytes in {Elapsed}")]
    public static partial void Saved(ILogger logger, string snapshot, string module, long bytes, TimeSpan elapsed);

    [LoggerMessage(1310, LogLevel.Information, "Restored {Number} of {Total}: module {Module} from snapshot {Snapshot}, at step {Step}, in {Elapsed}")]
    public static partial void Restored(ILogger logger, int number, int total, string module, string snapshot, long step, TimeSpan elapsed);

    [LoggerMessage(1311, LogLevel.Error, "Module {Module}, {Number} of {Total}, could not be restored; its snapshots stay, and RestoreSnapshot tries again")]
    public static partial void NotRestored(ILogger logger, Exception exception, int number, int total, string module);

    [LoggerMessage(1312, LogLevel.Error, "Module {Module} could not be saved ({Reason}); the snapshots before it stay")]
    public static partial void NotSaved(ILogger logger, Exception exception, string module, string reason);
}
