using Microsoft.Win32.SafeHandles;

namespace Sconce.Engine.Weights.TorchZip;

/// <summary>Bytes that are read by position, so that several readers need no common place.</summary>
internal interface IByteSource : IDisposable
{
    /// <summary>How many there are.</summary>
    long Length { get; }

    /// <summary>Reads from a position on; fewer bytes than asked only at the end.</summary>
    /// <param name="offset">The position, in bytes.</param>
    /// <param name="into">Where they go.</param>
    /// <returns>How many were read.</returns>
    int Read(long offset, Span<byte> into);
}

/// <summary>A file. Read by <c>pread</c> and never mapped: a mapped file that someone cuts short ends the process.</summary>
internal sealed class FileSource : IByteSource
{
    private readonly SafeFileHandle _handle;

    private FileSource(SafeFileHandle handle) => (_handle, Length) = (handle, RandomAccess.GetLength(handle));

    /// <inheritdoc/>
    public long Length { get; }

    /// <summary>A file that is open, and is closed with this.</summary>
    /// <param name="file">It; a regular file.</param>
    public static FileSource Of(SafeFileHandle file) => new(file);

    /// <summary>Opens a file for reading.</summary>
    /// <param name="path">Its path, which errors do not tell: it may be the operator's.</param>
    /// <exception cref="EngineException">There is none, or it cannot be read.</exception>
    public static FileSource Open(string path)
    {
        SafeFileHandle? handle = null;
        try
        {
            handle = File.OpenHandle(path, options: FileOptions.SequentialScan);
            return new FileSource(handle);
        }
        catch (Exception exception) when (exception is FileNotFoundException or DirectoryNotFoundException)
        {
            throw EngineException.NotFound("file", Path.GetFileName(path), "check its name");
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or NotSupportedException or ArgumentException)
        {
            handle?.Dispose();
            throw new EngineException(EngineError.FailedPrecondition, "FILE_UNREADABLE",
                $"{EngineException.Quote(Path.GetFileName(path))} cannot be read: it must be a regular file that the server's user may read", exception);
        }
    }

    /// <inheritdoc/>
    public int Read(long offset, Span<byte> into) => RandomAccess.Read(_handle, into, offset);

    /// <inheritdoc/>
    public void Dispose() => _handle.Dispose();
}

/// <summary>What every reader of an <see cref="IByteSource"/> needs.</summary>
internal static class ByteSources
{
    /// <summary>Reads exactly as many bytes as asked.</summary>
    /// <param name="source">What to read.</param>
    /// <param name="offset">Where they begin.</param>
    /// <param name="into">Where they go.</param>
    /// <exception cref="EngineException">There are fewer: the file is shorter than it was, or the disk failed.</exception>
    public static void ReadExactly(this IByteSource source, long offset, Span<byte> into)
    {
        while (!into.IsEmpty)
        {
            int read;
            try
            {
                read = source.Read(offset, into);
            }
            catch (IOException exception)
            {
                throw new EngineException(EngineError.DataLoss, "FILE_UNREADABLE", $"the PyTorch file could not be read at byte {offset:N0}: the disk or its file system failed", exception);
            }

            if (read == 0)
            {
                throw new EngineException(EngineError.DataLoss, "FILE_CUT_SHORT", $"the PyTorch file ended at byte {offset:N0}; it had {source.Length:N0} bytes when it was opened");
            }

            offset += read;
            into = into[read..];
        }
    }
}
