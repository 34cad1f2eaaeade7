using Microsoft.Extensions.Logging;
using Sconce.Engine.Weights;

namespace Sconce.Engine.Execution;

/// <summary>What the execution layer logs.</summary>
internal static partial class Log
{
    [LoggerMessage(1001, LogLevel.Warning, "Calls were still running {Limit} after the drain began; their callers were told, and they are left behind")]
    public static partial void DrainTimedOut(ILogger logger, TimeSpan limit);

    [LoggerMessage(1002, LogLevel.Warning, "The hook {Hook} of module {Module} failed at {Path} and was detached: {Failure}")]
    public static partial void HookDetached(ILogger logger, string hook, string module, string path, string failure);

    [LoggerMessage(1003, LogLevel.Information, "First use of {Kind} {Name}", EventName = "ApiUsage")]
    public static partial void FirstUse(ILogger logger, string kind, string name);

    [LoggerMessage(1004, LogLevel.Information, "Reading {File}: {Done} of {Total} bytes")]
    public static partial void Reading(ILogger logger, StateOrigin file, long done, long total);

    [LoggerMessage(1005, LogLevel.Information, "Read {Bytes} bytes of {File} for module {Module}")]
    public static partial void FileRead(ILogger logger, long bytes, StateOrigin file, string module);

    [LoggerMessage(1006, LogLevel.Information, "Wrote {Bytes} bytes of module {Module} to {File}")]
    public static partial void FileWritten(ILogger logger, long bytes, string module, string file);

    [LoggerMessage(1007, LogLevel.Information, "Deleted {Count} unfinished files that a killed process had left in {Directory}")]
    public static partial void UnfinishedDeleted(ILogger logger, int count, string directory);
}
