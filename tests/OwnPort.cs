using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace Sconce.Tests;

/// <summary>
/// Ports for servers that go and come back. The system gives them to nobody by itself, so that they are free all the while: neither to another listener on
/// port 0 nor to a connection, and not to that of the very client that tries to reach the server meanwhile, which would reach itself.
/// </summary>
internal static class OwnPort
{
    private const int Least = 10_000;

    /// <summary>One that is free at this moment.</summary>
    public static int Next()
    {
        // Where the system's own begin.
        var end = int.Parse(File.ReadAllText("/proc/sys/net/ipv4/ip_local_port_range").Split('\t', ' ')[0], CultureInfo.InvariantCulture);
        if (end <= Least)
        {
            return 0;
        }

        while (true)
        {
            var port = Random.Shared.Next(Least, end);
            try
            {
                using var listener = new TcpListener(IPAddress.Loopback, port);
                listener.Start();
                return port;
            }
            catch (SocketException)
            {
                // Taken by a server of somebody's.
            }
        }
    }
}
