using System.Globalization;
using System.Text;
using Microsoft.Extensions.Logging;
using Sconce.Engine.Storage;

namespace Sconce.Engine.Snapshots;

/// <summary>
/// The store's directory, and in which order things are done to it, so that a power cut between any two shows no torn snapshot:
/// <list type="bullet">
/// <item><c>snap-…</c> is a snapshot: its files and directory were flushed before it got that name.</item>
/// <item><c>tmp-snap-…</c> is being written; <c>del-snap-…</c> is deleted but for its files: what a killed process leaves, and the next one removes.</item>
/// <item><c>quarantine/snap-…</c> was found damaged; <c>quarantine/snap-….txt</c> says why. Neither is ever loaded or removed.</item>
/// <item><c>lock</c> is locked while a process has the store.</item>
/// </list>
/// It knows nothing of which snapshots there are and of who else calls; <see cref="SnapshotStore"/> does.
/// </summary>
internal sealed class SnapshotDirectory : IDisposable
{
    /// <summary>The reason of a deletion that a crash may undo.</summary>
    public const string NotDurable = "DELETION_NOT_DURABLE";

    private readonly IDisk _disk;
    private readonly IDisposable _lock;
    private readonly ILogger _logger;
    private readonly string _quarantine;

    // Its entries move between two directories and names are sought in it: one at a time.
    private readonly Lock _quarantining = new();

    private SnapshotDirectory(IDisk disk, string path, IDisposable held, ILogger logger)
    {
        (_disk, Path, _lock, _logger) = (disk, path, held, logger);
        _quarantine = At(SnapshotNames.Quarantine);
    }

    /// <summary>The directory.</summary>
    public string Path { get; }

    /// <summary>Makes the directory where it is missing, and locks it.</summary>
    /// <exception cref="EngineException">Another process has it, or it cannot be made, written or read.</exception>
    public static SnapshotDirectory Open(IDisk disk, string path, ILogger logger)
    {
        IDisposable? held = null;
        try
        {
            Make(disk, path);
            held = disk.Lock(System.IO.Path.Combine(path, SnapshotNames.Lock))
                ?? throw EngineException.Precondition("DATA_DIRECTORY_IN_USE", $"the directory {path} is in use by another process; stop that server, or give this one a directory of its own");
            var directory = new SnapshotDirectory(disk, path, held, logger);
            directory.MakeQuarantine();

            // Names that a killed process did not get to flush: what is listed from here on must be there after a power cut, and nothing is removed behind a name that might
            // yet turn back into a snapshot's.
            disk.FlushDirectory(path);
            if (disk.DirectoryExists(directory._quarantine))
            {
                disk.FlushDirectory(directory._quarantine);
            }

            directory.CheckWritable();
            return directory;
        }
        catch (Exception exception) when (DiskFailure.Is(exception))
        {
            held?.Dispose();
            throw Unusable(exception, path);
        }
        catch
        {
            held?.Dispose();
            throw;
        }
    }

    /// <summary>Removes what a killed process left, and reads every manifest.</summary>
    /// <param name="damaged">Told of each snapshot whose manifest is damaged, or whose files have other lengths than it says.</param>
    /// <returns>The snapshots, in no order, and how much was removed.</returns>
    public (IReadOnlyList<SnapshotInfo> Snapshots, int Strays) Scan(Action<string, SnapshotInfo?, EngineException> damaged)
    {
        try
        {
            var snapshots = new List<SnapshotInfo>();
            var strays = 0;
            foreach (var (name, isDirectory) in _disk.List(Path))
            {
                if (isDirectory && SnapshotNames.IsId(name))
                {
                    SnapshotInfo? info = null;
                    try
                    {
                        info = ReadManifest(name);
                        CheckLengths(info);
                        snapshots.Add(info);
                    }
                    catch (EngineException exception) when (exception.Error == EngineError.DataLoss)
                    {
                        damaged(name, info, exception);
                    }
                }
                else if (SnapshotNames.IsStray(name))
                {
                    strays += TryRemoveTree(At(name), isDirectory) ? 1 : 0;
                }
                else if (name is not (SnapshotNames.Lock or SnapshotNames.Quarantine))
                {
                    Log.Unknown(_logger, At(name));
                }
            }

            return (snapshots, strays + RemoveReasons());
        }
        catch (Exception exception) when (DiskFailure.Is(exception))
        {
            throw Unusable(exception, Path);
        }
    }

