using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Sconce.Engine.Storage;

namespace Sconce.Engine.Snapshots;

/// <summary>
/// Snapshots in a directory, which one process has at a time. A save that returned is there after a crash or a power cut; one that did not return is there whole or not at
/// all. It knows named files, not modules. Calls block for the disk and may come from any thread.
/// </summary>
internal sealed class SnapshotStore : IDisposable
{
    private readonly SnapshotDirectory _directory;
    private readonly TimeProvider _clock;
    private readonly ILogger _logger;

    // Guards what follows; never held while the disk works.
    private readonly Lock _gate = new();
    private readonly Dictionary<string, SnapshotInfo> _snapshots = new(StringComparer.Ordinal);
    private readonly SnapshotTurns _turns = new();
    private readonly List<QuarantinedSnapshot> _quarantined = [];
    private readonly ManualResetEventSlim _idle = new(true);
    private int _running;
    private bool _isDisposed;

    private SnapshotStore(SnapshotDirectory directory, TimeProvider clock, ILogger logger) => (_directory, _clock, _logger) = (directory, clock, logger);

    /// <summary>The store's directory.</summary>
    public string Directory => _directory.Path;

    /// <summary>What was quarantined since the store was opened, by opening it or later, in that order.</summary>
    public IReadOnlyList<QuarantinedSnapshot> Quarantined
    {
        get
        {
            lock (_gate)
            {
                return [.. _quarantined];
            }
        }
    }

    /// <summary>Opens a store: takes its lock, removes what a killed process left and reads the manifests, but not the content, of what is there.</summary>
    /// <param name="directory">Its directory, made where it is missing.</param>
    /// <param name="clock">Says when a snapshot was made.</param>
    /// <param name="logger">Told of damage and of what could not be removed.</param>
    /// <param name="disk">What touches the disk; null for the system's.</param>
    /// <exception cref="EngineException">FAILED_PRECONDITION: another process has the directory, it cannot be used, or a later version of Sconce wrote in it.</exception>
    public static SnapshotStore Open(string directory, TimeProvider clock, ILogger logger, IDisk? disk = null)
    {
        var opened = SnapshotDirectory.Open(disk ?? SystemDisk.Instance, Path.TrimEndingDirectorySeparator(Path.GetFullPath(directory)), logger);
        try
        {
            var store = new SnapshotStore(opened, clock, logger);
            var (snapshots, strays) = opened.Scan(store.SetAside);
            foreach (var snapshot in snapshots)
            {
                store._snapshots.Add(snapshot.Id, snapshot);
            }

            Log.Opened(logger, opened.Path, snapshots.Count, store.Modules().Count, strays);
            return store;
        }
        catch
        {
            opened.Dispose();
            throw;
        }
    }

    /// <summary>Takes the next place among the saves and deletions of a module. Whoever disposes it too late keeps them all waiting.</summary>
    /// <param name="module">The module's name; no path is made of it.</param>
    public SnapshotPlace TakePlace(string module) => _turns.Take(module);

    /// <summary>Saves a snapshot as <see cref="Save(SnapshotPlace, IReadOnlyList{SnapshotPart}, SnapshotFacts, int, CancellationToken)"/> does, after whatever has a place now.</summary>
    public SnapshotInfo Save(string module, IReadOnlyList<SnapshotPart> parts, SnapshotFacts facts, int keepLast, CancellationToken cancellation = default)
    {
        using var place = TakePlace(module);
        return Save(place, parts, facts, keepLast, cancellation);
    }

    /// <summary>Saves a snapshot and then deletes the module's oldest beyond <paramref name="keepLast"/>. Saves of one module come in the order of their places.</summary>
    /// <param name="place">A place that was taken when the content was copied, so that the newest snapshot is of the newest content. It stays the caller's.</param>
    /// <param name="parts">The content: at least one part.</param>
    /// <param name="facts">What the module was.</param>
    /// <param name="keepLast">How many snapshots of the module stay, this one included; at least 1.</param>
    /// <param name="cancellation">Ends a save that waits or writes; then there is no snapshot.</param>
    /// <returns>The snapshot, durable.</returns>
    /// <exception cref="EngineException">RESOURCE_EXHAUSTED: the disk is full. FAILED_PRECONDITION: it failed. There is no snapshot then and those before it are untouched.</exception>
    /// <exception cref="ArgumentException">A part's name will not do for a file.</exception>
    public SnapshotInfo Save(SnapshotPlace place, IReadOnlyList<SnapshotPart> parts, SnapshotFacts facts, int keepLast, CancellationToken cancellation = default)
    {
        SnapshotNames.CheckParts(parts);
        if (keepLast < 1)
        {
            throw EngineException.Invalid("keep_last", $"is {keepLast}; it must be >= 1");
        }

        using var running = new Running(this);
        place.Turn.Wait(cancellation);
        var module = place.Module;
        var began = Stopwatch.GetTimestamp();
        var draft = new SnapshotInfo(SnapshotNames.NewId(), module, place.NextSequence(List(module).Select(snapshot => snapshot.Sequence).DefaultIfEmpty().Max()), _clock.GetUtcNow(), facts, [], string.Empty);
        var info = _directory.Write(draft, parts, cancellation);
        lock (_gate)
        {
            _snapshots.Add(info.Id, info);
        }

        Log.Saved(_logger, info.Id, module, info.Bytes, Stopwatch.GetElapsedTime(began));
        foreach (var old in List(module).SkipLast(keepLast))
        {
            Prune(old);
        }

        return info;
    }

