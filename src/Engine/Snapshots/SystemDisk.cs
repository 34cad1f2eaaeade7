using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Sconce.Engine.Snapshots;

/// <summary>The system's disks.</summary>
internal sealed partial class SystemDisk : IDisk
{
    private const UnixFileMode OwnFile = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    private SystemDisk()
    {
    }

    public static SystemDisk Instance { get; } = new();

    public bool DirectoryExists(string path) => Directory.Exists(path);

    public void CreateDirectory(string path)
    {
        if (OperatingSystem.IsWindows())
        {
            Directory.CreateDirectory(path);
        }
        else
        {
            Directory.CreateDirectory(path, OwnFile | UnixFileMode.UserExecute);
        }
    }

    public IReadOnlyList<DiskEntry> List(string path) =>
        [.. new DirectoryInfo(path).EnumerateFileSystemInfos().Select(info => new DiskEntry(info.Name, info is DirectoryInfo { LinkTarget: null }))];

    public IDiskWriter Create(string path) => new Writer(new FileStream(path, Own(FileMode.CreateNew, FileAccess.Write, FileShare.Read)));

    // Locks nothing: a backup may read too.
    public IDiskReader Open(string path) => new Reader(File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete));

    public void FlushDirectory(string path)
    {
        // .NET opens no directories. The separator at the end fails for what is none, as O_DIRECTORY does, whose value differs between processors.
        var descriptor = open(Path.TrimEndingDirectorySeparator(path) + Path.DirectorySeparatorChar, CloseOnExec);
        if (descriptor < 0)
        {
            throw Failed("open", path);
        }

        using var handle = new SafeFileHandle(descriptor, ownsHandle: true);
        Flush(handle, path);
    }

    public void Rename(string from, string to) => Directory.Move(from, to);

    public void DeleteFile(string path) => File.Delete(path);

    public void DeleteDirectory(string path) => Directory.Delete(path);

    public IDisposable? Lock(string path)
    {
        FileStream file;
        try
        {
            file = new FileStream(path, Own(FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None));
        }
        catch (IOException exception) when (exception.HResult == DiskFailure.WouldBlock)
        {
            return null;
        }

        // FileShare.None took it already, unless the process was told to lock no files (DOTNET_SYSTEM_IO_DISABLEFILELOCKING): then it is taken here. Twice is no harm.
        if (flock(file.SafeFileHandle, LockExclusive | LockWithoutWaiting) == 0)
        {
            return file;
        }

        var failure = Failed("lock", path);
        file.Dispose();
        return failure.HResult == DiskFailure.WouldBlock ? null : throw failure;
    }

    private static FileStreamOptions Own(FileMode mode, FileAccess access, FileShare share)
    {
        // Unbuffered: whoever writes brings large pieces.
        var options = new FileStreamOptions { Mode = mode, Access = access, Share = share, BufferSize = 0 };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = OwnFile;
        }

        return options;
    }

    // Not .NET's own flush, which takes some failures for success.
    private static void Flush(SafeFileHandle handle, string path)
    {
        while (fsync(handle) != 0)
        {
            if (Marshal.GetLastPInvokeError() != Interrupted)
            {
                throw Failed("flush", path);
            }
        }
    }

    private static IOException Failed(string what, string path)
    {
        var error = Marshal.GetLastPInvokeError();
        return new IOException($"{what} of {path} failed: {Marshal.GetPInvokeErrorMessage(error)}", error);
    }

    private sealed class Writer(FileStream file) : IDiskWriter
    {
        private long _written;

        public void Write(ReadOnlySpan<byte> bytes)
        {
            file.Write(bytes);
            if (bytes.Length >= WorthBeginning && OperatingSystem.IsLinux())
            {
                // The device works while the next bytes are made and hashed; else all of it would wait for the flush. Only that makes durable and tells of failures.
                _ = sync_file_range(file.SafeFileHandle, _written, bytes.Length, BeginWriting);
            }

            _written += bytes.Length;
        }

        public void Flush() => SystemDisk.Flush(file.SafeFileHandle, file.Name);

        public void Dispose() => file.Dispose();
    }

    private sealed class Reader(SafeFileHandle file) : IDiskReader
    {
        public long Length => RandomAccess.GetLength(file);

        public int Read(Span<byte> buffer, long offset)
        {
            var read = 0;
            while (read < buffer.Length)
            {
                var some = RandomAccess.Read(file, buffer[read..], offset + read);
                if (some == 0)
                {
                    break;
                }

                read += some;
            }

            return read;
        }

        public void Dispose() => file.Dispose();
    }

    private const int CloseOnExec = 0x80000;
    private const int LockExclusive = 2;
    private const int LockWithoutWaiting = 4;
    private const int Interrupted = 4;
    private const uint BeginWriting = 2;

    // What is smaller costs a call and saves nothing.
    private const int WorthBeginning = 1 << 20;

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int open(string path, int flags);

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int fsync(SafeFileHandle file);

    [LibraryImport("libc")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int sync_file_range(SafeFileHandle file, long offset, long bytes, uint flags);

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int flock(SafeFileHandle file, int operation);
}