    /// <summary>Writes a snapshot. When this returns it is durable; when it throws there is none.</summary>
    /// <param name="draft">What it is; its parts and digest are made here.</param>
    /// <param name="parts">Its content.</param>
    /// <param name="cancellation">Looked at between pieces, until the last moment at which nothing has happened.</param>
    /// <exception cref="EngineException">The disk failed or is full.</exception>
    public SnapshotInfo Write(SnapshotInfo draft, IReadOnlyList<SnapshotPart> parts, CancellationToken cancellation)
    {
        var temporary = At(SnapshotNames.Temporary(draft.Id));
        var isRenamed = false;
        try
        {
            _disk.CreateDirectory(temporary);
            var written = new List<SnapshotPartInfo>(parts.Count);
            using (var digest = new PartDigest())
            {
                foreach (var part in parts)
                {
                    written.Add(WritePart(temporary, part, digest, cancellation));
                }
            }

            var (bytes, info) = SnapshotManifest.Write(draft with { Parts = written });
            WriteFile(System.IO.Path.Combine(temporary, SnapshotNames.Manifest), bytes);
            _disk.FlushDirectory(temporary);
            cancellation.ThrowIfCancellationRequested();
            _disk.Rename(temporary, At(draft.Id));
            isRenamed = true;
            _disk.FlushDirectory(Path);
            return info;
        }
        catch (Exception exception)
        {
            Discard(draft.Id, isRenamed);
            if (DiskFailure.Is(exception))
            {
                throw SnapshotFailure.Write(exception, Path, $"the snapshot of module {EngineException.Quote(draft.Module)} was not saved");
            }

            throw;
        }
    }

    /// <summary>Deletes a snapshot. When this returns it will not be there again, whatever happens.</summary>
    /// <exception cref="EngineException">The disk failed: it is not deleted, or <c>DELETION_NOT_DURABLE</c>: it may be there again after a crash.</exception>
    public void Remove(string id)
    {
        var deleted = At(SnapshotNames.Deleted(id));
        try
        {
            _disk.Rename(At(id), deleted);
        }
        catch (Exception exception) when (DiskFailure.Is(exception))
        {
            throw SnapshotFailure.Write(exception, Path, $"the snapshot {id} was not deleted");
        }

        try
        {
            _disk.FlushDirectory(Path);
        }
        catch (Exception exception) when (DiskFailure.Is(exception))
        {
            // Its files stay: should the name come back, it is a whole snapshot.
            throw new EngineException(EngineError.FailedPrecondition, NotDurable,
                $"the snapshot {id} is deleted, but may be there again after a crash: {Path} could not be flushed ({exception.Message})", exception);
        }

        TryRemoveTree(deleted, isDirectory: true);
    }

    /// <summary>Moves a snapshot to where it is kept and never loaded, a file beside it that says why.</summary>
    /// <exception cref="EngineException">The disk failed: it is where it was.</exception>
    public void Quarantine(string id, string why, DateTimeOffset now)
    {
        lock (_quarantining)
        {
            try
            {
                Make(_disk, _quarantine);

                // One that was put back by hand may come a second time.
                var taken = _disk.List(_quarantine).Select(entry => entry.Name).ToHashSet(StringComparer.Ordinal);
                var name = Enumerable.Range(1, int.MaxValue).Select(number => number == 1 ? id : string.Create(CultureInfo.InvariantCulture, $"{id}-{number}"))
                    .First(name => !taken.Contains(name) && !taken.Contains(name + SnapshotNames.Reason));
                var place = System.IO.Path.Combine(_quarantine, name);
                WriteReason(id, place + SnapshotNames.Reason, string.Create(CultureInfo.InvariantCulture, $"{now:O} {why}\n"));
                _disk.FlushDirectory(_quarantine);
                _disk.Rename(At(id), place);
                _disk.FlushDirectory(_quarantine);
                _disk.FlushDirectory(Path);
            }
            catch (Exception exception) when (DiskFailure.Is(exception))
            {
                throw SnapshotFailure.Write(exception, Path, $"the snapshot {id} was not moved into quarantine");
            }
        }
    }

    /// <summary>Opens a snapshot and compares every byte with its digest.</summary>
    /// <exception cref="EngineException">As for <see cref="SnapshotContent.Open(IDisk, string, SnapshotInfo, CancellationToken)"/>.</exception>
    public SnapshotContent OpenContent(SnapshotInfo info, CancellationToken cancellation)
    {
        var found = ReadManifest(info.Id).Digest;
        return found == info.Digest ? SnapshotContent.Open(_disk, At(info.Id), info, cancellation) : throw SnapshotDamage.Digest(info.Id, SnapshotNames.Manifest, info.Digest, found);
    }

    public void Dispose() => _lock.Dispose();

    // With those above it, flushing the one that got a new entry: a directory that vanishes takes all that is in it along.
    private static void Make(IDisk disk, string path)
    {
        if (!disk.DirectoryExists(path))
        {
            var parent = System.IO.Path.GetDirectoryName(path)!;
            Make(disk, parent);
            disk.CreateDirectory(path);
            disk.FlushDirectory(parent);
        }
    }

