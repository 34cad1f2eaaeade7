using Microsoft.Extensions.Logging;
using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.PlugIns;
using Sconce.Engine.Regions;
using Sconce.Engine.Snapshots;
using Sconce.Engine.Storage;
using Sconce.Engine.Tensors;
using Sconce.Engine.Training;

namespace Sconce.Engine.Execution;

/// <summary>The process's engine: it owns the device, the lanes, the modules, and what callers keep here.</summary>
public sealed partial class EngineHost : IAsyncDisposable
{
    private static readonly TimeSpan SweepEvery = TimeSpan.FromSeconds(1);

    private readonly ModuleTable _modules;
    private readonly Lock _draining = new();
    private readonly HostServices _services;
    private readonly Gate _gate;
    private readonly IdleMemory _idle;
    private readonly ModelFiles _files;
    private readonly ITimer _sweeper;
    private readonly DateTimeOffset _started;
    private readonly ILogger _log;
    private Task? _drained;
    private int _disposed;

    /// <summary>Loads libtorch and starts the lanes.</summary>
    /// <param name="options">What the operator set.</param>
    /// <param name="loggers">Makes the engine's logger; null logs nothing.</param>
    /// <param name="time">The clock; null takes the system's.</param>
    /// <exception cref="ArgumentException">An option is wrong.</exception>
    /// <exception cref="TorchLoadException">libtorch cannot be loaded.</exception>
    /// <exception cref="EngineException">The directory for snapshots cannot be used, or another process has it.</exception>
    public EngineHost(EngineOptions options, ILoggerFactory? loggers = null, TimeProvider? time = null)
        : this(options, loggers, time, null)
    {
    }

    /// <inheritdoc cref="EngineHost(EngineOptions, ILoggerFactory?, TimeProvider?)"/>
    /// <param name="options">What the operator set.</param>
    /// <param name="loggers">Makes the engine's logger; null logs nothing.</param>
    /// <param name="time">The clock; null takes the system's.</param>
    /// <param name="disk">Where snapshots are; null takes the system's.</param>
    internal EngineHost(EngineOptions options, ILoggerFactory? loggers, TimeProvider? time, IDisk? disk)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (options.Validate() is { Count: > 0 } errors)
        {
            throw new ArgumentException(string.Join("; ", errors), nameof(options));
        }

        TorchLibrary.Load(options.IntraOpThreads);
        // Load sets it only where libtorch was not loaded before, as in tests.
        TorchSharp.torch.set_num_threads(options.IntraOpThreads);
        time ??= TimeProvider.System;
        _log = (loggers ?? Microsoft.Extensions.Logging.Abstractions.NullLoggerFactory.Instance).CreateLogger<EngineHost>();
        _started = time.GetUtcNow();
        var ledger = new MemoryLedger(options);
        var plugIns = PlugInTypes.Load(options.PluginDir, _log).With(new Weights.Script.ScriptTypes(options, ledger, time));
        var sessions = new SessionTable(options, time);
        _modules = new ModuleTable(options.MaxModules);
        _services = new HostServices(
            options, new LanePool(options.Lanes), new Admission(options), ledger, sessions, new KeptTensors(options, ledger, sessions, time), plugIns,
            new ApiUsage(_log), time, _log, _modules.Find);
        if (options.Data.Length > 0)
        {
            var log = (loggers ?? Microsoft.Extensions.Logging.Abstractions.NullLoggerFactory.Instance).CreateLogger<DurableModules>();
            _services.Durable = new DurableModules(this, SnapshotStore.Open(options.Data, time, log, disk), log);
        }

