using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace Sconce.Server.Regions;

/// <summary>What .NET's Unix sockets lack: to pass a file handle, and to tell whose the other end is. Linux only.</summary>
internal static unsafe partial class PosixSockets
{
    private const int SocketLevel = 1; // SOL_SOCKET
    private const int Rights = 1; // SCM_RIGHTS
    private const int PeerCredentials = 17; // SO_PEERCRED
    private const int WithoutWaiting = 0x40; // MSG_DONTWAIT
    private const int NoSignal = 0x4000; // MSG_NOSIGNAL
    private const int Interrupted = 4;

    /// <summary>The user that this process acts for.</summary>
    public static uint User => geteuid();

    /// <summary>The user that a socket's other end acted for when it connected.</summary>
    /// <exception cref="SocketException">The system does not tell.</exception>
    public static uint UserOf(Socket socket)
    {
        // struct ucred: process, user, group.
        Span<uint> credentials = stackalloc uint[3];
        var length = socket.GetRawSocketOption(SocketLevel, PeerCredentials, MemoryMarshal.AsBytes(credentials));
        return length == sizeof(uint) * credentials.Length ? credentials[1] : throw new SocketException((int)SocketError.AccessDenied);
    }

    /// <summary>Sends a message, and a file handle with it, at once or not at all.</summary>
    /// <param name="socket">The socket.</param>
    /// <param name="message">The message; at least one byte, which carries the handle.</param>
    /// <param name="file">The handle; null sends none. The other end gets one of its own.</param>
    /// <returns>Whether all of it went: not where the other end has gone, or reads nothing.</returns>
    public static bool TrySend(Socket socket, ReadOnlySpan<byte> message, SafeHandle? file)
    {
        var held = false;
        try
        {
            file?.DangerousAddRef(ref held);
            fixed (byte* bytes = message)
            {
                var vector = new Vector { Base = (nint)bytes, Length = message.Length };
                var control = new Control { Length = sizeof(nint) + (3 * sizeof(int)), Level = SocketLevel, Type = Rights, File = held ? (int)file!.DangerousGetHandle() : -1 };
                var header = new Header { Vectors = (nint)(&vector), VectorCount = 1 };
                if (held)
                {
                    (header.Control, header.ControlLength) = ((nint)(&control), sizeof(Control));
                }

                nint sent;
                do
                {
                    sent = sendmsg(socket.SafeHandle, &header, WithoutWaiting | NoSignal);
                }
                while (sent < 0 && Marshal.GetLastPInvokeError() == Interrupted);

                return sent == message.Length;
            }
        }
        finally
        {
            if (held)
            {
                file!.DangerousRelease();
            }
        }
    }

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial nint sendmsg(SafeSocketHandle socket, Header* message, int flags);

    [LibraryImport("libc")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial uint geteuid();

    // struct msghdr.
    [StructLayout(LayoutKind.Sequential)]
    private struct Header
    {
        public nint Name;
        public uint NameLength;
        public nint Vectors;
        public nint VectorCount;
        public nint Control;
        public nint ControlLength;
        public int Flags;
    }

    // struct iovec.
    [StructLayout(LayoutKind.Sequential)]
    private struct Vector
    {
        public nint Base;
        public nint Length;
    }

    // struct cmsghdr, and the one handle behind it.
    [StructLayout(LayoutKind.Sequential)]
    private struct Control
    {
        public nint Length;
        public int Level;
        public int Type;
        public int File;
    }
}
