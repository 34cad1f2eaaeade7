using System.Collections.Concurrent;
using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Sconce.Engine.Execution;
using Sconce.Engine.Weights;
using Sconce.Engine.Weights.Safetensors;

namespace Sconce.Engine.Snapshots;

/// <summary>How far a starting host is with its durable modules.</summary>
/// <param name="Total">Modules that have snapshots.</param>
/// <param name="Restored">Of those: restored so far.</param>
/// <param name="Current">The one that is being restored; empty where all is done.</param>
/// <param name="Failed">Those that could not be restored, and why.</param>
public sealed record RestorationProgress(int Total, int Restored, string Current, IReadOnlyDictionary<string, string> Failed);

/// <summary>
/// The modules of a host that are on disk: saved on request, every so many steps and at a drain, and restored when the host starts. A module is copied in its turn and
/// written from the copy, so that it never waits for the disk.
/// </summary>
public sealed class DurableModules : IDisposable
{
    private const string FactsPart = "module.json";
    private const string WeightsPart = "weights.safetensors";
    private const string TrainingPart = "training.safetensors";

    // Only where a module has calls with an id; in snapshots of the time before these were kept there is none.
    private const string RequestsPart = "requests.json";

    // Each takes the memory of a copy and waits for the disk.
    private const int DrainedAtOnce = 4;

    private readonly EngineHost _host;
    private readonly SnapshotStore _store;
    private readonly ILogger _log;

    // The snapshots that modules took by themselves last, one of a module at most being written: a disk that is slower than the steps must not fill the memory.
    private readonly ConcurrentDictionary<string, Task> _writing = new(StringComparer.Ordinal);
    private volatile RestorationProgress _progress;
    private volatile bool _restoring;

    internal DurableModules(EngineHost host, SnapshotStore store, ILogger log)
    {
        (_host, _store, _log) = (host, store, log);
        _progress = new(store.Modules().Count, 0, "", new Dictionary<string, string>());
        _restoring = _progress.Total > 0;
    }

    /// <summary>How far the restoration at the start is.</summary>
    public RestorationProgress Progress => _progress;

    /// <summary>Whether the restoration at the start is still to be done, or to end.</summary>
    internal bool IsRestoring => _restoring;

    /// <summary>Snapshots that were found damaged and set aside since the host started.</summary>
    public IReadOnlyList<QuarantinedSnapshot> Damaged => _store.Quarantined;

