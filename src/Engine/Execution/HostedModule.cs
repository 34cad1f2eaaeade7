using Sconce.Engine.Hooks;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Execution;

/// <summary>
/// A module that the host holds. Every call waits for its turn at the module's gate and runs on a lane; a call whose token fires while it waits is
/// never run, and one that runs is not interrupted. Calls fail with <see cref="EngineException"/>.
/// </summary>
public sealed partial class HostedModule
{
    private readonly HostServices _host;
    private readonly ModuleState _state;
    private readonly Gate _gate;

    internal HostedModule(ModuleState state, HostServices host)
    {
        (_state, _host) = (state, host);
        _gate = new Gate(host.Lanes, host.Admission, state.Name);
        state.Hooks.Dropped += FreeWhenAlone;
    }

    /// <summary>Its name.</summary>
    public string Name => _state.Name;

    /// <summary>Its summary, as of the last change.</summary>
    public ModuleSummary Summary => _state.Summary;

    internal ModuleState State => _state;

    internal Gate Gate => _gate;

    /// <summary>Calls the module. In eval mode nothing is recorded unless the call asks for it.</summary>
    /// <param name="call">The call.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<ForwardOutcome> ForwardAsync(ForwardCall call, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(call);
        CallHooks? hooks = null;
        try
        {
            // A graph outlives the request's memory.
            hooks = CallHooks.Accept(call.Hooks, call.Inputs.FieldPrefix + "hooks", _host, mayShare: !call.RecordGraph, call.RecordGraph ? MetInRecordedForward : MetInForward);
            var tensors = CallTensors.Import(_host, Name, call.Inputs, [], "", "", mayShare: !call.RecordGraph);
            var work = new ForwardWork(_state, _host, call, tensors, hooks);
            // The work disposes them from here on.
            var accepted = hooks;
            hooks = null;
            if (NeedsOthers(accepted))
            {
                return ForwardWithOthers(work, accepted, cancellationToken);
            }

            if (cancellationToken.IsCancellationRequested || !work.IsShort || !work.TryRunHere(_gate, _host.Lanes))
            {
                work.Enter(_gate, cancellationToken);
            }

            return work.Task;
        }
        catch (EngineException exception)
        {
            hooks?.Dispose();
            return Task.FromException<ForwardOutcome>(exception);
        }
    }

    /// <summary>Runs autograd backward through a live graph: adds to the gradients of the parameters and returns those of the inputs.</summary>
    /// <param name="call">The call.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<BackwardOutcome> BackwardAsync(BackwardCall call, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(call);
        try
        {
            var hooks = CallHooks.Accept(call.Hooks, call.FieldPrefix + "hooks", _host, mayShare: true, MetInBackward);
            return WithTensors(null, call.OutputGrads, call.FieldPrefix, "output_grads", hooks, (tensors, _) => BackwardRun.Run(_state, _host, call, tensors, hooks), cancellationToken);
        }
        catch (EngineException exception)
        {
            return Task.FromException<BackwardOutcome>(exception);
        }
    }

    /// <summary>Frees a live graph, at once.</summary>
    /// <param name="id">Its id.</param>
    public void ReleaseGraph(string id)
    {
        ArgumentNullException.ThrowIfNull(id);
        _state.Graphs.Release(id);
    }

    /// <summary>Describes the tree.</summary>
    /// <param name="path">The submodule to begin at; empty is the whole.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<ModuleDescription> DescribeAsync(string path, CancellationToken cancellationToken) => Read(() =>
    {
        var node = _state.Tree.Find(path);
        var policy = new TrainPolicy(_state.Tree.Policy.NormEval, _state.Tree.Policy.Frozen) { Rules = _state.Tree.Policy.Rules };
        return new ModuleDescription(Summary, NodeDescriber.Describe(path, node, _state.Hooks.Plan), ModuleTree.Repr(node), policy);
    }, cancellationToken);

    /// <summary><c>nn.Module.train</c>; what the train policy holds stays in eval mode.</summary>
    /// <param name="target">The submodule.</param>
    /// <param name="mode">True is training, false is eval.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<ModuleSummary> TrainAsync(ChangeTarget target, bool mode, CancellationToken cancellationToken) => Change(target.IfGeneration, () =>
    {
        _state.Tree.Find(target.Path).Train(mode);
        return Refreshed();
    }, cancellationToken);

    /// <summary>Replaces what <c>train(True)</c> must leave alone, and applies it at once.</summary>
    /// <param name="policy">The new policy.</param>
    /// <param name="ifGeneration">The generation that the module must be at; null takes any.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<ModuleSummary> SetTrainPolicyAsync(TrainPolicy policy, ulong? ifGeneration, CancellationToken cancellationToken) => Change(ifGeneration, () =>
    {
        _state.Tree.Policy.Set(policy.NormEval, policy.Frozen, policy.Rules);
        return Refreshed();
    }, cancellationToken);

    /// <summary><c>nn.Module.requires_grad_</c>.</summary>
    /// <param name="target">The submodule.</param>
    /// <param name="requiresGrad">Whether autograd is to follow the parameters.</param>
    /// <param name="parameters">Only those that match one of these patterns; empty is all.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<ModuleSummary> RequiresGradAsync(
        ChangeTarget target, bool requiresGrad, IReadOnlyList<string> parameters, CancellationToken cancellationToken) => Change(target.IfGeneration, () =>
    {
        ParameterSelection.RequiresGrad(_state.Tree.Find(target.Path), requiresGrad, parameters);
        return Refreshed();
    }, cancellationToken);

    /// <summary>Converts parameters, gradients, buffers and the state of optimizers; live graphs are invalidated.</summary>
    /// <param name="target">The submodule.</param>
    /// <param name="plan">Which of the conversions.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<ConversionOutcome> ConvertAsync(ChangeTarget target, ConversionPlan plan, CancellationToken cancellationToken) => Change(target.IfGeneration, () =>
    {
        plan.Check(_host.Options.Device);
        var subtree = _state.Tree.Find(target.Path);
        var warnings = plan.Warnings(subtree);
        _state.Convert(subtree, plan);
        return new ConversionOutcome(Summary, warnings);
    }, cancellationToken);

    /// <summary>Applies an initialiser, or <c>reset_parameters</c>, to the submodules that a filter selects, children first.</summary>
    /// <param name="target">The submodule to walk.</param>
    /// <param name="plan">The filter and the initialiser.</param>
    /// <param name="seed">Seed for this call alone; null draws from the generator in force.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<ApplyOutcome> ApplyAsync(ChangeTarget target, ApplyPlan plan, long? seed, CancellationToken cancellationToken) => Change(target.IfGeneration, () =>
    {
        var subtree = _state.Tree.Find(target.Path);
        var applied = _state.DrawSurely(() => Initializers.Apply(subtree, plan), seed).ToHashSet(StringComparer.Ordinal);
        _state.Changed();
        return new ApplyOutcome(Summary, [.. ModuleTree.WalkChildrenFirst(subtree).Select(at => new ApplyVisit(at.Path, $"{at.Node.TypeName}({at.Node.ExtraRepr})", applied.Contains(at.Path)))]);
    }, cancellationToken);

    /// <summary>Runs something that only reads the module, beside others that do.</summary>
    internal Task<T> Read<T>(Func<T> work, CancellationToken cancellationToken) => Run(GateMode.Shared, null, work, null, cancellationToken);

    /// <summary>Runs something that changes the module, alone.</summary>
    /// <param name="ifGeneration">The generation that the module must be at; null takes any.</param>
    /// <param name="work">What changes it.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    /// <param name="isKept">Whether a snapshot holds what it changes: else it holds no word of the call, so that a repeat after a restart is done again.</param>
    internal Task<T> Change<T>(ulong? ifGeneration, Func<T> work, CancellationToken cancellationToken, bool isKept = true) =>
        Run(GateMode.Exclusive, ifGeneration, work, null, cancellationToken, isKept);

    private Task<T> WithTensors<T>(
        CallInputs? inputs, IReadOnlyList<TensorInput> others, string othersPrefix, string othersField, CallHooks? hooks, Func<CallTensors, HeldModules?, T> work, CancellationToken cancellationToken)
    {
        CallTensors tensors;
        try
        {
            tensors = CallTensors.Import(_host, Name, inputs, others, othersPrefix, othersField, mayShare: true);
        }
        catch (EngineException exception)
        {
            hooks?.Dispose();
            return Task.FromException<T>(exception);
        }

        if (NeedsOthers(hooks))
        {
            HeldModules? held = null;
            // Its gate is held alone, as any change's.
            var once = OnceCall.Current;
            var call = new LaneCall<T>(GateMode.Shared, () => _state.Calls.Run(once, () => work(tensors, held)), Release);
            return WithOthers(call, taken => held = taken, () => GateMode.Exclusive, hooks, cancellationToken);
        }

        return Run(GateMode.Exclusive, null, () => work(tensors, null), Release, cancellationToken);

        void Release()
        {
            tensors.Dispose();
            hooks?.Dispose();
        }
    }

    private Task<T> Run<T>(GateMode mode, ulong? ifGeneration, Func<T> work, Action? release, CancellationToken cancellationToken, bool isKept = true)
    {
        var once = mode == GateMode.Exclusive && isKept ? OnceCall.Current : null;
        var call = new LaneCall<T>(mode, () => once is null ? Turn() : _state.Calls.Run(once, Turn), release);
        try
        {
            call.Enter(_gate, cancellationToken);
        }
        catch (EngineException exception)
        {
            return Task.FromException<T>(exception);
        }

        return call.Task;

        T Turn()
        {
            _state.Begin(ifGeneration);
            return work();
        }
    }

    private ModuleSummary Refreshed()
    {
        _state.Refresh();
        return Summary;
    }
}
