using Sconce.Engine.Hooks;
using static TorchSharp.torch;

namespace Sconce.Engine.Execution;

/// <content>Hooks.</content>
public sealed partial class HostedModule
{
    private const int MaxWatchBuffer = 4096;
    private const int DefaultWatchBuffer = 64;

    /// <summary>Registers a hook.</summary>
    /// <param name="spec">The hook.</param>
    /// <param name="examples">Inputs to try it with, on a copy of the module; null for no trial.</param>
    /// <param name="ifGeneration">The generation that the module must be at; null takes any.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<HookInfo> RegisterHookAsync(HookSpec spec, CallInputs? examples, ulong? ifGeneration, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(spec);
        try
        {
            HookChecks.Check(spec, "hook", inline: false);
            var tensors = CallTensors.Import(_host, Name, examples, [], "", "", mayShare: true);

            // A hook of a session goes with it, at the latest when the process ends.
            return Run(GateMode.Exclusive, ifGeneration, () => _state.Hooks.Register(spec, "hook", hook =>
            {
                if (examples is not null)
                {
                    HookTrial.Run(_state, _host, hook, tensors.Arguments(examples));
                }
            }), tensors.Dispose, cancellationToken, isKept: spec.Session.Length == 0);
        }
        catch (EngineException exception)
        {
            return Task.FromException<HookInfo>(exception);
        }
    }

    /// <summary>Lists hooks in the order they run in, and the slots.</summary>
    /// <param name="path">Only hooks that stand at this submodule or below it; empty is all.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<HookListing> ListHooksAsync(string path, CancellationToken cancellationToken) => Read(() => _state.Hooks.List(path), cancellationToken);

    /// <summary>Removes a hook: when this has returned it never acts again.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="ifGeneration">The generation that the module must be at; null takes any.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task RemoveHookAsync(string id, ulong? ifGeneration, CancellationToken cancellationToken) => Change(ifGeneration, () =>
    {
        _state.Hooks.Remove(id);
        return true;
    }, cancellationToken);

    /// <summary>Watches what hooks capture, from now on. Whoever gets it disposes it.</summary>
    /// <param name="hook">The hook; empty watches all of the module.</param>
    /// <param name="buffer">Captures that are held for a slow reader; 0 means 64.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<HookWatcher> WatchHookAsync(string hook, uint buffer, CancellationToken cancellationToken) => buffer > MaxWatchBuffer
        ? Task.FromException<HookWatcher>(EngineException.Invalid("buffer", $"is {buffer}; it must be at most {MaxWatchBuffer}"))
        : Read(() => _state.Hooks.Watch(hook, buffer == 0 ? DefaultWatchBuffer : (int)buffer), cancellationToken);

    private static string? MetInForward(HookSpec spec) => spec.IsForward ? null
        : spec.IsBackward || spec.Site == HookSite.ParamGrad ? "a forward without record_graph has no backward: set record_graph" : "a forward reads and loads no state dict: register the hook";

    private static string? MetInRecordedForward(HookSpec spec) => spec.IsState ? "a forward reads and loads no state dict: register the hook" : null;

    private static string? MetInBackward(HookSpec spec) => spec.Site == HookSite.ParamGrad ? null : "Backward takes hooks on gradients of parameters; give others to the Forward that records the graph";

    private static string? MetInTraining(HookSpec spec) => spec.IsState ? "a training call reads and loads no state dict: register the hook"
        : spec.Actions.Any(action => action is StopAction) ? "a training call needs its loss, so it takes no stop" : null;

    // Asked on every call: without hooks, for nothing.
    private bool NeedsOthers(CallHooks? hooks) => (hooks is not null || _state.Hooks.Plan.Calls.Count > 0) && Others(hooks).Any();

    private IEnumerable<string> Others(CallHooks? hooks) => _state.Hooks.Plan.Calls.Concat(hooks?.Calls ?? []).Where(name => name != Name);

    // Its own method, so that a forward without others makes no closure.
    private Task<ForwardOutcome> ForwardWithOthers(ForwardWork work, CallHooks? hooks, CancellationToken cancellationToken) =>
        WithOthers(work, held => work.HeldModules = held, () => work.ModuleMode, hooks, cancellationToken);

    private async Task<T> WithOthers<T>(LaneWork<T> work, Action<HeldModules> give, Func<GateMode> mode, CallHooks? hooks, CancellationToken cancellationToken)
    {
        HeldModules held;
        try
        {
            held = await HeldModules.TakeAsync((this, mode), [.. Others(hooks)], _host.FindModule, cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            work.Discard();
            throw;
        }

        using (held)
        {
            give(held);
            // The modules' own gates are held: this one only hands the work to a lane.
            work.Enter(new Gate(_host.Lanes, _host.Admission, Name), cancellationToken);
            return await work.Task.ConfigureAwait(false);
        }
    }

    private IReadOnlyList<(string Key, Tensor Value)> ThroughHooks(IReadOnlyList<HookPlace> places, string path, IReadOnlyList<(string Key, Tensor Value)> entries)
    {
        if (places.Count == 0)
        {
            return entries;
        }

        var services = new HookServices(Name, _state.Tree, _host, _state.Hooks, HeldModules.None);
        var run = new HookRun(_state.Hooks.Plan, services);
        using var quiet = no_grad();
        return StateHooks.Apply(run, services, places, _state.Tree.Root, path, entries);
    }

    // The session of a hook has ended. A call may be using its operands, so they go when nothing runs.
    private async void FreeWhenAlone(Hook hook)
    {
        while (true)
        {
            try
            {
                await Change(null, () =>
                {
                    hook.Dispose();
                    _state.Hooks.TrimSlots();
                    return true;
                }, CancellationToken.None).ConfigureAwait(false);
                return;
            }
            catch (EngineException exception) when (exception.Error == EngineError.ResourceExhausted)
            {
                // The queue is full.
                await Task.Delay(TimeSpan.FromSeconds(1), _host.Time).ConfigureAwait(false);
            }
            catch (EngineException exception)
            {
                if (exception.Error == EngineError.NotFound)
                {
                    // The module is gone, and with it all that ran. Else the host drains, and the process ends.
                    hook.Dispose();
                }

                return;
            }
        }
    }
}
