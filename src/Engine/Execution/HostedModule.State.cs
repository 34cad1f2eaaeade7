using Sconce.Engine.Modules;
using Sconce.Engine.Weights;
using static TorchSharp.torch;

namespace Sconce.Engine.Execution;

/// <content>State dicts out and in.</content>
public sealed partial class HostedModule
{
    /// <summary>Copies the state dict.</summary>
    /// <param name="path">The submodule; keys are relative to it.</param>
    /// <param name="keys">Only keys that match one of these patterns; empty is all.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<StateSnapshot> GetStateAsync(string path, IReadOnlyList<string> keys, CancellationToken cancellationToken) =>
        GetStateAsync(new StateSelection { Path = path, Keys = keys }, cancellationToken);

    /// <summary>Copies a part of the state dict, what the hooks at that site have made of it.</summary>
    /// <param name="selection">Which part, and in which dtype.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    /// <returns>The copy, which the caller disposes.</returns>
    public Task<StateSnapshot> GetStateAsync(StateSelection selection, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(selection);
        return Read(() =>
        {
            var node = _state.Tree.Find(selection.Path);
            selection.Check();
            if (_state.AnyShapeless && ModuleTree.Uninitialized(node).Where(selection.Takes).ToList() is { Count: > 0 } shapeless)
            {
                throw LazyNode.NotYet(shapeless);
            }

            IReadOnlyList<(string Key, Tensor Value)> entries = [.. ModuleTree.State(node).Select(entry => (entry.Key, entry.Tensor))];
            entries = ThroughHooks(_state.Hooks.Plan.StateDict, selection.Path, entries);
            return StateSnapshot.Copy(
                [.. entries.Where(entry => selection.Takes(entry.Key))], _host.Ledger, "a copy of the state of module", Name, _state.Generation, selection.Type);
        }, cancellationToken);
    }

    /// <summary>Checks keys, shapes, dtypes and the generation for a state dict that is about to be sent, as its load will.</summary>
    /// <param name="target">The submodule; keys are relative to it.</param>
    /// <param name="source">What will come.</param>
    /// <param name="plan">How it is to be loaded.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task CheckStateAsync(ChangeTarget target, StateSource source, LoadPlan plan, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(source);
        return CheckStateAsync(target, source.Entries, source.FieldOf, plan, cancellationToken);
    }

    /// <summary>Checks what is not there yet, as its load will.</summary>
    internal Task CheckStateAsync(ChangeTarget target, IReadOnlyList<StateEntryInfo> entries, Func<int, string> field, LoadPlan plan, CancellationToken cancellationToken) => Read(() =>
    {
        _state.Begin(target.IfGeneration);
        var subtree = _state.Tree.Find(target.Path);

        // Hooks may rename, drop and convert what comes.
        return _state.Hooks.Plan.LoadStateDictPre.Count > 0 ? null : StateLoading.Check(subtree, plan.Map(entries), plan, field).Outcome;
    }, cancellationToken);

    /// <summary>Loads tensors as PyTorch's defaults are, strictly or not.</summary>
    /// <param name="target">The submodule; keys are relative to it.</param>
    /// <param name="source">The tensors; they stay the caller's to dispose.</param>
    /// <param name="strict">Whether missing and unexpected keys are refused.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<LoadStateOutcome> LoadStateAsync(ChangeTarget target, StateSource source, bool strict, CancellationToken cancellationToken) =>
        LoadStateAsync(target, source, new LoadPlan { Strict = strict }, cancellationToken);

    /// <summary>Loads tensors into parameters and buffers, all of them or none; live graphs are invalidated.</summary>
    /// <param name="target">The submodule; keys are relative to it.</param>
    /// <param name="source">The tensors; they stay the caller's to dispose.</param>
    /// <param name="plan">How they are loaded.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<LoadStateOutcome> LoadStateAsync(ChangeTarget target, StateSource source, LoadPlan plan, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(plan);
        return Change(target.IfGeneration, () =>
        {
            // Converted copies exist beside what was received until they are in place, and before them what hooks make of it.
            var hooked = _state.Hooks.Plan.LoadStateDictPre.Count > 0;
            using var edited = new MemoryCharge(_host.Ledger, MemoryUse.State, "what hooks make of a load into module", Name, hooked ? source.TotalBytes : 0);
            using var copies = new MemoryCharge(_host.Ledger, MemoryUse.State, "a load into module", Name);
            var outcome = _state.AnyShapeless ? _state.Shaping(() => _state.Draw(Load)) : Load();
            if (plan.Assign)
            {
                _state.SettleGradients();
                _state.Changed();
            }
            else
            {
                _state.Stepped();
            }

            return new LoadStateOutcome(outcome.MissingKeys, outcome.UnexpectedKeys, _state.Generation, outcome.LoadedTensors);

            LoadOutcome Load() => source.Use(values => Loaded(target.Path, source, values, plan, copies));
        }, cancellationToken);
    }

    private LoadOutcome Loaded(string path, StateSource source, IReadOnlyList<(string Key, Tensor Value)> values, LoadPlan plan, MemoryCharge copies)
    {
        using var normal = inference_mode(false);
        using var quiet = no_grad();
        var hooks = _state.Hooks.Plan.LoadStateDictPre;
        IReadOnlyList<LoadEntry> mapped = plan.Map(source.Entries);
        IReadOnlyList<(LoadEntry Entry, Tensor Value)> entries = [.. mapped.Select(entry => (entry, values[entry.Index].Value))];
        if (hooks.Count > 0)
        {
            var known = Distinct(mapped, source.FieldOf);
            entries =
            [
                .. ThroughHooks(hooks, path, [.. entries.Select(entry => (entry.Entry.Key, entry.Value))]).Select(entry =>
                {
                    // What a hook has renamed has no place in the request.
                    var made = StateLoading.EntryOf(entry, -1);
                    return (known.TryGetValue(entry.Key, out var sent) ? made with { Index = sent.Index, Sent = sent.Sent } : made, entry.Value);
                }),
            ];
        }

        var copied = 0L;
        var load = StateLoading.Prepare(_state.Tree.Find(path), entries, plan, source.FieldOf, copies: hooks.Count > 0, bytes => copies.Resize(copied = bytes));
        Action? follow = null;
        SoleHolders? takers = null;
        try
        {
            takers = source.IsSole && hooks.Count == 0 && !plan.Assign ? new SoleHolders(_state.Tree.Root) : null;
            if (plan.Assign)
            {
                // As at a conversion: optimizers go on with the parameters in their new dtypes.
                copies.Resize(copied + _state.Optimizers.BytesToConvert(load.TypeOf));
                follow = _state.Optimizers.PrepareToConvert(load.TypeOf);
            }
        }
        catch
        {
            load.Undo();
            throw;
        }

        load.Apply(takers is not null && source.TryGive() ? takers : null);
        follow?.Invoke();
        return load.Outcome;
    }

    // Hooks would take two entries of one key for their own fault.
    private static Dictionary<string, LoadEntry> Distinct(IReadOnlyList<LoadEntry> mapped, Func<int, string> field)
    {
        var known = new Dictionary<string, LoadEntry>(StringComparer.Ordinal);
        var twice = mapped.Where(entry => !known.TryAdd(entry.Key, entry)).Select(entry => new FieldViolation(field(entry.Index), $"{entry.Name} is given twice")).ToList();
        return twice.Count == 0 ? known : throw EngineException.Invalid(twice, "STATE_MISMATCH");
    }
}
