using System.Net.Sockets;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Sconce.Client.Internal;

/// <summary>What .NET's Unix sockets lack: to take the file handle that comes beside a message. Linux only.</summary>
internal static unsafe partial class FileDescriptors
{
    private const int SocketLevel = 1; // SOL_SOCKET
    private const int Rights = 1; // SCM_RIGHTS
    private const int CloseOnExec = 0x40000000; // MSG_CMSG_CLOEXEC
    private const int WithoutWaiting = 0x40; // MSG_DONTWAIT
    private const int Interrupted = 4;

    /// <summary>Takes what has come.</summary>
    /// <param name="socket">The socket, at which something has.</param>
    /// <param name="message">Where its bytes go.</param>
    /// <returns>How many bytes there were, none at the end; and the handle, which the caller disposes, or null where none came.</returns>
    /// <exception cref="IOException">The connection failed.</exception>
    public static (int Bytes, SafeFileHandle? File) Receive(Socket socket, Span<byte> message)
    {
        fixed (byte* bytes = message)
        {
            var vector = new Vector { Base = (nint)bytes, Length = message.Length };
            Control control = default;
            var header = new Header { Vectors = (nint)(&vector), VectorCount = 1, Control = (nint)(&control), ControlLength = sizeof(Control) };
            nint received;
            do
            {
                received = recvmsg(socket.SafeHandle, &header, CloseOnExec | WithoutWaiting);
            }
            while (received < 0 && Marshal.GetLastPInvokeError() == Interrupted);

            if (received < 0)
                throw new IOException($"recvmsg failed: {Marshal.GetLastPInvokeErrorMessage()}", Marshal.GetLastPInvokeError());
            var hasFile = header.ControlLength >= sizeof(nint) + (3 * sizeof(int)) && control is { Level: SocketLevel, Type: Rights };
            return ((int)received, hasFile ? new SafeFileHandle(control.File, ownsHandle: true) : null);
        }
    }

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial nint recvmsg(SafeSocketHandle socket, Header* message, int flags);

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

    // struct cmsghdr, and room for one handle behind it; the system closes what there is no room for.
    [StructLayout(LayoutKind.Sequential)]
    private struct Control
    {
        public nint Length;
        public int Level;
        public int Type;
        public int File;
    }
}
