using Microsoft.Win32.SafeHandles;

namespace Sconce.Engine.Weights;

/// <summary>Bytes that are read at any position, by several threads at once where need be.</summary>
internal abstract class ByteSource : IDisposable
{
    /// <summary>Linux reads at most 2 GiB less a page in one call, whatever was asked; a span ends there too.</summary>
    private const int MostAtOnce = 1 << 30;

    private const string Unreadable = "FILE_UNREADABLE";

    /// <summary>How many there were when it was opened.</summary>
    public abstract long Length { get; }

    /// <summary>Opens a file.</summary>
    /// <param name="path">Its path.</param>
    /// <exception cref="EngineException">There is no such file, or it cannot be read. The message has no path in it: that is the caller's to name.</exception>
    public static ByteSource Open(string path)
    {
        try
        {
            // A pipe or a device has no length, and opening one may wait for ever; a link's length is its own.
            var file = new FileInfo(path);
            file = (FileInfo?)file.ResolveLinkTarget(returnFinalTarget: true) ?? file;
            return file.Length > 0 ? new OpenFile(File.OpenHandle(file.FullName), isOwned: true) : new Memory(default);
        }
        catch (Exception exception) when (exception is FileNotFoundException or DirectoryNotFoundException or ArgumentException)
        {
            throw new EngineException(EngineError.NotFound, "FILE_NOT_FOUND", "there is no such file; its name is relative to the directory that the operator set", exception);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw new EngineException(EngineError.FailedPrecondition, Unreadable, "the file cannot be read: it may be a directory, or closed to the server; the server's operator can tell", exception);
        }
    }

    /// <summary>Bytes in memory, which must not change.</summary>
    public static ByteSource Of(ReadOnlyMemory<byte> bytes) => new Memory(bytes);

    /// <summary>A file that is open, and stays open.</summary>
    public static ByteSource Of(SafeFileHandle file) => new OpenFile(file, isOwned: false);

    /// <summary>A stream that can seek, and stays open.</summary>
    public static ByteSource Of(Stream stream) => new Seekable(stream);

    /// <summary>A file that is open, and is closed with this.</summary>
    public static ByteSource Owned(SafeFileHandle file) => new OpenFile(file, isOwned: true);

    /// <summary>Fills memory, in one read where the system gives that much in one.</summary>
    /// <param name="memory">Where the bytes go.</param>
    /// <param name="count">How many.</param>
    /// <param name="offset">Where they begin.</param>
    /// <returns>How many there were: fewer where the file has become shorter.</returns>
    /// <exception cref="EngineException">The medium failed.</exception>
    public unsafe long Fill(byte* memory, long count, long offset)
    {
        var filled = 0L;
        while (filled < count)
        {
            var read = Read(new Span<byte>(memory + filled, (int)Math.Min(count - filled, MostAtOnce)), offset + filled);
            if (read == 0)
            {
                break;
            }

            filled += read;
        }

        return filled;
    }

    /// <inheritdoc/>
    public abstract void Dispose();

    private static EngineException Failed(long offset, Exception exception) =>
        new(EngineError.DataLoss, Unreadable, $"its medium failed at byte {offset}; the server's log tells more", exception);

    /// <summary>Reads what one call gives; nothing at the end only.</summary>
    protected abstract int Read(Span<byte> buffer, long offset);

    private sealed class OpenFile(SafeFileHandle file, bool isOwned) : ByteSource
    {
        public override long Length { get; } = RandomAccess.GetLength(file);

        public override void Dispose()
        {
            if (isOwned)
            {
                file.Dispose();
            }
        }

        protected override int Read(Span<byte> buffer, long offset)
        {
            try
            {
                // Never a mapping: a file that someone cuts short would end the process with SIGBUS.
                return RandomAccess.Read(file, buffer, offset);
            }
            catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
            {
                throw Failed(offset, exception);
            }
        }
    }

    private sealed class Seekable(Stream stream) : ByteSource
    {
        private readonly Lock _lock = new();

        public override long Length { get; } = stream.Length;

        public override void Dispose()
        {
        }

        protected override int Read(Span<byte> buffer, long offset)
        {
            lock (_lock)
            {
                try
                {
                    stream.Position = offset;
                    return stream.Read(buffer);
                }
                catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
                {
                    throw Failed(offset, exception);
                }
            }
        }
    }

    private sealed class Memory(ReadOnlyMemory<byte> bytes) : ByteSource
    {
        public override long Length => bytes.Length;

        public override void Dispose()
        {
        }

        protected override int Read(Span<byte> buffer, long offset)
        {
            var rest = bytes.Span[(int)offset..];
            var count = Math.Min(rest.Length, buffer.Length);
            rest[..count].CopyTo(buffer);
            return count;
        }
    }
}
