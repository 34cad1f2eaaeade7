using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;

namespace Sconce.Server.Hosting;

/// <summary>The first SIGTERM or SIGINT drains, which is the host's own doing; the second is from somebody who does not want to wait, and ends the process.</summary>
internal sealed class SecondSignal : IDisposable
{
    private const int SignalExit = 128; // what shells add a signal's number to

    private readonly PosixSignalRegistration[] _registrations;
    private readonly ILogger _logger;
    private int _signals;

    public SecondSignal(ILogger logger)
    {
        _logger = logger;
        _registrations = [PosixSignalRegistration.Create(PosixSignal.SIGINT, OnSignal), PosixSignalRegistration.Create(PosixSignal.SIGTERM, OnSignal)];
    }

    public void Dispose()
    {
        foreach (var registration in _registrations)
        {
            registration.Dispose();
        }
    }

    private void OnSignal(PosixSignalContext context)
    {
        if (Interlocked.Increment(ref _signals) > 1)
        {
            ServerLog.SecondSignal(_logger, context.Signal);
            ProcessEnd.Now(SignalExit + (context.Signal == PosixSignal.SIGINT ? 2 : 15));
        }
    }
}
