using System.Net.Sockets;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Sconce.Engine.Execution;
using Sconce.Server.Hosting;

namespace Sconce.Server.Regions;

/// <summary>
/// The socket on which callers of the same host rent shared memory: of its own, because a file handle travels beside the bytes of a Unix socket, where Kestrel does not look. It
/// closes after the drain, when the last load from a region has ended.
/// </summary>
internal sealed class RegionListener(EngineHost engine, SconceServerOptions options, ILogger<RegionListener> logger) : IHostedService, IDisposable
{
    /// <summary>Connections beyond those that have regions: callers that are about to get one, or to be refused. Others wait in the system's queue.</summary>
    private const int Spare = 16;

    private const int Backlog = 128;

    private const int MadeAtOnce = 2;

    private static readonly TimeSpan PauseAfterFailure = TimeSpan.FromSeconds(1);

    private readonly CancellationTokenSource _stop = new();
    private readonly SemaphoreSlim _making = new(MadeAtOnce);
    private readonly SemaphoreSlim _places = new(options.Engine.MaxSharedRegions + Spare);
    private Socket? _socket;
    private Task _accepting = Task.CompletedTask;

    public Task StartAsync(CancellationToken cancellationToken)
    {
        if (options.SharedMemorySocket.Length > 0)
        {
            _socket = Listening.BindPrivate("shared_memory_socket", options.SharedMemorySocket);
            _socket.Listen(Backlog);
            _accepting = AcceptAsync(_socket);
            RegionLog.Listening(logger, options.SharedMemorySocket);
        }

        return Task.CompletedTask;
    }

    public async Task StopAsync(CancellationToken cancellationToken)
    {
        // A server that was stopped is stopped again when it is disposed.
        if (Interlocked.Exchange(ref _socket, null) is not { } socket)
        {
            return;
        }

        await _stop.CancelAsync().ConfigureAwait(false);
        await _accepting.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        socket.Dispose();

        // Each connection gives its place back when its region is.
        for (var i = 0; i < options.Engine.MaxSharedRegions + Spare; i++)
        {
            await _places.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    public void Dispose()
    {
        // Not the semaphores: a connection that a stop did not wait for still gives its place back.
        _socket?.Dispose();
        _stop.Dispose();
    }

    private async Task AcceptAsync(Socket socket)
    {
        while (true)
        {
            await _places.WaitAsync(_stop.Token).ConfigureAwait(false);
            Socket? caller = null;
            try
            {
                caller = await socket.AcceptAsync(_stop.Token).ConfigureAwait(false);
            }
            catch (SocketException exception)
            {
                // Mostly no file handles left: callers wait until there are.
                RegionLog.NotAccepted(logger, exception.Message);
            }
            finally
            {
                if (caller is null)
                {
                    _places.Release();
                }
            }

            if (caller is null)
            {
                await Task.Delay(PauseAfterFailure, _stop.Token).ConfigureAwait(false);
            }
            else
            {
                _ = ServeAsync(caller);
            }
        }
    }

    private async Task ServeAsync(Socket caller)
    {
        try
        {
            await new RegionConnection(caller, engine.SharedRegions, _making, logger).ServeAsync(_stop.Token).ConfigureAwait(false);
        }
        finally
        {
            _places.Release();
        }
    }
}
