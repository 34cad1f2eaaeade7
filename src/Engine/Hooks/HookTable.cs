using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Hooks;

/// <summary>
/// The registered hooks of one module, its slots, and those who watch. Calls read <see cref="Plan"/>, which is never changed but replaced; only calls that have the module to
/// themselves register, remove and resolve.
/// </summary>
internal sealed class HookTable : IDisposable
{
    private readonly Lock _lock = new();
    private readonly string _module;
    private readonly ModuleTree _tree;
    private readonly HostServices _host;
    private List<Hook> _hooks = [];
    private volatile HookWatcher[] _watchers = [];
    private volatile HookPlan _plan = HookPlan.Empty;

    public HookTable(string module, ModuleTree tree, HostServices host)
    {
        (_module, _tree, _host) = (module, tree, host);
        Slots = new HookSlots(module, host.Ledger);
    }

    /// <summary>A hook whose session has ended: it acts no more, and is to be disposed when nothing runs.</summary>
    public event Action<Hook>? Dropped;

    /// <summary>What stands where.</summary>
    public HookPlan Plan => _plan;

    public HookSlots Slots { get; }

    /// <summary>Accepts a hook.</summary>
    /// <param name="spec">The hook, checked.</param>
    /// <param name="field">Where it stands in the request.</param>
    /// <param name="trial">Tries it before it is in place; throws where it fails.</param>
    public HookInfo Register(HookSpec spec, string field, Action<Hook> trial)
    {
        HookPlan.CheckTarget(_tree, spec, field);
        var id = spec.Id.Length == 0 ? Ids.New("h") : spec.Id;
        if (_hooks.Any(hook => hook.Id == id))
        {
            throw EngineException.AlreadyExists("hook", id);
        }

        var most = _host.Options.MaxHooksPerModule;
        if (_hooks.Count >= most)
        {
            throw EngineException.Exhausted($"another hook of module {EngineException.Quote(_module)}", new QuotaRef("max_hooks_per_module", 1, _hooks.Count, most));
        }

        var owner = _host.Sessions.Find(spec.Session);
        var made = new Hook(spec with { Id = id }, field, _host, this, owner, mayShare: false);
        try
        {
            trial(made);
            lock (_lock)
            {
                Put([.. _hooks, made]);
            }

            if (owner is not null && !owner.TryOwn(made))
            {
                lock (_lock)
                {
                    Put([.. _hooks.Where(hook => hook != made)]);
                }

                throw SessionTable.NotFound(owner.Id);
            }

            return Describe(Plan.Entries.First(entry => entry.Hook == made));
        }
        catch
        {
            made.Dispose();
            throw;
        }
    }

    /// <summary>Takes over the hooks of the module that this one is a copy of, those that no session owns and that still act.</summary>
    public void CopyFrom(HookTable other)
    {
        var copies = new List<Hook>();
        try
        {
            foreach (var hook in other._hooks.Where(hook => hook.IsLive && hook.Spec.Session.Length == 0))
            {
                copies.Add(new Hook(hook, _host, this));
            }
        }
        catch
        {
            copies.ForEach(hook => hook.Dispose());
            throw;
        }

        lock (_lock)
        {
            Put(copies);
        }
    }

    /// <summary>The hooks that no session owns, detached ones among them, for a snapshot.</summary>
    public IReadOnlyList<Hook> Lasting => [.. _hooks.Where(hook => hook.Spec.Session.Length == 0)];

    /// <summary>Takes up the hooks of a snapshot.</summary>
    /// <param name="memories">What they remembered, each with its operands' tensors, which change owner.</param>
    public void Restore(IReadOnlyList<(HookMemory Memory, Tensor?[] Operands)> memories)
    {
        var hooks = new List<Hook>();
        try
        {
            hooks.AddRange(memories.Select(memory => new Hook(memory.Memory, memory.Operands, _tree, _host, this)));
        }
        catch
        {
            hooks.ForEach(hook => hook.Dispose());
            throw;
        }

        lock (_lock)
        {
            Put(hooks);
        }
    }

    /// <summary>Removes a hook.</summary>
    public void Remove(string id)
    {
        var found = Find(id);
        lock (_lock)
        {
            Put([.. _hooks.Where(hook => hook != found)]);
        }

        found.Remove();
        found.Dispose();
        EndWatch(id);
        TrimSlots();
    }

