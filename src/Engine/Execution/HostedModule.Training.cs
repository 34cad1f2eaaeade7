using Sconce.Engine.Hooks;
using Sconce.Engine.Tensors;
using Sconce.Engine.Training;

namespace Sconce.Engine.Execution;

/// <content>Gradients, optimizers and training steps.</content>
public sealed partial class HostedModule
{
    /// <summary><c>nn.Module.zero_grad</c>.</summary>
    /// <param name="target">The submodule.</param>
    /// <param name="setToNone">True sets gradients to None; false zeroes, detaches and keeps them.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<ModuleSummary> ZeroGradAsync(ChangeTarget target, bool setToNone, CancellationToken cancellationToken) => Change(target.IfGeneration, () =>
    {
        Gradients.Zero(_state.Tree.Find(target.Path), setToNone);
        _state.SettleGradients();
        return Summary;
    }, cancellationToken);

    /// <summary>Clips gradients in place.</summary>
    /// <param name="target">The submodule.</param>
    /// <param name="clip">How.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    /// <returns>With a norm: the total norm before clipping.</returns>
    public Task<double?> ClipGradientsAsync(ChangeTarget target, GradientClip clip, CancellationToken cancellationToken) =>
        Change(target.IfGeneration, () => Gradients.Clip(_state.Tree.Find(target.Path), clip), cancellationToken);

    /// <summary>Copies the gradients that there are, by parameter name.</summary>
    /// <param name="path">The submodule; names are relative to it.</param>
    /// <param name="parameters">Only parameters that match one of these patterns; empty is all.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<StateSnapshot> GetGradientsAsync(string path, IReadOnlyList<string> parameters, CancellationToken cancellationToken) => Read(() =>
        StateSnapshot.Copy(
            [.. Gradients.Collect(_state.Tree.Find(path), parameters).Select(entry => (entry.Key, entry.Tensor))],
            _host.Ledger, "a copy of the gradients of module", Name, _state.Generation),
        cancellationToken);

    /// <summary>Forward, loss and backward: adds to the gradients and steps nothing.</summary>
    /// <param name="call">The call.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<StepResult> ForwardBackwardAsync(ForwardBackwardCall call, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(call);
        return WithLoss(call.Loss, call.Inputs, call.Hooks, call.Targets,
            (loss, tensors, hooks) => TrainingRun.ForwardBackward(_state, call, loss, tensors, hooks), cancellationToken);
    }

    /// <summary>Forward, loss, zero_grad, backward, clip, step and scheduler step.</summary>
    /// <param name="call">The call.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<StepResult> TrainStepAsync(TrainStepCall call, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(call);
        return WithLoss(call.Loss, call.Inputs, call.Hooks, call.Targets,
            (loss, tensors, hooks) => TrainingRun.Step(_state, call, loss, tensors, hooks), cancellationToken);
    }

    /// <summary>Makes an optimizer over parameters of the module.</summary>
    /// <param name="optimizer">Its name; empty means <c>default</c>.</param>
    /// <param name="type">PyTorch's type name.</param>
    /// <param name="args">Constructor arguments by PyTorch's names.</param>
    /// <param name="groups">Parameter groups; none means one group of all parameters.</param>
    /// <param name="ifGeneration">The generation that the module must be at; null takes any.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<OptimizerDescription> CreateOptimizerAsync(
        string optimizer, string type, IReadOnlyDictionary<string, object?> args, IReadOnlyList<ParamGroupSpec> groups, ulong? ifGeneration, CancellationToken cancellationToken) =>
        Change(ifGeneration, () =>
        {
            var made = _state.Optimizers.Create(optimizer, type, args, groups);
            _state.Refresh();
            return OptimizerDescription.Of(made);
        }, cancellationToken);

    /// <summary>Describes an optimizer and its scheduler.</summary>
    /// <param name="optimizer">Its name; empty means <c>default</c>.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<OptimizerDescription> GetOptimizerAsync(string optimizer, CancellationToken cancellationToken) =>
        Read(() => OptimizerDescription.Of(_state.Optimizers.Find(optimizer)), cancellationToken);

    /// <summary>Adds a parameter group.</summary>
    /// <param name="optimizer">The optimizer; empty means <c>default</c>.</param>
    /// <param name="group">The group.</param>
    /// <param name="ifGeneration">The generation that the module must be at; null takes any.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<OptimizerDescription> AddParamGroupAsync(string optimizer, ParamGroupSpec group, ulong? ifGeneration, CancellationToken cancellationToken) =>
        ChangeOptimizer(optimizer, ifGeneration, found =>
        {
            found.AddParamGroup(group);
            _state.Optimizers.Settle(found);
        }, cancellationToken);

    /// <summary>Deletes an optimizer and its scheduler.</summary>
    /// <param name="optimizer">The optimizer; empty means <c>default</c>.</param>
    /// <param name="ifGeneration">The generation that the module must be at; null takes any.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task DeleteOptimizerAsync(string optimizer, ulong? ifGeneration, CancellationToken cancellationToken) => Change(ifGeneration, () =>
    {
        _state.Optimizers.Delete(optimizer);
        return Refreshed();
    }, cancellationToken);

    /// <summary>Copies an optimizer's state in PyTorch's layout.</summary>
    /// <param name="optimizer">The optimizer; empty means <c>default</c>.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<OptimizerSnapshot> GetOptimizerStateAsync(string optimizer, CancellationToken cancellationToken) => Read(() =>
    {
        var state = _state.Optimizers.Find(optimizer).GetState();
        return new OptimizerSnapshot(state, StateSnapshot.Copy(state.Tensors, _host.Ledger, "a copy of the optimizer state of module", Name, _state.Generation));
    }, cancellationToken);

    /// <summary>Loads an optimizer's state in PyTorch's layout, all of it or nothing.</summary>
    /// <param name="optimizer">The optimizer; empty means <c>default</c>.</param>
    /// <param name="groups"><c>param_groups</c>.</param>
    /// <param name="scalars">State that is one number.</param>
    /// <param name="upload">State tensors that were received; they stay the caller's to dispose.</param>
    /// <param name="field">Where the state stands in the request.</param>
    /// <param name="ifGeneration">The generation that the module must be at; null takes any.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<OptimizerDescription> LoadOptimizerStateAsync(
        string optimizer, IReadOnlyList<StateGroup> groups, IReadOnlyDictionary<string, double> scalars, StateUpload upload, string field, ulong? ifGeneration, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(upload);
        return ChangeOptimizer(optimizer, ifGeneration, found =>
        {
            using var copies = new MemoryCharge(_host.Ledger, MemoryUse.State, "a load into an optimizer of module", Name, upload.TotalBytes);
            upload.Use(entries =>
            {
                found.LoadState(new OptimizerStateDict(groups, entries, scalars), field);
                return true;
            });
            _state.Optimizers.Settle(found);
        }, cancellationToken);
    }

    /// <summary>Steps an optimizer with the gradients there are.</summary>
    /// <param name="optimizer">The optimizer; empty means <c>default</c>.</param>
    /// <param name="clip">How the module's gradients are clipped first; null for not at all.</param>
    /// <param name="zeroGrad">Whether gradients are set to None afterwards.</param>
    /// <param name="ifGeneration">The generation that the module must be at; null takes any.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<OptimizerStepOutcome> OptimizerStepAsync(string optimizer, GradientClip? clip, bool zeroGrad, ulong? ifGeneration, CancellationToken cancellationToken) =>
        Change(ifGeneration, () =>
        {
            var found = _state.Optimizers.Find(optimizer);
            double? norm = null;
            if (clip is not null)
            {
                // A step that cannot be must not have clipped.
                found.CheckStep();
                norm = Gradients.Clip(_state.Tree.Root, clip);
            }

            _state.OrStepped(() =>
            {
                found.Step();
                return true;
            });
            if (zeroGrad)
            {
                Gradients.Zero(_state.Tree.Root, setToNone: true);
                _state.SettleGradients();
            }

            _state.StepTaken();
            return new OptimizerStepOutcome(_state.Generation, found.Steps, norm);
        }, cancellationToken);

    /// <summary>Sets the learning rate.</summary>
    /// <param name="optimizer">The optimizer; empty means <c>default</c>.</param>
    /// <param name="lr">The rate.</param>
    /// <param name="group">One parameter group; null sets all.</param>
    /// <param name="ifGeneration">The generation that the module must be at; null takes any.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<OptimizerDescription> SetLearningRateAsync(string optimizer, double lr, int? group, ulong? ifGeneration, CancellationToken cancellationToken) =>
        ChangeOptimizer(optimizer, ifGeneration, found => found.SetLearningRate(lr, group), cancellationToken);

    /// <summary>Makes the scheduler of an optimizer, in place of the one before.</summary>
    /// <param name="optimizer">The optimizer; empty means <c>default</c>.</param>
    /// <param name="type">PyTorch's type name.</param>
    /// <param name="args">Constructor arguments by PyTorch's names.</param>
    /// <param name="ifGeneration">The generation that the module must be at; null takes any.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<OptimizerDescription> CreateSchedulerAsync(
        string optimizer, string type, IReadOnlyDictionary<string, object?> args, ulong? ifGeneration, CancellationToken cancellationToken) =>
        ChangeOptimizer(optimizer, ifGeneration, found => found.CreateScheduler(type, args), cancellationToken);

    /// <summary>Steps the scheduler of an optimizer.</summary>
    /// <param name="optimizer">The optimizer; empty means <c>default</c>.</param>
    /// <param name="metric">What ReduceLROnPlateau watches; null for the others.</param>
    /// <param name="ifGeneration">The generation that the module must be at; null takes any.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<OptimizerDescription> SchedulerStepAsync(string optimizer, double? metric, ulong? ifGeneration, CancellationToken cancellationToken) =>
        ChangeOptimizer(optimizer, ifGeneration, found => found.SchedulerStep(metric), cancellationToken);

    private Task<OptimizerDescription> ChangeOptimizer(string optimizer, ulong? ifGeneration, Action<HostedOptimizer> change, CancellationToken cancellationToken) =>
        Change(ifGeneration, () =>
        {
            var found = _state.Optimizers.Find(optimizer);
            change(found);
            return OptimizerDescription.Of(found);
        }, cancellationToken);

    private Task<StepResult> WithLoss(
        LossSpec spec, CallInputs inputs, IReadOnlyList<HookSpec> specs, IReadOnlyList<TensorInput> targets, Func<LossFunction, CallTensors, HookRun?, StepResult> step, CancellationToken cancellationToken)
    {
        try
        {
            // Before any tensor is made: a loss that is misspelt needs no turn.
            var loss = LossFunction.Create(spec.Type, spec.Args, inputs.FieldPrefix + "loss");
            var hooks = CallHooks.Accept(specs, inputs.FieldPrefix + "hooks", _host, mayShare: true, MetInTraining);
            return WithTensors(inputs, targets, inputs.FieldPrefix, "targets", hooks,
                (tensors, held) => TrainingRun.WithHooks(_state, _host, hooks, held, run => step(loss, tensors, run)), cancellationToken);
        }
        catch (EngineException exception)
        {
            return Task.FromException<StepResult>(exception);
        }
    }
}