    private static EngineException Unusable(Exception exception, string path) =>
        EngineException.Precondition("DATA_DIRECTORY_UNUSABLE", $"the directory {path} cannot be used: {exception.Message}. The server must be able to make, read and write files in it");

    private void MakeQuarantine()
    {
        try
        {
            Make(_disk, _quarantine);
        }
        catch (IOException exception) when (DiskFailure.IsFull(exception))
        {
            Log.Full(_logger, Path);
        }
    }

    private void CheckWritable()
    {
        var probe = At(SnapshotNames.Temporary(SnapshotNames.NewId()));
        try
        {
            _disk.CreateDirectory(probe);
            _disk.DeleteDirectory(probe);
        }
        catch (IOException exception) when (DiskFailure.IsFull(exception))
        {
            // What is there can be used, and deleting is how room is made.
            Log.Full(_logger, Path);
        }
    }

    private SnapshotPartInfo WritePart(string temporary, SnapshotPart part, PartDigest digest, CancellationToken cancellation)
    {
        using var file = _disk.Create(System.IO.Path.Combine(temporary, part.Name));
        using var stream = new PartStream(file, digest, cancellation);
        part.Write(stream);
        return new SnapshotPartInfo(part.Name, stream.Length, stream.Finish());
    }

    private void WriteFile(string path, ReadOnlySpan<byte> bytes)
    {
        using var file = _disk.Create(path);
        file.Write(bytes);
        file.Flush();
    }

    // Of a save that failed. After a failed flush of the directory nobody knows whether the name is durable; the files were flushed, so that whatever comes back is whole.
    private void Discard(string id, bool isRenamed)
    {
        var temporary = At(SnapshotNames.Temporary(id));
        if (!isRenamed)
        {
            if (_disk.DirectoryExists(temporary))
            {
                TryRemoveTree(temporary, isDirectory: true);
            }

            return;
        }

        try
        {
            Remove(id);
        }
        catch (EngineException exception)
        {
            Log.NotRemoved(_logger, exception, At(id));
        }
    }

    private void WriteReason(string id, string path, string reason)
    {
        try
        {
            WriteFile(path, Encoding.UTF8.GetBytes(reason));
        }
        catch (IOException exception)
        {
            // The disk may be full or failing: all the more must the snapshot be out of the way.
            Log.ReasonNotWritten(_logger, exception, id);
        }
    }

    private SnapshotInfo ReadManifest(string id)
    {
        var directory = At(id);
        var bytes = SnapshotContent.Guard(
            () =>
            {
                using var file = _disk.Open(System.IO.Path.Combine(directory, SnapshotNames.Manifest));
                var length = file.Length;
                var buffer = length <= SnapshotManifest.MaxBytes ? new byte[length] : throw SnapshotDamage.Part(id, SnapshotNames.Manifest, $"has {length:N0} bytes; no manifest is that long");
                return buffer.AsMemory(0, file.Read(buffer, 0));
            },
            directory, id, SnapshotNames.Manifest);
        return SnapshotManifest.Read(bytes.Span, id);
    }

    private void CheckLengths(SnapshotInfo info)
    {
        foreach (var part in info.Parts)
        {
            SnapshotContent.OpenPart(_disk, At(info.Id), info.Id, part).Dispose();
        }
    }

    // A reason is written before its snapshot is moved; a process killed in between moves it again.
    private int RemoveReasons()
    {
        if (!_disk.DirectoryExists(_quarantine))
        {
            return 0;
        }

        var entries = _disk.List(_quarantine);
        var kept = entries.Where(entry => entry.IsDirectory).Select(entry => entry.Name + SnapshotNames.Reason).ToHashSet(StringComparer.Ordinal);
        var strays = entries.Where(entry => !entry.IsDirectory && entry.Name.EndsWith(SnapshotNames.Reason, StringComparison.Ordinal) && !kept.Contains(entry.Name)).ToList();
        strays.ForEach(stray => _disk.DeleteFile(System.IO.Path.Combine(_quarantine, stray.Name)));
        return strays.Count;
    }

    private bool TryRemoveTree(string path, bool isDirectory)
    {
        try
        {
            RemoveTree(path, isDirectory);
            return true;
        }
        catch (Exception exception) when (DiskFailure.Is(exception))
        {
            Log.NotRemoved(_logger, exception, path);
            return false;
        }
    }

    private void RemoveTree(string path, bool isDirectory)
    {
        if (!isDirectory)
        {
            _disk.DeleteFile(path);
            return;
        }

        foreach (var (name, isInner) in _disk.List(path))
        {
            RemoveTree(System.IO.Path.Combine(path, name), isInner);
        }

        _disk.DeleteDirectory(path);
    }

    private string At(string name) => System.IO.Path.Combine(Path, name);
}