    /// <summary>The snapshots of a module, or of all modules by name, the oldest first. Their content was not read since they were saved, or since the store was opened.</summary>
    /// <param name="module">The module; null for all.</param>
    public IReadOnlyList<SnapshotInfo> List(string? module = null)
    {
        lock (_gate)
        {
            return
            [
                .. _snapshots.Values.Where(snapshot => module is null || snapshot.Module == module)
                    .OrderBy(snapshot => snapshot.Module, StringComparer.Ordinal).ThenBy(snapshot => snapshot.Sequence).ThenBy(snapshot => snapshot.Id, StringComparer.Ordinal),
            ];
        }
    }

    /// <summary>The newest snapshot of a module; null where it has none. As <see cref="List"/>, without making a list: it is asked with every summary.</summary>
    public SnapshotInfo? Newest(string module)
    {
        SnapshotInfo? newest = null;
        lock (_gate)
        {
            foreach (var snapshot in _snapshots.Values)
            {
                if (snapshot.Module == module && (newest is null || snapshot.Sequence > newest.Sequence))
                {
                    newest = snapshot;
                }
            }
        }

        return newest;
    }

    /// <summary>The modules that have snapshots, by name.</summary>
    public IReadOnlyList<string> Modules() => [.. List().Select(snapshot => snapshot.Module).Distinct(StringComparer.Ordinal)];

    /// <summary>One snapshot.</summary>
    /// <exception cref="EngineException">NOT_FOUND.</exception>
    public SnapshotInfo Get(string id)
    {
        lock (_gate)
        {
            return _snapshots.GetValueOrDefault(id) ?? throw NotFound(id);
        }
    }

    /// <summary>Deletes a snapshot, were it the module's last. Whoever reads it goes on reading.</summary>
    /// <exception cref="EngineException">NOT_FOUND; FAILED_PRECONDITION: the disk failed, and the snapshot is still there or, as the message says, may come back after a crash.</exception>
    public void Delete(string id)
    {
        using var running = new Running(this);
        Delete(Claim(id));
    }

    /// <summary>Deletes a snapshot as <see cref="Delete(string)"/> does, where it is there still.</summary>
    public void TryDelete(string id)
    {
        using var running = new Running(this);
        if (TryClaim(id) is { } claimed)
        {
            Delete(claimed);
        }
    }

    /// <summary>Deletes all snapshots of a module, the oldest first, once a save of it that runs has ended.</summary>
    /// <returns>How many there were.</returns>
    /// <exception cref="EngineException">As for <see cref="Delete(string)"/>; those after the one that failed are still there.</exception>
    public int DeleteAll(string module, CancellationToken cancellation = default)
    {
        using var running = new Running(this);
        using var place = TakePlace(module);
        place.Turn.Wait(cancellation);
        var count = 0;
        foreach (var snapshot in List(module))
        {
            if (TryClaim(snapshot.Id) is { } claimed)
            {
                Delete(claimed);
                count++;
            }
        }

        return count;
    }

    /// <summary>Opens a snapshot after comparing every byte with its digest.</summary>
    /// <returns>Its parts, which the caller disposes.</returns>
    /// <exception cref="EngineException">NOT_FOUND; DATA_LOSS: it is damaged, and stays where it is; FAILED_PRECONDITION: it cannot be opened now.</exception>
    public SnapshotContent OpenRead(string id, CancellationToken cancellation = default)
    {
        using var running = new Running(this);
        return OpenRead(Get(id), cancellation);
    }

    /// <summary>Compares every byte of a snapshot with its digest.</summary>
    /// <exception cref="EngineException">As for <see cref="OpenRead(string, CancellationToken)"/>.</exception>
    public void Verify(string id, CancellationToken cancellation = default) => OpenRead(id, cancellation).Dispose();

