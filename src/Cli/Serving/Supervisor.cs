using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Sconce.Cli.Terminal;
using Sconce.Server;
using Spectre.Console;

namespace Sconce.Cli.Serving;

/// <summary>
/// Runs the server in a process of its own and starts it again when it has crashed: a native library that aborts, or the kernel's out-of-memory killer, takes no more than
/// what was not saved. Durable modules come back by themselves.
/// </summary>
internal sealed class Supervisor(CommandTerminal terminal, IReadOnlyList<string> arguments) : IDisposable
{
    // The first crash is over soon; one that repeats at once must not fill logs and disks.
    private static readonly TimeSpan FirstDelay = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan LongestDelay = TimeSpan.FromSeconds(30);

    // A server that ran as long as this was well: the next crash is a first one.
    private static readonly TimeSpan Healthy = TimeSpan.FromMinutes(1);

    private readonly Lock _lock = new();
    private readonly CancellationTokenSource _stopping = new();
    private Process? _child;
    private bool _stopped;

    /// <summary>Runs until the server ends by itself, cannot start, or is told to stop by SIGTERM, SIGINT or the token.</summary>
    /// <returns>The server's own exit code.</returns>
    public async Task<int> RunAsync(CancellationToken cancel)
    {
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, OnSignal);
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, OnSignal);
        using var cancelled = cancel.Register(Stop);
        for (var delay = FirstDelay; ; delay = Min(delay * 2, LongestDelay))
        {
            var started = Stopwatch.GetTimestamp();
            var code = await RunOnceAsync().ConfigureAwait(false);
            var ran = Stopwatch.GetElapsedTime(started);
            if (code is 0 or SconceServer.ExitBadConfiguration || _stopping.IsCancellationRequested)
                return code;
            if (ran >= Healthy)
                delay = FirstDelay;
            terminal.Error.WriteLine(FormattableString.Invariant($"sconce: the server {How(code)} after {ran.TotalSeconds:0.0} s; starting it again in {delay.TotalSeconds:0.0} s"));
            try
            {
                await Task.Delay(delay, _stopping.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                return code;
            }
        }
    }

    public void Dispose() => _stopping.Dispose();

    private async Task<int> RunOnceAsync()
    {
        var start = ServerProcess.Command([.. arguments, ServerProcess.StopWithParentOption]);
        // Its end tells the server to stop: when this process wants it to, or is no more.
        start.RedirectStandardInput = true;
        Process child;
        lock (_lock)
        {
            if (_stopped)
                return 0;
            try
            {
                _child = child = Process.Start(start)!;
            }
            catch (Win32Exception e)
            {
                throw new ServerProcessException($"{start.FileName} cannot be started: {e.Message}", e);
            }
        }

        using (child)
        {
            await child.WaitForExitAsync(CancellationToken.None).ConfigureAwait(false);
            lock (_lock)
                _child = null;
            return child.ExitCode;
        }
    }

    private void OnSignal(PosixSignalContext context)
    {
        context.Cancel = true;
        Stop();
    }

    // A terminal's Ctrl-C reaches the server too, and to it a second signal means: at once. So the first one here closes its input instead.
    private void Stop()
    {
        lock (_lock)
        {
            if (!_stopped)
            {
                _stopped = true;
                _stopping.Cancel();
                _child?.StandardInput.Close();
            }
            else
            {
                _child?.Kill();
            }
        }
    }

    // A process that a signal ended has 128 and its number, as in shells.
    private static string How(int code) => code > 128 && Enum.IsDefined((Signal)(code - 128))
        ? $"was ended by {(Signal)(code - 128)}"
        : string.Create(CultureInfo.InvariantCulture, $"ended with exit code {code}");

    private static TimeSpan Min(TimeSpan a, TimeSpan b) => a < b ? a : b;

    private enum Signal
    {
        SIGQUIT = 3,
        SIGILL = 4,
        SIGABRT = 6,
        SIGBUS = 7,
        SIGFPE = 8,
        SIGKILL = 9,
        SIGSEGV = 11,
    }
}
