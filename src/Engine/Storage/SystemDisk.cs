using Microsoft.Win32.SafeHandles;

namespace Sconce.Engine.Storage;

/// <summary>The system's disks.</summary>
internal sealed class SystemDisk : IDisk
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

    public IDiskWriter Create(string path, bool isPrivate = true)
    {
        var file = new FileStream(path, Options(FileMode.CreateNew, FileAccess.Write, FileShare.Read, isPrivate));

        // As in Lock: so that a file that is being written can be told from one that was left.
        _ = PosixFiles.TryLock(file.SafeFileHandle, isShared: true);
        return new Writer(file);
    }

    // Locks nothing: a backup may read too.
    public IDiskReader Open(string path)
    {
        using var found = PosixFiles.Find(path) ?? throw new FileNotFoundException($"there is no file {path}");
        return PosixFiles.IsRegular(found) ? new Reader(PosixFiles.Open(found)) : throw new FileNotFoundException($"{path} is there, but no regular file");
    }

    public void FlushDirectory(string path) => PosixFiles.FlushDirectory(path);

    public void Rename(string from, string to) => PosixFiles.Rename(from, to, replaces: false);

    public void Replace(string from, string to) => PosixFiles.Rename(from, to, replaces: true);

    public void DeleteFile(string path) => File.Delete(path);

    public void DeleteDirectory(string path) => Directory.Delete(path);

    public IDisposable? Lock(string path)
    {
        FileStream file;
        try
        {
            file = new FileStream(path, Options(FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, isPrivate: true));
        }
        catch (IOException exception) when (exception.HResult == DiskFailure.WouldBlock)
        {
            return null;
        }

        // FileShare.None took it already, unless the process was told to lock no files (DOTNET_SYSTEM_IO_DISABLEFILELOCKING): then it is taken here. Twice is no harm.
        if (PosixFiles.TryLock(file.SafeFileHandle, isShared: false))
        {
            return file;
        }

        var failure = PosixFiles.Failed("lock", path);
        file.Dispose();
        return failure.HResult == DiskFailure.WouldBlock ? null : throw failure;
    }

    private static FileStreamOptions Options(FileMode mode, FileAccess access, FileShare share, bool isPrivate)
    {
        // Unbuffered: whoever writes brings large pieces.
        var options = new FileStreamOptions { Mode = mode, Access = access, Share = share, BufferSize = 0 };
        if (isPrivate && !OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = OwnFile;
        }

        return options;
    }

    private sealed class Writer(FileStream file) : IDiskWriter
    {
        // Small files are flushed as they are.
        private const long Stretch = 4 << 20;

        private long _begun;

        public void Write(ReadOnlySpan<byte> bytes)
        {
            file.Write(bytes);

            // The device works meanwhile, instead of beginning when the flush comes, which waits for what is left and tells of any failure; where this one is not to be
            // had, all is left to that.
            var length = file.Position;
            if (length - _begun >= Stretch && PosixFiles.BeginWriting(file.SafeFileHandle, _begun, length - _begun))
            {
                _begun = length;
            }
        }

        public void Flush() => PosixFiles.Flush(file.SafeFileHandle, file.Name);

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
}