    /// <summary>Opens the newest snapshot of a module that is undamaged. Damaged ones above it are quarantined, logged and in <see cref="Quarantined"/>.</summary>
    /// <returns>Its parts, which the caller disposes; null where the module has none.</returns>
    /// <exception cref="EngineException">FAILED_PRECONDITION: one cannot be opened now, which says nothing of its content.</exception>
    public SnapshotContent? LatestGood(string module, CancellationToken cancellation = default)
    {
        using var running = new Running(this);
        foreach (var snapshot in List(module).Reverse())
        {
            try
            {
                return OpenRead(snapshot, cancellation);
            }
            catch (EngineException exception) when (exception.Error == EngineError.NotFound)
            {
                // Deleted since it was listed.
            }
            catch (EngineException exception) when (exception.Error == EngineError.DataLoss)
            {
                if (TryClaim(snapshot.Id) is { } claimed)
                {
                    SetAside(claimed.Id, claimed, exception);
                }
            }
        }

        return null;
    }

    /// <summary>Moves a snapshot to where it is kept and never loaded: one whose content its reader cannot use.</summary>
    /// <param name="id">The snapshot.</param>
    /// <param name="why">What is wrong, for the log and the file beside it.</param>
    /// <exception cref="EngineException">NOT_FOUND; FAILED_PRECONDITION or RESOURCE_EXHAUSTED: it could not be moved. It is not listed either way.</exception>
    public void Quarantine(string id, string why)
    {
        using var running = new Running(this);
        Quarantine(id, Claim(id), why);
    }

    /// <summary>Waits for what runs, then gives the directory back. What was opened for reading stays readable.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            if (_isDisposed)
            {
                return;
            }

            _isDisposed = true;
        }

        _idle.Wait();
        lock (_gate)
        {
            // Whoever made it so has left.
        }

        _idle.Dispose();
        _directory.Dispose();
    }

    private static EngineException NotFound(string id) => EngineException.NotFound("snapshot", id, "ListSnapshots shows those there are");

    private SnapshotContent OpenRead(SnapshotInfo info, CancellationToken cancellation)
    {
        try
        {
            return _directory.OpenContent(info, cancellation);
        }
        catch (EngineException exception) when (exception.Error == EngineError.DataLoss && !IsThere(info.Id))
        {
            // Its files went while they were opened.
            throw NotFound(info.Id);
        }
    }

    private bool IsThere(string id)
    {
        lock (_gate)
        {
            return _snapshots.ContainsKey(id);
        }
    }

    // From here on it is not listed and nobody else moves it.
    private SnapshotInfo Claim(string id) => TryClaim(id) ?? throw NotFound(id);

    private SnapshotInfo? TryClaim(string id)
    {
        lock (_gate)
        {
            return _snapshots.Remove(id, out var info) ? info : null;
        }
    }

    private void Delete(SnapshotInfo claimed)
    {
        try
        {
            _directory.Remove(claimed.Id);
        }
        catch (EngineException exception) when (exception.Reason != SnapshotDirectory.NotDurable)
        {
            lock (_gate)
            {
                _snapshots.Add(claimed.Id, claimed);
            }

            throw;
        }
    }

    // The save is done: that an old one cannot be deleted is no failure of it.
    private void Prune(SnapshotInfo old)
    {
        try
        {
            if (TryClaim(old.Id) is { } claimed)
            {
                Delete(claimed);
            }
        }
        catch (EngineException exception)
        {
            Log.NotPruned(_logger, exception, old.Id, old.Module);
        }
    }

    private void SetAside(string id, SnapshotInfo? info, EngineException damage)
    {
        try
        {
            Quarantine(id, info, damage.Message);
        }
        catch (EngineException exception)
        {
            Log.NotQuarantined(_logger, exception, id, damage.Message);
        }
    }

    private void Quarantine(string id, SnapshotInfo? info, string why)
    {
        Log.Quarantined(_logger, id, info?.Module ?? "unknown", why);
        lock (_gate)
        {
            _quarantined.Add(new QuarantinedSnapshot(id, info?.Module, why));
        }

        _directory.Quarantine(id, why, _clock.GetUtcNow());
    }

    /// <summary>While there is one, the directory's lock is not given back.</summary>
    private readonly struct Running : IDisposable
    {
        private readonly SnapshotStore _store;

        public Running(SnapshotStore store)
        {
            _store = store;
            lock (store._gate)
            {
                ObjectDisposedException.ThrowIf(store._isDisposed, store);
                store._running++;
                store._idle.Reset();
            }
        }

        public void Dispose()
        {
            lock (_store._gate)
            {
                if (--_store._running == 0)
                {
                    _store._idle.Set();
                }
            }
        }
    }
}