    /// <summary>A hook's session has ended. From any thread, while calls may be running.</summary>
    public void Drop(Hook hook)
    {
        hook.Remove();
        lock (_lock)
        {
            if (!_hooks.Contains(hook))
            {
                return;
            }

            _hooks = [.. _hooks.Where(other => other != hook)];
            _plan = _plan.Without(hook);
        }

        EndWatch(hook.Id);
        Dropped?.Invoke(hook);
    }

    /// <summary>The structure of the tree may have changed.</summary>
    public void Resolve()
    {
        lock (_lock)
        {
            if (_hooks.Count > 0)
            {
                Put(_hooks);
            }
        }
    }

    /// <summary>After a call that may have filled slots.</summary>
    public void TrimSlots()
    {
        if (!Slots.IsEmpty)
        {
            Slots.Trim(_hooks.SelectMany(hook => hook.Slots).ToHashSet(StringComparer.Ordinal));
        }
    }

    /// <summary>The hooks that stand at a submodule or below it, and the slots.</summary>
    public HookListing List(string path)
    {
        var below = ModuleTree.Walk(_tree.Find(path)).Select(at => at.Node).ToHashSet(ReferenceEqualityComparer.Instance);
        return new HookListing([.. Plan.Entries.Where(entry => path.Length == 0 || entry.Matches.Any(match => below.Contains(match.Node))).Select(Describe)], Slots.List());
    }

    /// <summary>Begins a watch.</summary>
    /// <param name="hook">The hook; empty watches all.</param>
    /// <param name="buffer">Events that are held.</param>
    public HookWatcher Watch(string hook, int buffer)
    {
        lock (_lock)
        {
            if (hook.Length > 0)
            {
                _ = Find(hook);
            }

            var most = _host.Options.MaxWatchersPerModule;
            if (_watchers.Length >= most)
            {
                throw EngineException.Exhausted($"another watcher of module {EngineException.Quote(_module)}", new QuotaRef("max_watchers_per_module", 1, _watchers.Length, most));
            }

            var watcher = new HookWatcher(this, hook, buffer);
            _watchers = [.. _watchers, watcher];
            return watcher;
        }
    }

    public void Unwatch(HookWatcher watcher)
    {
        lock (_lock)
        {
            _watchers = [.. _watchers.Where(other => other != watcher)];
        }
    }

    /// <summary>Whether anybody watches a hook.</summary>
    public bool IsWatched(string hook)
    {
        foreach (var watcher in _watchers)
        {
            if (watcher.Sees(hook))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Gives each watcher of a hook a capture of its own.</summary>
    public void Publish(string hook, Func<HookCapture> make)
    {
        foreach (var watcher in _watchers)
        {
            if (watcher.Sees(hook))
            {
                watcher.Offer(make);
            }
        }
    }

    /// <summary>Tells of a hook that was detached.</summary>
    public void Detached(HookFailure failure)
    {
        Log.HookDetached(_host.Logger, failure.Hook, _module, failure.Path, failure.Message);
        foreach (var watcher in _watchers)
        {
            if (watcher.Sees(failure.Hook))
            {
                watcher.Tell(failure);
            }
        }
    }

    /// <summary>The module goes.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            foreach (var watcher in _watchers)
            {
                watcher.End(EngineHost.ModuleNotFound(_module));
            }

            foreach (var hook in _hooks)
            {
                hook.Remove();
                hook.Dispose();
            }

            Put([]);
            Slots.Dispose();
        }
    }

    private void Put(List<Hook> hooks)
    {
        _hooks = hooks;
        _plan = HookPlan.Of(_tree, hooks);
    }

    private Hook Find(string id)
    {
        if (_hooks.FirstOrDefault(hook => hook.Id == id) is { } found)
        {
            return found;
        }

        Ids.Check(id, "hook");
        throw EngineException.NotFound("hook", id, $"it may have been removed; ListHooks lists those of module {EngineException.Quote(_module)}");
    }

    private void EndWatch(string hook)
    {
        foreach (var watcher in _watchers.Where(watcher => watcher.Hook == hook))
        {
            watcher.End(null);
        }
    }

    private static HookInfo Describe(PlannedHook entry) =>
        new(entry.Hook.Spec, [.. entry.Matches.Select(match => match.Path)], entry.Hook.Fires, entry.Hook.Failure, entry.Hook.Registered);
}
