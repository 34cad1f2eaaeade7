using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Sconce.Engine.Storage;

/// <summary>
/// What .NET's files lack: to tell what is under a name before it is opened, to rename without replacing, and to make durable or fail. Linux only, as the host is. Failures
/// are <see cref="IOException"/>, whose <see cref="Exception.HResult"/> is the system's error number.
/// </summary>
internal static unsafe partial class PosixFiles
{
    private const int NonBlocking = 0x800;
    private const int CloseOnExec = 0x80000;
    private const int PathOnly = 0x200000;
    private const int EmptyPath = 0x1000;
    private const int CurrentDirectory = -100;
    private const uint NoReplace = 1;
    private const uint TypeMask = 1;
    private const int LockShared = 1;
    private const uint BeginWrite = 2;
    private const int LockExclusive = 2;
    private const int LockWithoutWaiting = 4;

    // Of struct statx, which is the same on all processors.
    private const int StatxBytes = 256;
    private const int ModeOffset = 28;
    private const int TypeBits = 0xF000;
    private const int RegularFile = 0x8000;

    private const int NoEntry = 2;
    private const int Interrupted = 4;
    private const int NotADirectory = 20;
    private const int Invalid = 22;
    private const int NoSystemCall = 38;

    /// <summary>Finds what is under a name, links followed, without opening it: opening a device alone may do something, and a pipe makes its other end go on.</summary>
    /// <returns>A handle to ask and to <see cref="Open(SafeFileHandle)"/>, not to read, which the caller disposes; null where there is nothing of that name.</returns>
    /// <exception cref="IOException">It cannot be reached.</exception>
    public static SafeFileHandle? Find(string path)
    {
        // What is passed on ends at the zero, and would be another name.
        if (path.Contains('\0', StringComparison.Ordinal))
        {
            return null;
        }

        return TryOpen(path, PathOnly | CloseOnExec) ?? (Marshal.GetLastPInvokeError() is NoEntry or NotADirectory ? null : throw Failed("open", path));
    }

    /// <summary>Opens for reading what was found, and nothing that has taken its name since; never waits.</summary>
    /// <exception cref="IOException">It cannot be opened.</exception>
    public static SafeFileHandle Open(SafeFileHandle found) => TryOpen(Descriptor(found), NonBlocking | CloseOnExec) ?? throw Failed("open", "the file");

    /// <summary>Opens a regular file for reading.</summary>
    /// <returns>It, which the caller disposes; null where there is nothing of that name.</returns>
    /// <exception cref="IOException">It cannot be opened, or is a directory, a pipe, a socket or a device, which are left alone.</exception>
    public static SafeFileHandle? OpenRegular(string path)
    {
        using var found = Find(path);
        return found is null ? null : IsRegular(found) ? Open(found) : throw new IOException($"{path} is no regular file", Invalid);
    }

    /// <summary>Whether a file that is open or found is a regular one: no directory, pipe, socket or device.</summary>
    public static bool IsRegular(SafeFileHandle file)
    {
        var status = stackalloc byte[StatxBytes];
        return statx(file, "", EmptyPath, TypeMask, status) == 0 && (*(ushort*)(status + ModeOffset) & TypeBits) == RegularFile;
    }

    /// <summary>Where a file that is open or found really is: the path that the kernel knows it by, with no link left in it.</summary>
    public static string RealPath(SafeFileHandle file) => File.ResolveLinkTarget(Descriptor(file), returnFinalTarget: false)!.FullName;

    /// <summary>Makes a file's content, or what was created, renamed and deleted in a directory, durable. Not .NET's own flush, which takes some failures for success.</summary>
    /// <param name="file">The file or directory.</param>
    /// <param name="path">Its path, for the error.</param>
    /// <exception cref="IOException">The medium failed: the system may have dropped what was to be flushed.</exception>
    public static void Flush(SafeFileHandle file, string path)
    {
        while (fsync(file) != 0)
        {
            if (Marshal.GetLastPInvokeError() != Interrupted)
            {
                throw Failed("flush", path);
            }
        }
    }

    /// <summary>Makes what was created, renamed and deleted in a directory durable.</summary>
    /// <exception cref="IOException">It cannot be opened, or the medium failed.</exception>
    public static void FlushDirectory(string path)
    {
        // .NET opens no directories. The separator at the end fails for what is none, as O_DIRECTORY does, whose value differs between processors.
        using var directory = TryOpen(Path.TrimEndingDirectorySeparator(path) + Path.DirectorySeparatorChar, CloseOnExec) ?? throw Failed("open", path);
        Flush(directory, path);
    }

    /// <summary>Renames a file or directory at once.</summary>
    /// <param name="from">Its path.</param>
    /// <param name="to">What its path shall be, on the same file system.</param>
    /// <param name="replaces">Whether it takes the place of a file that is there; a link there is replaced, not followed.</param>
    /// <exception cref="IOException">It cannot be renamed; without <paramref name="replaces"/> also where the name is taken (EEXIST).</exception>
    public static void Rename(string from, string to, bool replaces)
    {
        if (renameat2(CurrentDirectory, from, CurrentDirectory, to, replaces ? 0 : NoReplace) == 0)
        {
            return;
        }

        // Some file systems of the network know no flags, but links, which refuse a name that is taken too. .NET's own move looks first and renames then, which replaces what came in between.
        if (replaces || Marshal.GetLastPInvokeError() is not (Invalid or NoSystemCall) || link(from, to) != 0)
        {
            throw Failed("rename", from);
        }

        File.Delete(from);
    }

    /// <summary>Locks an open file until it is closed, however the process ends; at once or not at all.</summary>
    /// <param name="file">The file.</param>
    /// <param name="isShared">Whether others may lock it so too.</param>
    /// <returns>Whether it could be; false leaves the error number with the system.</returns>
    public static bool TryLock(SafeFileHandle file, bool isShared) => flock(file, (isShared ? LockShared : LockExclusive) | LockWithoutWaiting) == 0;

    /// <summary>Has the device begin to write a part of a file. Nothing is durable by it.</summary>
    /// <param name="file">The file.</param>
    /// <param name="offset">Where the part begins.</param>
    /// <param name="length">Its bytes.</param>
    /// <returns>Whether the system does so.</returns>
    public static bool BeginWriting(SafeFileHandle file, long offset, long length) => sync_file_range(file, offset, length, BeginWrite) == 0;

    /// <summary>What a call that has just failed is reported as.</summary>
    public static IOException Failed(string what, string path)
    {
        var error = Marshal.GetLastPInvokeError();
        return new IOException($"{what} of {path} failed: {Marshal.GetPInvokeErrorMessage(error)}", error);
    }

    private static string Descriptor(SafeFileHandle file) => $"/proc/self/fd/{file.DangerousGetHandle()}";

    private static SafeFileHandle? TryOpen(string path, int flags) => open(path, flags) is >= 0 and var file ? new SafeFileHandle(file, ownsHandle: true) : null;

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int open(string path, int flags);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int statx(SafeFileHandle directory, string path, int flags, uint mask, byte* status);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int renameat2(int fromDirectory, string from, int toDirectory, string to, uint flags);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int link(string from, string to);

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int fsync(SafeFileHandle file);

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int sync_file_range(SafeFileHandle file, long offset, long count, uint flags);

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int flock(SafeFileHandle file, int operation);
}
