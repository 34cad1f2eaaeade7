using System.Net.Sockets;
using Grpc.Net.Client;

namespace Sconce.Functional.Harness;

/// <summary>Plain gRPC channels, without the SDK's retries.</summary>
internal static class Channels
{
    /// <summary>Over TCP.</summary>
    public static GrpcChannel Open(SconceProcess server) => GrpcChannel.ForAddress(server.Address, Options());

    /// <summary>Over the Unix socket.</summary>
    public static GrpcChannel OpenUnix(SconceProcess server)
    {
        var options = Options();
        options.HttpHandler = new SocketsHttpHandler
        {
            ConnectCallback = async (_, cancellation) =>
            {
                var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(server.UnixSocket), cancellation);
                return new NetworkStream(socket, ownsSocket: true);
            },
        };
        return GrpcChannel.ForAddress("http://localhost", options);
    }

    private static GrpcChannelOptions Options() => new() { MaxReceiveMessageSize = null, MaxSendMessageSize = null };
}
