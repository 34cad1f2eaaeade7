using System.Net;
using System.Net.Sockets;
using Grpc.Net.Client;

namespace Sconce.Client.Internal;

/// <summary>Makes the channel that an address asks for.</summary>
internal static class ChannelFactory
{
    private const string UnixScheme = "unix:";

    /// <summary>The channel, and its limit on a message that is sent, which the caller's own settings of the channel may change.</summary>
    public static (GrpcChannel Channel, int? MaxSendBytes) Create(SconceClientOptions options)
    {
        var handler = new SocketsHttpHandler
        {
            // More than one connection when the server's limit of streams per connection is reached.
            EnableMultipleHttp2Connections = true,
            // Pings find a server that vanished without closing its connections, which an idle stream (a session) would never notice.
            KeepAlivePingDelay = TimeSpan.FromSeconds(20),
            KeepAlivePingTimeout = TimeSpan.FromSeconds(10),
            KeepAlivePingPolicy = HttpKeepAlivePingPolicy.WithActiveRequests,
            PooledConnectionIdleTimeout = Timeout.InfiniteTimeSpan,
            ConnectTimeout = TimeSpan.FromSeconds(10),
            // Tensors are large: begin with a window that needs no round trips to grow.
            InitialHttp2StreamWindowSize = 1 << 20,
            // Proxies for the web do not speak HTTP/2 in clear.
            UseProxy = false,
        };
        var address = Target(options.Address!, handler);
        var channelOptions = new GrpcChannelOptions
        {
            HttpHandler = handler,
            DisposeHttpClient = true,
            MaxReceiveMessageSize = options.MaxMessageBytes,
            MaxSendMessageSize = options.MaxMessageBytes,
            // No logger: gRPC logs every failed attempt as an error, those too that are repeated and succeed. Rpc logs what matters.
            // No service config: gRPC's own retries buffer requests and silently stop retrying those beyond the buffer. Rpc decides instead.
        };
        options.ConfigureChannel?.Invoke(channelOptions);
        return (GrpcChannel.ForAddress(address, channelOptions), channelOptions.MaxSendMessageSize);
    }

    private static Uri Target(string address, SocketsHttpHandler handler)
    {
        if (address.StartsWith(UnixScheme, StringComparison.Ordinal))
        {
            var path = address[UnixScheme.Length..];
            if (path.StartsWith("//", StringComparison.Ordinal))
                path = path[2..];
            if (path.Length == 0)
                throw new ArgumentException($"The address '{address}' names no socket; expected unix:/path/to.sock.");
            var endPoint = new UnixDomainSocketEndPoint(path);
            handler.ConnectCallback = (_, cancellationToken) => ConnectAsync(endPoint, cancellationToken);
            return new Uri("http://localhost");
        }

        if (Uri.TryCreate(address, UriKind.Absolute, out var uri) && (uri.Scheme == Uri.UriSchemeHttp || uri.Scheme == Uri.UriSchemeHttps))
            return uri;
        throw new ArgumentException(
            $"The address '{address}' is not understood; expected http://host:port, https://host:port or unix:/path/to.sock.");
    }

    private static async ValueTask<Stream> ConnectAsync(EndPoint endPoint, CancellationToken cancellationToken)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(endPoint, cancellationToken).ConfigureAwait(false);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch (Exception e)
        {
            socket.Dispose();
            if (e is SocketException { SocketErrorCode: SocketError.AddressNotAvailable } absent)
                throw new SocketException((int)absent.SocketErrorCode, $"there is no socket at {endPoint}");
            throw;
        }
    }
}
