using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Sconce.Engine.Weights;

/// <summary>What .NET's files lack: to open without waiting for a pipe's other end, to tell what was opened, and to make a directory durable. Linux only, as the host is.</summary>
internal static unsafe partial class PosixFiles
{
    private const int NonBlocking = 0x800;
    private const int CloseOnExec = 0x80000;
    private const int EmptyPath = 0x1000;
    private const uint TypeMask = 1;

    // Of struct statx, which is the same on all processors.
    private const int StatxBytes = 256;
    private const int ModeOffset = 28;
    private const int TypeBits = 0xF000;
    private const int RegularFile = 0x8000;

    private const int NoEntry = 2;
    private const int NotADirectory = 20;

    /// <summary>Opens a file or a directory for reading; never waits.</summary>
    /// <returns>The handle, which the caller disposes; null where there is nothing of that name.</returns>
    /// <exception cref="IOException">It cannot be opened.</exception>
    public static SafeFileHandle? Open(string path)
    {
        var file = open(path, NonBlocking | CloseOnExec);
        if (file >= 0)
        {
            return new SafeFileHandle(file, ownsHandle: true);
        }

        var error = Marshal.GetLastPInvokeError();
        return error is NoEntry or NotADirectory ? null : throw new IOException($"{path}: {Marshal.GetPInvokeErrorMessage(error)}", error);
    }

    /// <summary>Whether an open file is a regular one: no directory, pipe, socket or device.</summary>
    public static bool IsRegular(SafeFileHandle file)
    {
        var status = stackalloc byte[StatxBytes];
        var added = false;
        file.DangerousAddRef(ref added);
        try
        {
            return statx((int)file.DangerousGetHandle(), "", EmptyPath, TypeMask, status) == 0 && (*(ushort*)(status + ModeOffset) & TypeBits) == RegularFile;
        }
        finally
        {
            file.DangerousRelease();
        }
    }

    /// <summary>Where an open file really is: the path that the kernel knows it by, with no link left in it.</summary>
    public static string RealPath(SafeFileHandle file) => File.ResolveLinkTarget($"/proc/self/fd/{file.DangerousGetHandle()}", returnFinalTarget: false)!.FullName;

    /// <summary>Makes what was created, renamed or deleted in a directory last.</summary>
    /// <exception cref="IOException">The medium failed.</exception>
    public static void FlushDirectory(string path)
    {
        using var directory = Open(path) ?? throw new DirectoryNotFoundException(path);
        RandomAccess.FlushToDisk(directory);
    }

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int open(string path, int flags);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int statx(int directory, string path, int flags, uint mask, byte* status);
}
