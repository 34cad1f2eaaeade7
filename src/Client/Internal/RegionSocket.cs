using System.Buffers.Binary;
using System.Net.Sockets;
using System.Text;
using Grpc.Core;
using Microsoft.Win32.SafeHandles;

namespace Sconce.Client.Internal;

/// <summary>A connection to a server's socket for shared memory. Its region lasts as long as it does.</summary>
internal sealed class RegionSocket : IDisposable
{
    private const int RequestBytes = 16;
    private const int AnswerBytes = 256;
    private const int VersionAt = 4;
    private const int StatusAt = 6;
    private const int SizeAt = 8;
    private const int IdAt = 16;
    private const int MessageAt = 48;
    private const ushort Version = 1;

    private readonly Socket _socket;

    private RegionSocket(Socket socket, SafeFileHandle file, string id, long bytes) => (_socket, File, Id, Bytes) = (socket, file, id, bytes);

    private static ReadOnlySpan<byte> Mark => "SCON"u8;

    /// <summary>The memory.</summary>
    public SafeFileHandle File { get; }

    public string Id { get; }

    public long Bytes { get; }

    /// <summary>Rents a region.</summary>
    /// <exception cref="SconceException">The server refused, or there is none.</exception>
    public static async Task<RegionSocket> RentAsync(string path, long bytes, CancellationToken cancellationToken)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        SafeFileHandle? file = null;
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellationToken).ConfigureAwait(false);
            var request = new byte[RequestBytes];
            Mark.CopyTo(request);
            BinaryPrimitives.WriteUInt16LittleEndian(request.AsSpan(VersionAt), Version);
            BinaryPrimitives.WriteInt64LittleEndian(request.AsSpan(SizeAt), bytes);
            await socket.SendAsync(request, cancellationToken).ConfigureAwait(false);

            var answer = new byte[AnswerBytes];
            for (var read = 0; read < answer.Length;)
            {
                // Waits, and leaves what comes where it is: .NET would drop the handle.
                if (await socket.ReceiveAsync(new byte[1], SocketFlags.Peek, cancellationToken).ConfigureAwait(false) == 0)
                    throw Refused(StatusCode.Unavailable, $"the server closed the connection at {path} without an answer; it may be stopping");
                var (more, handle) = FileDescriptors.Receive(socket, answer.AsSpan(read));
                file ??= handle;
                read += more;
            }

            return Open(path, socket, answer, file);
        }
        catch (Exception e)
        {
            file?.Dispose();
            socket.Dispose();
            if (e is SocketException or IOException)
                throw Refused(StatusCode.Unavailable, $"no shared memory can be had at {path}: {e.Message}. Is a server running there, with shared_memory_socket set to it?", e);
            throw;
        }
    }

    /// <summary>Gives the region back.</summary>
    public void Dispose()
    {
        File.Dispose();
        _socket.Dispose();
    }

    private static RegionSocket Open(string path, Socket socket, byte[] answer, SafeFileHandle? file)
    {
        if (!answer.AsSpan().StartsWith(Mark))
            throw Refused(StatusCode.FailedPrecondition, $"what listens at {path} is not a Sconce server's socket for shared memory");
        var status = (StatusCode)BinaryPrimitives.ReadUInt16LittleEndian(answer.AsSpan(StatusAt));
        if (status != StatusCode.OK)
            throw Refused(status, Encoding.UTF8.GetString(answer.AsSpan(MessageAt)).TrimEnd('\0'));
        if (file is null)
            throw Refused(StatusCode.ResourceExhausted, "the memory's file handle did not arrive: this process may have as many as it can");
        return new RegionSocket(
            socket, file, Encoding.ASCII.GetString(answer.AsSpan(IdAt..MessageAt)), BinaryPrimitives.ReadInt64LittleEndian(answer.AsSpan(SizeAt)));
    }

    private static SconceException Refused(StatusCode status, string message, Exception? inner = null) => new ErrorDetails(status, message).ToException(inner);
}