        _gate = new Gate(_services.Lanes, _services.Admission, "");
        _files = new ModelFiles(options, new StateReading(DiskTurns, ledger, _log, time), _log);
        _sharedReading = new StateReading(SharedMemoryTurns, ledger, _log, time);
        SharedRegions = new SharedRegionTable(options, ledger);
        _files.DeleteUnfinished();
        _idle = new IdleMemory(ledger, _services.Lanes);
        _sweeper = time.CreateTimer(static host => ((EngineHost)host!).Sweep(), this, SweepEvery, SweepEvery);
    }

    /// <summary>What the operator set.</summary>
    public EngineOptions Options => _services.Options;

    /// <summary>What can be built or called by name here: the catalogue, the module types of plug-ins, and TorchScript files where there are any.</summary>
    public IReadOnlyList<CatalogType> Types => [.. ModuleCatalog.Types, .. _services.PlugIns.Descriptions, .. _services.PlugIns.Scripts!.Descriptions];

    /// <summary>
    /// Sets what is told, once and on any thread, of a call of a TorchScript module, or a backward through one, that outlived <see cref="EngineOptions.ScriptTimeout"/>: which module, which file. The call goes on and holds its lane, so
    /// whoever hosts the engine should end the process.
    /// </summary>
    /// <param name="tell">Is given the call, for people.</param>
    public void OnScriptOverdue(Action<string> tell) => _services.PlugIns.Scripts!.Watch.Overdue = tell;

    /// <summary>The memory that is charged.</summary>
    public MemoryLedger Ledger => _services.Ledger;

    /// <summary>The kept tensors.</summary>
    public KeptTensors Tensors => _services.Tensors;

    /// <summary>
    /// Whether calls run at this moment. Once the host is disposed: whether some were left behind in native code, so that the process must end
    /// without unloading libtorch under them.
    /// </summary>
    public bool IsBusy => _services.Admission.IsBusy;

    /// <summary>
    /// Takes the calls that a restored module's snapshot holds up again: remembers their answers, or refuses all of them with an <see cref="EngineException"/>. Null where
    /// nobody remembers answers; then they are lost.
    /// </summary>
    public Func<IReadOnlyList<RememberedCall>, IReadOnlyList<OnceCall>>? Recall { get; init; }

    /// <summary>What is used of the interface.</summary>
    public ApiUsage Usage => _services.Usage;

    /// <summary>The open sessions.</summary>
    public SessionTable Sessions => _services.Sessions;

    /// <summary>Describes the process and its device.</summary>
    public HostDescription Describe() => new(
        Options.Device, Processor.Name, "", Ledger.Usage, Versions.Libtorch, Versions.TorchSharp, _started, Options.Describe(),
        _modules.Count, _modules.All.Sum(module => module.State.Graphs.Count), [Options.Device]);

    /// <summary>Builds a module, in training mode, as PyTorch makes modules.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="spec">What to build.</param>
    /// <param name="seed">Seed of its random stream, from which the initial values come; null draws them from the process's generator.</param>
    /// <param name="type">Floating dtype of its parameters and buffers; none means float32.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<HostedModule> CreateModuleAsync(string name, ModuleSpec spec, long? seed, ElementType type, CancellationToken cancellationToken) =>
        CreateModuleAsync(name, spec, seed, type, null, cancellationToken);

    /// <summary>Builds a module that holds given weights. Where they do not fit there is no module.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="spec">What to build.</param>
    /// <param name="seed">Seed of its random stream, from which initial values come; null draws them from the process's generator.</param>
    /// <param name="type">Floating dtype of its parameters and buffers; none means float32.</param>
    /// <param name="initial">The weights; null leaves the initial values.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public async Task<HostedModule> CreateModuleAsync(string name, ModuleSpec spec, long? seed, ElementType type, InitialState? initial, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(spec);
        Ids.Check(name, "module");
        var once = OnceCall.Current;
        Reserve(name);
        try
        {
            using var scripts = await _services.PlugIns.Scripts!.PrepareAsync(spec, cancellationToken).ConfigureAwait(false);
            using var given = initial is { Tensors.Count: > 0 } ? new MessageState(_services, name, initial.Tensors) : null;
            var module = await Run(() =>
            {
                var charge = new MemoryCharge(Ledger, MemoryUse.Modules, "the module", name);
                return Host(name, charge, random =>
                {
                    if (seed is { } number)
                    {
                        random.Seed(number);
                    }

                    return _services.Build(spec, type, charge, random.Run);
                });
            }, cancellationToken).ConfigureAwait(false);
            if (initial is not null)
            {
                // Until it has all of its weights there is no module.
                await OnceCall.ApartAsync(() => BeginWithAsync(module, initial, given, cancellationToken)).ConfigureAwait(false);
            }

            module.State.Calls.Made(once);
            return _modules.Publish(module);
        }
        catch
        {
            _modules.Unreserve(name);
            throw;
        }
    }

    /// <summary>The module of a name.</summary>
    /// <param name="name">Its name.</param>
    /// <exception cref="EngineException">There is none.</exception>
    public HostedModule GetModule(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        if (FindModule(name) is { } module)
        {
            return module;
        }

        Ids.Check(name, "module");
        throw ModuleNotFound(name);
    }

    /// <summary>The module of a name; null where there is none.</summary>
    /// <param name="name">Its name.</param>
    public HostedModule? FindModule(string name) => _modules.Find(name);

    /// <summary>The modules by name.</summary>
    /// <param name="prefix">Only names that begin with this; empty lists all.</param>
    public IReadOnlyList<HostedModule> ListModules(string prefix)
    {
        ArgumentNullException.ThrowIfNull(prefix);
        if (prefix.Length > 0)
        {
            // What no name can begin with is a mistake, not a question.
            Ids.Check(prefix, "prefix");
        }

        return [.. _modules.All.Where(module => module.Name.StartsWith(prefix, StringComparison.Ordinal)).OrderBy(module => module.Name, StringComparer.Ordinal)];
    }

    /// <summary>Deletes a module after the calls before this one; frees its memory, graphs and optimizers, and deletes its snapshots.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="ifGeneration">The generation that it must be at; null takes any.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public async Task DeleteModuleAsync(string name, ulong? ifGeneration, CancellationToken cancellationToken)
    {
        var module = GetModule(name);
        var forgotten = false;
        try
        {
            await module.Change(ifGeneration, () =>
            {
                // The name first: whoever takes it anew must not find this one.
                _modules.Forget(module);
                forgotten = true;
                module.State.Dispose();
                return true;
            }, cancellationToken).ConfigureAwait(false);
            if (_services.Durable is { } durable)
            {
                await durable.ForgetAsync(name).ConfigureAwait(false);
            }
        }
        finally
        {
            if (forgotten)
            {
                _modules.Unreserve(name);
            }
        }
    }

    /// <summary>Copies a module or a submodule into a new, independent module (<c>copy.deepcopy</c>).</summary>
    /// <param name="name">The module to copy from.</param>
    /// <param name="path">The submodule to copy; empty copies the whole.</param>
    /// <param name="copy">Name for the copy.</param>
    /// <param name="ifGeneration">The generation that the module must be at; null takes any.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public async Task<HostedModule> CopyModuleAsync(string name, string path, string copy, ulong? ifGeneration, CancellationToken cancellationToken)
    {
        Ids.Check(copy, "copy");
        var module = GetModule(name);
        var once = OnceCall.Current;
        Reserve(copy);
        try
        {
            return _modules.Publish(await module.Read(() =>
            {
                module.State.Begin(ifGeneration);
                var bytes = ModuleTree.BytesOf(module.State.Tree.Find(path));
                var charge = new MemoryCharge(Ledger, MemoryUse.Modules, "the module", copy, bytes);
                var hosted = Host(copy, charge, _ => ModuleCopy.DeepCopy(module.State.Tree, path));
                try
                {
                    if (path.Length == 0)
                    {
                        // As copy.deepcopy does.
                        hosted.State.Hooks.CopyFrom(module.State.Hooks);
                    }

                    hosted.State.Calls.Made(once);
                    return hosted;
                }
                catch
                {
                    hosted.State.Dispose();
                    throw;
                }
            }, cancellationToken).ConfigureAwait(false));
        }
        catch
        {
            _modules.Unreserve(copy);
            throw;
        }
    }

    /// <summary>Seeds random numbers (<c>torch.manual_seed</c>).</summary>
    /// <param name="module">The module whose stream is seeded; from then on it has one of its own. Null or empty seeds the process's generator.</param>
    /// <param name="seed">The seed.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public async Task ManualSeedAsync(string? module, long seed, CancellationToken cancellationToken)
    {
        if (string.IsNullOrEmpty(module))
        {
            await Run(() =>
            {
                RandomStream.SeedProcess(seed);
                return true;
            }, cancellationToken).ConfigureAwait(false);
            return;
        }

        var hosted = GetModule(module);
        await hosted.Change(null, () =>
        {
            hosted.State.Seed(seed);
            return true;
        }, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Begins to receive a state dict.</summary>
    /// <param name="entries">What will come.</param>
    /// <param name="field">Where the list stands in the request.</param>
    /// <exception cref="EngineException">The list is malformed, or does not fit the memory budget.</exception>
    public StateUpload ReserveState(IReadOnlyList<StateEntryInfo> entries, string field)
    {
        ArgumentNullException.ThrowIfNull(entries);
        return new StateUpload(entries, field, Ledger);
    }

    /// <summary>
    /// Refuses new work, answers what waits with <see cref="EngineError.Unavailable"/>, and lets what runs finish; what has not by then goes on, and its
    /// callers get <see cref="EngineError.Unavailable"/> (reason STOPPED). A host drains once: a later call waits for the first one's end.
    /// </summary>
    /// <param name="limit">How long to wait for what runs.</param>
    /// <param name="cancellationToken">Waits no longer, as when the limit has passed.</param>
    public Task DrainAsync(TimeSpan limit, CancellationToken cancellationToken = default)
    {
        lock (_draining)
        {
            return _drained ??= DrainOnceAsync(limit, cancellationToken);
        }
    }

    /// <summary>Drains, ends the lanes and frees everything; all but what calls use that were left behind.</summary>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
        {
            return;
        }

        await DrainAsync(TimeSpan.FromSeconds(5)).ConfigureAwait(false);
        await _sweeper.DisposeAsync().ConfigureAwait(false);
        _services.PlugIns.Scripts!.Dispose();
        Usage.Dispose();
        // The drain has waited for calls; an idle lane needs a moment to end.
        if (!_services.Lanes.Stop(IsBusy ? TimeSpan.Zero : TimeSpan.FromSeconds(5)) || IsBusy)
        {
            // A native call has not come back; to free what it uses would end the process the hard way.
            return;
        }

        SharedRegions.Close();
        Sessions.EndAll();
        Tensors.Clear();
        foreach (var module in _modules.All)
        {
            module.State.Dispose();
        }

        _modules.Clear();
        _services.Durable?.Dispose();
    }

    internal static EngineException ModuleNotFound(string name) => EngineException.NotFound("module", name, "ListModules lists those that are held");

    private async Task DrainOnceAsync(TimeSpan limit, CancellationToken cancellationToken)
    {
        _services.Admission.Drain();
        _gate.WithdrawAll(Admission.Draining);
        foreach (var module in _modules.All)
        {
            module.Gate.WithdrawAll(Admission.Draining);
        }

        _services.Lanes.WithdrawAll(Admission.Draining);
        var started = _services.Time.GetTimestamp();
        try
        {
            await _services.Admission.Idle.WaitAsync(limit, _services.Time, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is TimeoutException or OperationCanceledException)
        {
            Log.DrainTimedOut(_log, exception is TimeoutException ? limit : _services.Time.GetElapsedTime(started));
            _services.Lanes.CutAll(Admission.Stopped);
            _services.Durable?.DrainFailed(_modules.All);
            return;
        }

        if (_services.Durable is { } durable)
        {
            await durable.DrainAsync(_modules.All).ConfigureAwait(false);
        }
    }

    private HostedModule Host(string name, MemoryCharge charge, Func<RandomStream, ModuleTree> make)
    {
        var random = new RandomStream();
        ModuleTree? tree = null;
        try
        {
            tree = make(random);
            Weights.Script.ScriptNode.SetOwner(tree.Root, name);
            return new HostedModule(new ModuleState(name, tree, random, charge, _services), _services);
        }
        catch
        {
            tree?.Dispose();
            random.Dispose();
            charge.Dispose();
            throw;
        }
    }

    private Task<T> Run<T>(Func<T> work, CancellationToken cancellationToken)
    {
        var call = new LaneCall<T>(GateMode.Shared, work);
        call.Enter(_gate, cancellationToken);
        return call.Task;
    }

    private void Reserve(string name, bool isRestored = false)
    {
        if (!isRestored && _modules.Find(name) is null && _services.Durable?.HasSnapshots(name) == true)
        {
            throw new EngineException(EngineError.AlreadyExists, "SNAPSHOTS_EXIST",
                $"there is no module {EngineException.Quote(name)}, but there are snapshots of one; RestoreSnapshot brings it back, DeleteSnapshot deletes them, or choose another name")
            {
                Resource = new ResourceRef("snapshot", name),
            };
        }

        _modules.Reserve(name);
    }

    /// <summary>Frees what has expired, and gives back to the system what was freed.</summary>
    internal void Sweep()
    {
        Tensors.Sweep();
        foreach (var module in _modules.All)
        {
            module.State.Graphs.Sweep();
        }

        _idle.Sweep();
    }
}
