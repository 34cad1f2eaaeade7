namespace Sconce.Engine.Storage;

/// <summary>A file that appears under its name whole, or not at all: written under a name of its own, and renamed when nothing of it is missing.</summary>
internal static class WholeFile
{
    private const string Begin = ".sconce-";
    private const string End = ".tmp";
    private const int BufferBytes = 1 << 16;

    /// <summary>Writes a file.</summary>
    /// <param name="disk">Where.</param>
    /// <param name="path">Its path.</param>
    /// <param name="options">How.</param>
    /// <param name="write">Writes its content to a stream that cannot seek.</param>
    /// <exception cref="IOException">
    /// The disk failed, or the name is taken. There is no file then, nor anything of it; where one was to be replaced that is still there, unless nothing but its
    /// being durable failed: then a crash may bring it back.
    /// </exception>
    /// <exception cref="UnauthorizedAccessException">The directory is closed to the process.</exception>
    public static void Write(IDisk disk, string path, WholeFileOptions options, Action<Stream> write)
    {
        var directory = Path.GetDirectoryName(path)!;
        var unfinished = Path.Combine(directory, $"{Begin}{Guid.NewGuid():n}{End}");
        string? mine = null;
        try
        {
            using (var file = disk.Create(unfinished, options.HasFlag(WholeFileOptions.Private)))
            {
                mine = unfinished;

                // Not disposed: where writing fails it would write what is left over.
                var stream = new BufferedStream(new FileBytes(file), BufferBytes);
                write(stream);
                stream.Flush();
                if (options.HasFlag(WholeFileOptions.Durable))
                {
                    file.Flush();
                }
            }

            if (options.HasFlag(WholeFileOptions.Replaces))
            {
                disk.Replace(unfinished, path);
                mine = null;
            }
            else
            {
                disk.Rename(unfinished, path);
                mine = path;
            }

            if (options.HasFlag(WholeFileOptions.Durable))
            {
                disk.FlushDirectory(directory);
            }
        }
        catch
        {
            if (mine is not null)
            {
                TryDelete(disk, mine);
            }

            throw;
        }
    }

    /// <summary>Deletes what killed processes have left in a directory; not what is being written, here or by another process.</summary>
    /// <param name="disk">Where.</param>
    /// <param name="directory">The directory.</param>
    /// <returns>How many files.</returns>
    /// <exception cref="IOException">The directory cannot be read.</exception>
    /// <exception cref="UnauthorizedAccessException">It is closed to the process.</exception>
    public static int DeleteUnfinished(IDisk disk, string directory)
    {
        var deleted = 0;
        foreach (var (name, isDirectory) in disk.List(directory))
        {
            if (!isDirectory && name.StartsWith(Begin, StringComparison.Ordinal) && name.EndsWith(End, StringComparison.Ordinal)
                && Guid.TryParseExact(name[Begin.Length..^End.Length], "n", out _) && TryDeleteLeft(disk, Path.Combine(directory, name)))
            {
                deleted++;
            }
        }

        return deleted;
    }

    private static bool TryDeleteLeft(IDisk disk, string path)
    {
        try
        {
            // Whoever writes one holds a lock on it.
            using var held = disk.Lock(path);
            return held is not null && TryDelete(disk, path);
        }
        catch (Exception exception) when (DiskFailure.Is(exception))
        {
            return false;
        }
    }

    private static bool TryDelete(IDisk disk, string path)
    {
        try
        {
            disk.DeleteFile(path);
            return true;
        }
        catch (Exception exception) when (DiskFailure.Is(exception))
        {
            // The directory is the operator's; what cannot be removed there is theirs to remove.
            return false;
        }
    }

    private sealed class FileBytes(IDiskWriter file) : WriteOnlyStream
    {
        protected override void Take(ReadOnlySpan<byte> bytes) => file.Write(bytes);
    }
}

/// <summary>How a file is written.</summary>
[Flags]
internal enum WholeFileOptions
{
    /// <summary>A new one, as readable as the process's umask says, which a power cut may take.</summary>
    None = 0,

    /// <summary>It may take the place of one that has its name.</summary>
    Replaces = 1,

    /// <summary>It is on the disk when the writing returns, and its name too.</summary>
    Durable = 2,

    /// <summary>Only this process's user may read it.</summary>
    Private = 4,
}