    /// <summary>Saves a module.</summary>
    /// <param name="module">Its name.</param>
    /// <param name="keepLast">How many of its snapshots stay, this one among them; null keeps as many as its policy says.</param>
    /// <param name="ifGeneration">The generation that it must be at; null takes any.</param>
    /// <param name="cancellationToken">Takes the call back; then there is no snapshot.</param>
    /// <returns>The snapshot, durable.</returns>
    /// <exception cref="EngineException">There is no such module, its copy does not fit the memory budget, or the disk is full or failed.</exception>
    public async Task<SnapshotInfo> SaveAsync(string module, int? keepLast, ulong? ifGeneration, CancellationToken cancellationToken)
    {
        if (keepLast is { } keep)
        {
            SnapshotPolicy.CheckKeepLast(keep, "keep_last");
        }

        using var copy = await _host.GetModule(module).CaptureAsync(Copy, ifGeneration, cancellationToken).ConfigureAwait(false);
        await copy.Place.Turn.WaitAsync(cancellationToken).ConfigureAwait(false);
        return await Task.Run(() => Write(copy, "request", keepLast, cancellationToken), cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Snapshots, by module, the oldest first.</summary>
    /// <param name="module">Those of this module; empty for all.</param>
    public IReadOnlyList<SnapshotInfo> List(string module)
    {
        ArgumentNullException.ThrowIfNull(module);
        if (module.Length > 0)
        {
            Ids.Check(module, "module");
        }

        return _store.List(module.Length > 0 ? module : null);
    }

    /// <summary>Restores a module, in the place of the one that has the name, or as a new one.</summary>
    /// <param name="module">The name.</param>
    /// <param name="snapshot">The snapshot's id, which may be of another module; empty takes the newest whole one of this.</param>
    /// <param name="ifGeneration">The generation that the module must be at which is there; null takes any.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    /// <exception cref="EngineException">There is no such snapshot, it is damaged, or the module cannot be built as it was; then all is as before.</exception>
    public async Task<(HostedModule Module, SnapshotInfo Snapshot)> RestoreAsync(string module, string snapshot, ulong? ifGeneration, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        Ids.Check(module, "module");
        while (true)
        {
            using var content = await Task.Run(() => Open(module, snapshot, cancellationToken), cancellationToken).ConfigureAwait(false);
            try
            {
                return (await RestoreAsync(module, content, ifGeneration, cancellationToken).ConfigureAwait(false), content.Info);
            }
            catch (EngineException exception) when (exception.Error == EngineError.DataLoss)
            {
                // Its bytes are those that were written, and yet it cannot be read: nobody is to meet it again.
                _store.Quarantine(content.Info.Id, exception.Message);
                if (snapshot.Length > 0)
                {
                    throw;
                }
            }
        }
    }

    /// <summary>Deletes a snapshot, for good.</summary>
    /// <param name="snapshot">Its id.</param>
    /// <param name="cancellationToken">Takes the call back until it begins.</param>
    /// <exception cref="EngineException">There is none, or the disk failed.</exception>
    public Task DeleteAsync(string snapshot, CancellationToken cancellationToken) => Task.Run(() => _store.Delete(snapshot), cancellationToken);

    /// <summary>Restores every module that has snapshots. One that cannot be is told of and left; its snapshots stay, and its name stays taken.</summary>
    /// <param name="cancellationToken">Stops after the module that is being restored.</param>
    public async Task RestoreAllAsync(CancellationToken cancellationToken)
    {
        var modules = _store.Modules();
        var failed = new Dictionary<string, string>(StringComparer.Ordinal);
        for (var i = 0; i < modules.Count; i++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            _progress = new(modules.Count, i - failed.Count, modules[i], new Dictionary<string, string>(failed));
            var started = Stopwatch.GetTimestamp();
            try
            {
                var (restored, snapshot) = await RestoreAsync(modules[i], "", null, cancellationToken).ConfigureAwait(false);
                Log.Restored(_log, i + 1, modules.Count, restored.Name, snapshot.Id, snapshot.Facts.Step, Stopwatch.GetElapsedTime(started));
            }
            catch (Exception exception) when (exception is not OperationCanceledException || !cancellationToken.IsCancellationRequested)
            {
                // Whatever it is: one module must not keep the others from being served.
                failed.Add(modules[i], LaneFailure.Translate(exception).Message);
                Log.NotRestored(_log, exception, i + 1, modules.Count, modules[i]);
            }
        }

        _progress = new(modules.Count, modules.Count - failed.Count, "", failed);
        _restoring = false;
    }

    /// <summary>Steps of a module as they are in its newest snapshot, and so after a crash; null where it has none.</summary>
    internal long? DurableSteps(string module) => _store.Newest(module)?.Facts.Step;

    /// <summary>Whether a name belongs to a module that is on disk, so that no other may be made under it.</summary>
    internal bool HasSnapshots(string module) => _store.List(module).Count > 0;

    /// <summary>Deletes a module's snapshots, after the module and before another can have the name: what is being written is waited for, and what comes after that finds the module gone.</summary>
    internal Task ForgetAsync(string module)
    {
        _writing.TryRemove(module, out _);
        return Task.Run(() => _store.DeleteAll(module));
    }

    /// <summary>In a module's turn, after a step that makes a snapshot due: copies the module, and writes the copy beside what runs.</summary>
    /// <returns>False where one is still being written: the next step will ask again.</returns>
    internal bool TrySaveStep(ModuleState state)
    {
        if (_writing.TryGetValue(state.Name, out var writing) && !writing.IsCompleted)
        {
            return false;
        }

        try
        {
            var copy = Copy(state);
            _writing[state.Name] = copy.Place.Turn.ContinueWith(_ => WriteStep(copy), CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default);
        }
        catch (Exception exception)
        {
            // Whatever it is: the step is done and its caller gets its answer; the next one that is due tries again.
            Log.NotSaved(_log, exception, state.Name, "steps");
        }

        return true;
    }

    /// <summary>Once nothing runs any more: writes what is being written to its end, and saves the modules that are to be saved at a drain.</summary>
    internal async Task DrainAsync(IEnumerable<HostedModule> modules)
    {
        await Task.WhenAll(_writing.Values).ConfigureAwait(false);
        var crowded = new ConcurrentQueue<HostedModule>();
        await Parallel.ForEachAsync(modules.Where(module => module.State.SnapshotPolicy.OnDrain), new ParallelOptions { MaxDegreeOfParallelism = DrainedAtOnce }, (module, _) =>
        {
            if (!TrySaveDrained(module, isLast: false))
            {
                crowded.Enqueue(module);
            }

            return default;
        }).ConfigureAwait(false);

        // There was no room for their copies beside the others': one after the other now, as what is not saved here is lost.
        foreach (var module in crowded)
        {
            TrySaveDrained(module, isLast: true);
        }
    }

    /// <summary>The drain ends while calls still run, so that nothing can be copied: says which modules that leaves unsaved.</summary>
    internal void DrainFailed(IEnumerable<HostedModule> modules)
    {
        foreach (var module in modules.Where(module => module.State.SnapshotPolicy.OnDrain))
        {
            Log.NotSaved(_log, Admission.Stopped(), module.Name, "drain");
        }
    }

    /// <summary>Gives the directory back, once what is being written is written.</summary>
    public void Dispose() => _store.Dispose();

    private bool TrySaveDrained(HostedModule module, bool isLast)
    {
        try
        {
            using var copy = Copy(module.State);
            Write(copy, "drain", null, default);
            return true;
        }
        catch (EngineException exception) when (exception.Error == EngineError.ResourceExhausted && !isLast)
        {
            return false;
        }
        catch (Exception exception)
        {
            // Whatever it is: the others are to be saved, and the process is to end as it would.
            Log.NotSaved(_log, exception, module.Name, "drain");
            return true;
        }
    }

    private void WriteStep(ModuleCopy copy)
    {
        using (copy)
        {
            try
            {
                Write(copy, "steps", null, default);
            }
            catch (EngineException exception) when (exception.Error == EngineError.NotFound)
            {
                // Deleted, or replaced, meanwhile: nothing is lost that anybody wants.
            }
            catch (Exception exception)
            {
                Log.NotSaved(_log, exception, copy.Place.Module, "steps");
            }
        }
    }

    /// <summary>Copies a module in its turn, with a place among its saves: of two copies, the one that was made first is written first.</summary>
    private ModuleCopy Copy(ModuleState state)
    {
        var place = _store.TakePlace(state.Name);
        try
        {
            return new ModuleCopy(ModuleImage.Of(state, _host.Ledger), place);
        }
        catch
        {
            place.Dispose();
            throw;
        }
    }

    private SnapshotInfo Write(ModuleCopy copy, string reason, int? keepLast, CancellationToken cancellationToken)
    {
        var (module, image) = (copy.Place.Module, copy.Image);
        var calls = AnsweredCalls.Of(image, cancellationToken);
        var info = _store.Save(
            copy.Place,
            [
                new(FactsPart, stream => FactsJson.Write(stream, image.Facts)),
                .. calls.Count > 0 ? (SnapshotPart[])[new(RequestsPart, stream => RequestsJson.Write(stream, calls.Select(call => call.Remember())))] : [],
                new(WeightsPart, StateFiles.Writer(image.Weights, StateFileFormat.Safetensors)),
                new(TrainingPart, stream =>
                {
                    StateFiles.Writer(image.Training, StateFileFormat.Safetensors)(stream);

                    // Whoever deletes the module hereafter waits for this save to end, and then deletes the snapshot too.
                    CheckHeld(module, image);
                }),
            ],
            new SnapshotFacts((long)image.Facts.Generation, image.Facts.Steps, reason),
            keepLast ?? image.Facts.Policy.KeepLast,
            cancellationToken);
        try
        {
            CheckHeld(module, image);
            return info;
        }
        catch
        {
            // Deleted, or another's snapshot was restored under its name.
            _store.TryDelete(info.Id);
            throw;
        }
    }

    private void CheckHeld(string module, ModuleImage image)
    {
        if (!_host.Holds(module, image.Facts.Created))
        {
            throw EngineHost.ModuleNotFound(module);
        }
    }

    private SnapshotContent Open(string module, string snapshot, CancellationToken cancellationToken)
    {
        if (snapshot.Length == 0)
        {
            return _store.LatestGood(module, cancellationToken)
                ?? throw EngineException.NotFound("snapshot", module, "the module has none that is whole; ListSnapshots lists those that there are, and those that were set aside");
        }

        try
        {
            return _store.OpenRead(snapshot, cancellationToken);
        }
        catch (EngineException exception) when (exception.Error == EngineError.DataLoss)
        {
            _store.Quarantine(snapshot, exception.Message);
            throw;
        }
    }

    private async Task<HostedModule> RestoreAsync(string module, SnapshotContent content, ulong? ifGeneration, CancellationToken cancellationToken)
    {
        using var text = content.Open(FactsPart);
        var facts = FactsJson.Read(text);
        using var weights = Tensors(content, WeightsPart);
        using var training = Tensors(content, TrainingPart);
        var calls = Calls(content);
        if (content.Info.Module != module)
        {
            // When the other one is saved is not this one's matter, and what was called on it says nothing of this one.
            (facts, calls) = (facts with { Policy = new SnapshotPolicy() }, []);
        }

        return await _host.RestoreModuleAsync(module, new ImageReader(facts, weights, training, calls), ifGeneration, cancellationToken).ConfigureAwait(false);
    }

    private static IReadOnlyList<RememberedCall> Calls(SnapshotContent content)
    {
        if (content.Info.Parts.All(part => part.Name != RequestsPart))
        {
            return [];
        }

        using var text = content.Open(RequestsPart);
        return RequestsJson.Read(text);
    }

    private sealed record ModuleCopy(ModuleImage Image, SnapshotPlace Place) : IDisposable
    {
        public void Dispose()
        {
            Image.Dispose();
            Place.Dispose();
        }
    }

    private static SafetensorsFile Tensors(SnapshotContent content, string part)
    {
        var name = $"the file {part} of the snapshot {content.Info.Id}";
        try
        {
            return SafetensorsFile.Open(ByteSource.Of(content.Open(part)), name);
        }
        catch (EngineException exception) when (exception.Error == EngineError.InvalidArgument)
        {
            // Nothing that a caller gave.
            throw new EngineException(EngineError.DataLoss, exception.Reason, exception.Message, exception);
        }
    }
}
