using System.Buffers.Binary;
using System.Net.Sockets;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Sconce.Client.Internal;

namespace Sconce.Server.Tests.Regions;

/// <summary>A caller of the socket for shared memory, byte by byte as the page on it says.</summary>
internal sealed class RegionCaller : IDisposable
{
    private readonly Socket _socket;

    private RegionCaller(Socket socket) => _socket = socket;

    public ushort Status { get; private init; }

    public string Id { get; private init; } = "";

    public ulong Bytes { get; private init; }

    public string Message { get; private init; } = "";

    /// <summary>The memory; null where it was refused.</summary>
    public SafeFileHandle? File { get; private init; }

    public static byte[] Request(ulong bytes, ushort version = 1, ushort reserved = 0)
    {
        byte[] request = [.. "SCON"u8, .. new byte[12]];
        BinaryPrimitives.WriteUInt16LittleEndian(request.AsSpan(4), version);
        BinaryPrimitives.WriteUInt16LittleEndian(request.AsSpan(6), reserved);
        BinaryPrimitives.WriteUInt64LittleEndian(request.AsSpan(8), bytes);
        return request;
    }

    public static Socket Connect(string path)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified) { ReceiveTimeout = 60_000 };
        socket.Connect(new UnixDomainSocketEndPoint(path));
        return socket;
    }

    /// <summary>Rents a region and puts bytes into it.</summary>
    public static RegionCaller RentWith(string path, byte[] content, int more = 0)
    {
        var caller = Rent(path, Request((ulong)(content.Length + more)));
        Assert.True(caller.Status == 0, caller.Message);
        caller.Write(content);
        return caller;
    }

    /// <summary>Sends a request and takes the answer.</summary>
    public static RegionCaller Rent(string path, byte[] request)
    {
        var socket = Connect(path);
        socket.Send(request);
        var answer = new byte[256];
        socket.Receive(answer, SocketFlags.Peek);
        var (bytes, file) = FileDescriptors.Receive(socket, answer);
        Assert.Equal((256, "SCON", 1), (bytes, Encoding.ASCII.GetString(answer, 0, 4), BinaryPrimitives.ReadUInt16LittleEndian(answer.AsSpan(4))));
        return new RegionCaller(socket)
        {
            Status = BinaryPrimitives.ReadUInt16LittleEndian(answer.AsSpan(6)),
            Bytes = BinaryPrimitives.ReadUInt64LittleEndian(answer.AsSpan(8)),
            Id = Encoding.ASCII.GetString(answer, 16, 32).TrimEnd('\0'),
            Message = Encoding.UTF8.GetString(answer, 48, 208).TrimEnd('\0'),
            File = file,
        };
    }

    public void Write(ReadOnlySpan<byte> bytes, long offset = 0) => RandomAccess.Write(File!, bytes, offset);

    /// <summary>Whether the server has ended the connection.</summary>
    public bool IsEnded() => _socket.Receive(new byte[1]) == 0;

    /// <summary>Ends the connection as the death of the process does.</summary>
    public void Dispose()
    {
        File?.Dispose();
        _socket.Dispose();
    }
}
