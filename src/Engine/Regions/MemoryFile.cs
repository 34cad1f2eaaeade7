using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Sconce.Engine.Storage;

namespace Sconce.Engine.Regions;

/// <summary>
/// Memory that has a file handle, so that another process can have it too: a memfd whose size is sealed, so that nobody who has it can cut it short under the others, and whose
/// pages are all there, so that nobody's access to it can fail. Linux only. Failures are <see cref="IOException"/>, whose <see cref="Exception.HResult"/> is the system's error number.
/// </summary>
internal static partial class MemoryFile
{
    // A piece at a time: where a signal interrupts it the system undoes the whole of a call.
    private const long Piece = 64 << 20;

    private const uint CloseOnExec = 1;
    private const uint AllowSealing = 2;
    private const int AddSeals = 1033;
    private const int SealSeals = 1;
    private const int SealShrink = 2;
    private const int SealGrow = 4;
    private const int KeepSize = 1;
    private const int PunchHole = 2;
    private const int Interrupted = 4;
    private const string Name = "sconce-region";

    /// <summary>What memory of a size takes, which comes in pages.</summary>
    public static long InPages(long bytes)
    {
        long page = Environment.SystemPageSize;
        return (bytes + page - 1) / page * page;
    }

    /// <summary>Makes memory of zeros.</summary>
    /// <param name="bytes">Its size, for ever.</param>
    /// <param name="cancellationToken">Looked at between pieces.</param>
    /// <returns>A handle to read and to write it, which the caller disposes. The memory goes with the last handle and mapping of it in any process, or by <see cref="Free"/>.</returns>
    /// <exception cref="IOException">The system gives none.</exception>
    public static SafeFileHandle Create(long bytes, CancellationToken cancellationToken)
    {
        var descriptor = memfd_create(Name, CloseOnExec | AllowSealing);
        if (descriptor < 0)
        {
            throw PosixFiles.Failed("memfd_create", Name);
        }

        var file = new SafeFileHandle(descriptor, ownsHandle: true);
        try
        {
            if (ftruncate(file, bytes) != 0)
            {
                throw PosixFiles.Failed("ftruncate", Name);
            }

            for (var at = 0L; at < bytes; at += Piece)
            {
                cancellationToken.ThrowIfCancellationRequested();
                Allocate(file, 0, at, Math.Min(Piece, bytes - at));
            }

            return fcntl(file, AddSeals, SealShrink | SealGrow | SealSeals) == 0 ? file : throw PosixFiles.Failed("sealing", Name);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Gives the memory back to the system, though others may have handles and mappings of it: they read zeros, and what they write is new memory, which is theirs. Where
    /// it cannot be, it goes with the last of them.
    /// </summary>
    public static void Free(SafeFileHandle file, long bytes)
    {
        try
        {
            // The rest of the last page too: a part of a page would be cleared, and stay.
            Allocate(file, PunchHole | KeepSize, 0, InPages(bytes));
        }
        catch (IOException)
        {
            // Of an old system: nothing is wrong with the memory, it only stays for longer.
        }
    }

    private static void Allocate(SafeFileHandle file, int mode, long offset, long bytes)
    {
        while (fallocate(file, mode, offset, bytes) != 0)
        {
            if (Marshal.GetLastPInvokeError() != Interrupted)
            {
                throw PosixFiles.Failed("fallocate", Name);
            }
        }
    }

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int memfd_create(string name, uint flags);

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int ftruncate(SafeFileHandle file, long length);

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int fallocate(SafeFileHandle file, int mode, long offset, long length);

    // Variadic in C; on Linux's 64-bit processors an int is passed the same way.
    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int fcntl(SafeFileHandle file, int command, int seals);
}
