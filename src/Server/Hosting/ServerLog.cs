using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;

namespace Sconce.Server.Hosting;

/// <summary>What the log says of the server's life.</summary>
internal static partial class ServerLog
{
    [LoggerMessage(101, LogLevel.Information, "sconce {Version} (contract {Contract}) on {Device}, {DeviceName}, libtorch {Libtorch}")]
    public static partial void Starting(ILogger logger, string version, string contract, string device, string deviceName, string libtorch);

    [LoggerMessage(102, LogLevel.Information, "settings: {Settings}")]
    public static partial void Settings(ILogger logger, string settings);

    [LoggerMessage(103, LogLevel.Information, "listening on {Address}")]
    public static partial void Listening(ILogger logger, string address);

    [LoggerMessage(104, LogLevel.Warning, "{Address} can be reached from other machines in plaintext, because insecure is set; anyone there can read and change everything")]
    public static partial void Insecure(ILogger logger, string address);

    [LoggerMessage(105, LogLevel.Information, "stopping: no new work; work in flight has {Timeout} to finish")]
    public static partial void Draining(ILogger logger, TimeSpan timeout);

    [LoggerMessage(106, LogLevel.Information, "drained in {Elapsed:0.00} s; closing connections")]
    public static partial void Drained(ILogger logger, double elapsed);

    [LoggerMessage(108, LogLevel.Warning, "a second signal, {Signal}: ending at once; calls that run are cut")]
    public static partial void SecondSignal(ILogger logger, PosixSignal signal);

    [LoggerMessage(109, LogLevel.Critical, "{Call} has run for more than script_timeout, {Limit}, and cannot be stopped: the process ends with exit code {ExitCode}, for its supervisor to start it again")]
    public static partial void ScriptOverdue(ILogger logger, string call, TimeSpan limit, int exitCode);

    [LoggerMessage(107, LogLevel.Information, "removed {Path}, the socket of a server that no longer runs")]
    public static partial void StaleSocket(ILogger logger, string path);
}
