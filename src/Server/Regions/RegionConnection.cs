using System.Net.Sockets;
using Microsoft.Extensions.Logging;
using Sconce.Engine;
using Sconce.Engine.Regions;

namespace Sconce.Server.Regions;

/// <summary>One caller of the socket for shared memory: a request, an answer, and then the region is the caller's until the connection ends, however that comes about.</summary>
/// <param name="socket">The connection; closed with it.</param>
/// <param name="regions">Where regions come from.</param>
/// <param name="making">As many as may be made at once: to clear gigabytes takes a thread for seconds.</param>
/// <param name="logger">Where to log.</param>
internal sealed class RegionConnection(Socket socket, SharedRegionTable regions, SemaphoreSlim making, ILogger logger)
{
    private const uint Root = 0;

    /// <summary>How long a caller may take to send its 16 bytes.</summary>
    private static readonly TimeSpan RequestLimit = TimeSpan.FromSeconds(10);

    /// <summary>Whether a caller that acts for a user may have memory of a server that acts for another.</summary>
    public static bool IsAllowed(uint user, uint server) => user == server || user == Root;

    /// <summary>Serves the caller until it goes or the server stops; closes the socket.</summary>
    public async Task ServeAsync(CancellationToken stop)
    {
        SharedRegion? region = null;
        try
        {
            region = await AnswerAsync(stop).ConfigureAwait(false);
            if (region is not null)
            {
                RegionLog.Rented(logger, region.Bytes, regions.Count);

                // The end of the connection, or a byte that nobody asked for, which ends it too.
                _ = await socket.ReceiveAsync(new byte[1], stop).ConfigureAwait(false);
            }
        }
        catch (Exception exception) when (exception is SocketException or OperationCanceledException)
        {
            // The caller broke off or said nothing, or the server stops.
        }
        catch (Exception exception)
        {
            RegionLog.Failed(logger, exception);
        }
        finally
        {
            // The memory first: who sees the connection end sees the memory back.
            region?.Dispose();
            socket.Dispose();
        }
    }

    private async Task<SharedRegion?> AnswerAsync(CancellationToken stop)
    {
        if (await ReadAsync(stop).ConfigureAwait(false) is not { } request)
        {
            return null;
        }

        // Not before the request is read: a caller that cannot send it all does not look for an answer.
        if (PosixSockets.UserOf(socket) is var user && !IsAllowed(user, PosixSockets.User))
        {
            RegionLog.NotAllowed(logger, user);
            PosixSockets.TrySend(socket, RegionProtocol.NotAllowed(user), null);
            return null;
        }

        SharedRegion region;
        await making.WaitAsync(stop).ConfigureAwait(false);
        try
        {
            region = regions.Rent(RegionProtocol.ReadRequest(request), stop);
        }
        catch (EngineException refusal)
        {
            RegionLog.Refused(logger, refusal.Reason, refusal.Message);
            PosixSockets.TrySend(socket, RegionProtocol.Answer(refusal), null);
            return null;
        }
        finally
        {
            making.Release();
        }

        if (PosixSockets.TrySend(socket, RegionProtocol.Answer(region), region.File))
        {
            return region;
        }

        region.Dispose();
        return null;
    }

    private async Task<byte[]?> ReadAsync(CancellationToken stop)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(stop);
        limit.CancelAfter(RequestLimit);
        var request = new byte[RegionProtocol.RequestBytes];
        for (var read = 0; read < request.Length;)
        {
            var more = await socket.ReceiveAsync(request.AsMemory(read), limit.Token).ConfigureAwait(false);
            if (more == 0)
            {
                return null;
            }

            read += more;
        }

        return request;
    }
}
