using Microsoft.Win32.SafeHandles;
using Sconce.Engine.Storage;

namespace Sconce.Engine.Weights;

/// <summary>Bytes that are read at any position, by several threads at once where need be.</summary>
internal abstract class ByteSource : IDisposable
{
    /// <summary>Linux reads at most 2 GiB less a page in one call, whatever was asked; a span ends there too.</summary>
    private const int MostAtOnce = 1 << 30;

    private const string Unreadable = "FILE_UNREADABLE";

    /// <summary>How many there were when it was opened.</summary>
    public abstract long Length { get; }

    /// <summary>Opens a file; never a directory, a pipe or a device, of which some wait for ever and some act when they are opened.</summary>
    /// <param name="path">Its path, of which errors tell the last part only.</param>
    /// <exception cref="EngineException">There is no such file, or it cannot be read.</exception>
    public static ByteSource Open(string path)
    {
        var name = Path.GetFileName(path);
        try
        {
            return Owned(PosixFiles.OpenRegular(path) ?? throw EngineException.NotFound("file", name, "check its name"));
        }
        catch (Exception exception) when (DiskFailure.Is(exception))
        {
            throw new EngineException(EngineError.FailedPrecondition, Unreadable,
                $"{EngineException.Quote(name)} cannot be read: it must be a regular file that the server's user may read; the server's operator can tell", exception)
            {
                Resource = new ResourceRef("file", name),
            };
        }
    }

    /// <summary>Bytes in memory, which must not change.</summary>
    public static ByteSource Of(ReadOnlyMemory<byte> bytes) => new Memory(bytes);

    /// <summary>A file that is open, and stays open.</summary>
    public static ByteSource Of(SafeFileHandle file) => new OpenFile(file, isOwned: false);

    /// <summary>A stream that can seek, and stays open.</summary>
    public static ByteSource Of(Stream stream) => new Seekable(stream);

    /// <summary>A file that is open, and is closed with this, or at once where this throws.</summary>
    /// <exception cref="EngineException">Its length cannot be told.</exception>
    public static ByteSource Owned(SafeFileHandle file)
    {
        try
        {
            return new OpenFile(file, isOwned: true);
        }
        catch (Exception exception) when (DiskFailure.Is(exception))
        {
            file.Dispose();
            throw Failed(0, exception);
        }
    }

    /// <summary>Fills memory, in one read where the system gives that much in one.</summary>
    /// <param name="memory">Where the bytes go.</param>
    /// <param name="count">How many.</param>
    /// <param name="offset">Where they begin.</param>
    /// <param name="cancellationToken">Looked at between reads.</param>
    /// <returns>How many there were: fewer where the file has become shorter.</returns>
    /// <exception cref="EngineException">The medium failed.</exception>
    public unsafe long Fill(byte* memory, long count, long offset, CancellationToken cancellationToken = default)
    {
        var filled = 0L;
        while (filled < count)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var read = Fill(new Span<byte>(memory + filled, (int)Math.Min(count - filled, MostAtOnce)), offset + filled);
            filled += read;
            if (read == 0)
            {
                break;
            }
        }

        return filled;
    }

    /// <summary>Fills memory.</summary>
    /// <param name="buffer">Where the bytes go.</param>
    /// <param name="offset">Where they begin.</param>
    /// <returns>How many there were: fewer where the file has become shorter.</returns>
    /// <exception cref="EngineException">The medium failed.</exception>
    public int Fill(Span<byte> buffer, long offset)
    {
        var filled = 0;
        while (filled < buffer.Length && TryRead(buffer[filled..], offset + filled) is > 0 and var read)
        {
            filled += read;
        }

        return filled;
    }

    /// <summary>Fills memory whole.</summary>
    /// <param name="buffer">Where the bytes go.</param>
    /// <param name="offset">Where they begin.</param>
    /// <exception cref="EngineException">There are fewer, because the file has become shorter, or the medium failed.</exception>
    public void ReadExactly(Span<byte> buffer, long offset)
    {
        var filled = Fill(buffer, offset);
        if (filled < buffer.Length)
        {
            throw new EngineException(EngineError.DataLoss, "FILE_CUT_SHORT",
                $"the file ended at byte {offset + filled:N0}; it had {Length:N0} bytes when it was opened: load it again when whoever writes it is done");
        }
    }

    /// <inheritdoc/>
    public abstract void Dispose();

    private static EngineException Failed(long offset, Exception exception) =>
        new(EngineError.DataLoss, Unreadable, $"reading failed at byte {offset:N0}: the disk or its file system failed; the server's log tells more", exception);

    /// <summary>Reads what one call gives; nothing at the end only. Failures are those of <see cref="DiskFailure.Is"/>.</summary>
    protected abstract int Read(Span<byte> buffer, long offset);

    private int TryRead(Span<byte> buffer, long offset)
    {
        try
        {
            return Read(buffer, offset);
        }
        catch (Exception exception) when (DiskFailure.Is(exception))
        {
            throw Failed(offset, exception);
        }
    }

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

        // Never a mapping: a file that someone cuts short would end the process with SIGBUS.
        protected override int Read(Span<byte> buffer, long offset) => RandomAccess.Read(file, buffer, offset);
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
                stream.Position = offset;
                return stream.Read(buffer);
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
            var rest = bytes.Span[(int)Math.Min(offset, bytes.Length)..];
            var count = Math.Min(rest.Length, buffer.Length);
            rest[..count].CopyTo(buffer);
            return count;
        }
    }
}
