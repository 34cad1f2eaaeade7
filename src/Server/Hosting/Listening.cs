using System.Net.Sockets;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.Logging;
using Sconce.Server.Configuration;

namespace Sconce.Server.Hosting;

/// <summary>Where Kestrel listens, and how its HTTP/2 is set for gRPC with large messages.</summary>
internal static class Listening
{
    /// <summary>
    /// HTTP/2 windows bound the bytes in flight per round trip. Kestrel's 128 KiB and 96 KiB hold large uploads up even on loopback.
    /// </summary>
    private const int ConnectionWindow = 8 << 20;

    private const int StreamWindow = 4 << 20;

    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    public static void Configure(KestrelServerOptions kestrel, SconceServerOptions options)
    {
        kestrel.AddServerHeader = false;
        kestrel.Limits.Http2.InitialConnectionWindowSize = ConnectionWindow;
        kestrel.Limits.Http2.InitialStreamWindowSize = StreamWindow;
        kestrel.Limits.Http2.MaxStreamsPerConnection = options.MaxCallsPerConnection;

        // The larger frames save a header, and a pass of the parser, for every 16 KiB.
        kestrel.Limits.Http2.MaxFrameSize = 1 << 20;

        // gRPC has its own limit on a message, and names the setting; Kestrel's 30 MB would end the call without a word.
        kestrel.Limits.MaxRequestBodySize = null;

        // A machine that vanishes sends no FIN. Without pings its sessions, graphs and tensors would stay for as long as TCP keeps the connection.
        kestrel.Limits.Http2.KeepAlivePingDelay = TimeSpan.FromSeconds(30);
        kestrel.Limits.Http2.KeepAlivePingTimeout = TimeSpan.FromSeconds(20);
        if (OptionsValidation.UsesTcp(options) && OptionsValidation.TryParseAddress(options.Address, out var ip))
        {
            kestrel.Listen(ip, options.Port, listen => listen.Protocols = HttpProtocols.Http2);
        }

        if (options.UnixSocket.Length > 0)
        {
            kestrel.ListenUnixSocket(Path.GetFullPath(options.UnixSocket), listen => listen.Protocols = HttpProtocols.Http2);
        }
    }

    /// <summary>Makes the socket file readable and writable by its owner alone: after bind has made it, before anyone can connect.</summary>
    public static void Restrict(SocketTransportOptions transport)
    {
        transport.CreateBoundListenSocket = static endpoint =>
        {
            var socket = Bind(endpoint);
            if (endpoint is UnixDomainSocketEndPoint && endpoint.ToString() is { Length: > 0 } path && !OperatingSystem.IsWindows())
            {
                File.SetUnixFileMode(path, OwnerOnly);
            }

            return socket;
        };
    }

    /// <summary>A Unix socket, bound but not listening yet, whose file its owner alone can read and write.</summary>
    /// <param name="setting">The setting that names the path, for errors.</param>
    /// <param name="path">The path.</param>
    /// <returns>The socket, which the caller disposes; then the file goes too.</returns>
    /// <exception cref="ConfigurationException">It cannot be bound there.</exception>
    public static Socket BindPrivate(string setting, string path)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            socket.Bind(new UnixDomainSocketEndPoint(Path.GetFullPath(path)));
            if (!OperatingSystem.IsWindows())
            {
                File.SetUnixFileMode(path, OwnerOnly);
            }

            return socket;
        }
        catch (Exception e) when (e is SocketException or IOException or UnauthorizedAccessException)
        {
            socket.Dispose();
            throw CannotListen(setting, path, e);
        }
    }

    private static Socket Bind(System.Net.EndPoint endpoint)
    {
        try
        {
            return SocketTransportOptions.CreateDefaultBoundListenSocket(endpoint);
        }
        catch (SocketException e) when (endpoint is UnixDomainSocketEndPoint)
        {
            throw CannotListen("unix_socket", endpoint.ToString()!, e);
        }
    }

    private static ConfigurationException CannotListen(string setting, string path, Exception e) =>
        new([$"{setting} is \"{path}\", where the server cannot listen: {e.Message}; choose another path"]);

    /// <summary>What is wrong with the places of files that are only made once the server starts.</summary>
    /// <exception cref="ConfigurationException">A folder is missing, or is where a file should be.</exception>
    public static void CheckPlaces(SconceServerOptions options)
    {
        var problems = new List<string>();
        foreach (var (name, path) in new[] { ("unix_socket", options.UnixSocket), ("shared_memory_socket", options.SharedMemorySocket), ("address_file", options.AddressFile) })
        {
            if (path.Length == 0)
            {
                continue;
            }

            if (Directory.Exists(path))
            {
                problems.Add($"{name} is \"{path}\", which is a folder; it must be the path of a file in it");
            }
            else if (!Directory.Exists(Path.GetDirectoryName(Path.GetFullPath(path))))
            {
                problems.Add($"{name} is \"{path}\", whose folder does not exist; make it, or choose another path");
            }
        }

        if (problems.Count > 0)
        {
            throw new ConfigurationException(problems);
        }
    }

    /// <summary>Removes the socket files of a server that was killed; refuses to touch anything else.</summary>
    /// <exception cref="ConfigurationException">A path is taken.</exception>
    public static void ClearSockets(SconceServerOptions options, ILogger logger)
    {
        ClearSocket("unix_socket", options.UnixSocket, logger);
        ClearSocket("shared_memory_socket", options.SharedMemorySocket, logger);
    }

    private static void ClearSocket(string setting, string path, ILogger logger)
    {
        if (path.Length == 0 || !File.Exists(path))
        {
            return;
        }

        try
        {
            using var probe = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            probe.Connect(new UnixDomainSocketEndPoint(path));
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionRefused && new FileInfo(path).Length == 0)
        {
            // Refused also where the file is no socket; but such a file, when it has content, is somebody's.
            ServerLog.StaleSocket(logger, path);
            File.Delete(path);
            return;
        }
        catch (SocketException)
        {
            throw new ConfigurationException([$"{setting} is \"{path}\", which exists and is not a socket of a stopped server; remove it or choose another path"]);
        }

        throw new ConfigurationException([$"{setting} is \"{path}\", on which another server listens; stop it or choose another path"]);
    }

    /// <summary>The addresses as clients write them.</summary>
    public static IReadOnlyList<string> Addresses(IEnumerable<string> bound, SconceServerOptions options)
    {
        var addresses = bound.Where(address => !address.Contains("//unix:", StringComparison.OrdinalIgnoreCase)).ToList();
        if (options.UnixSocket.Length > 0)
        {
            addresses.Add("unix:" + Path.GetFullPath(options.UnixSocket));
        }

        return addresses;
    }

    /// <summary>Writes the addresses for a parent process; through a rename, so that it never sees half of them.</summary>
    public static void WriteAddressFile(string path, IReadOnlyList<string> addresses)
    {
        try
        {
            var temporary = path + ".tmp";
            File.WriteAllLines(temporary, addresses);
            File.Move(temporary, path, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigurationException([$"address_file is \"{path}\", which cannot be written: {e.Message}"]);
        }
    }
}
