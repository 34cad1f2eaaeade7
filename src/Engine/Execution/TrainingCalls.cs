using Sconce.Engine.Hooks;
using Sconce.Engine.Tensors;
using Sconce.Engine.Training;

namespace Sconce.Engine.Execution;

/// <summary>A loss by PyTorch's name.</summary>
/// <param name="Type">Its type, e.g. <c>CrossEntropyLoss</c>.</param>
/// <param name="Args">Its constructor's arguments, in the shape of JSON.</param>
public sealed record LossSpec(string Type, IReadOnlyDictionary<string, object?> Args);

/// <summary>Forward, loss and backward of one micro-batch.</summary>
public sealed class ForwardBackwardCall
{
    /// <summary>The submodule to call; empty is the whole.</summary>
    public string Path { get; init; } = "";

    /// <summary>Its inputs.</summary>
    public required CallInputs Inputs { get; init; }

    /// <summary>The loss.</summary>
    public required LossSpec Loss { get; init; }

    /// <summary>What the loss takes after the module's outputs.</summary>
    public IReadOnlyList<TensorInput> Targets { get; init; } = [];

    /// <summary>Whether the module's output is wanted too.</summary>
    public bool ReturnOutput { get; init; }

    /// <summary>Hooks for this call alone, in order.</summary>
    public IReadOnlyList<HookSpec> Hooks { get; init; } = [];

    /// <summary>The generation that the module must be at when the call's turn comes; null takes any.</summary>
    public ulong? IfGeneration { get; init; }

    /// <summary>The loss is multiplied by this before backward; the loss returned is not.</summary>
    public double LossScale { get; init; } = 1;
}

/// <summary>One training step.</summary>
public sealed class TrainStepCall
{
    /// <summary>The submodule to call; empty is the whole.</summary>
    public string Path { get; init; } = "";

    /// <summary>Its inputs.</summary>
    public required CallInputs Inputs { get; init; }

    /// <summary>The loss.</summary>
    public required LossSpec Loss { get; init; }

    /// <summary>What the loss takes after the module's outputs.</summary>
    public IReadOnlyList<TensorInput> Targets { get; init; } = [];

    /// <summary>Whether the module's output is wanted too.</summary>
    public bool ReturnOutput { get; init; }

    /// <summary>Hooks for this call alone, in order.</summary>
    public IReadOnlyList<HookSpec> Hooks { get; init; } = [];

    /// <summary>The generation that the module must be at when the call's turn comes; null takes any.</summary>
    public ulong? IfGeneration { get; init; }

    /// <summary>The optimizer; empty means <c>default</c>.</summary>
    public string Optimizer { get; init; } = "";

    /// <summary>Whether the module's gradients are reset before backward.</summary>
    public bool ZeroGrad { get; init; } = true;

    /// <summary>How gradients are clipped before the step; null for not at all.</summary>
    public GradientClip? Clip { get; init; }

    /// <summary>Whether the optimizer's scheduler steps afterwards.</summary>
    public bool SchedulerStep { get; init; }
}

/// <summary>What a training call computed.</summary>
public sealed class StepResult : IDisposable
{
    /// <summary>The loss, before the step where there was one.</summary>
    public required double Loss { get; init; }

    /// <summary>With clipping by norm: the total norm before.</summary>
    public double? GradNorm { get; init; }

    /// <summary>Where asked for: what the module returned.</summary>
    public OutputValue? Output { get; init; }

    /// <summary>The module's generation now.</summary>
    public required ulong Generation { get; init; }

    /// <summary>Steps taken by the optimizer; 0 where there is none.</summary>
    public long Steps { get; init; }

    /// <summary>What hooks have to say.</summary>
    public HookReport Hooks { get; init; } = HookReport.Empty;

    /// <inheritdoc/>
    public void Dispose()
    {
        Output?.Dispose();
        Hooks.Dispose();
    }
}

/// <summary>What a step of an optimizer did.</summary>
/// <param name="Generation">The module's new generation.</param>
/// <param name="Steps">Steps taken by the optimizer.</param>
/// <param name="GradNorm">With clipping by norm: the total norm before.</param>
public sealed record OptimizerStepOutcome(ulong Generation, long Steps, double? GradNorm);

/// <summary>What a load did.</summary>
/// <param name="MissingKeys">Keys of the module that were not given.</param>
/// <param name="UnexpectedKeys">Keys given that the module lacks.</param>
/// <param name="Generation">The module's new generation.</param>
/// <param name="LoadedTensors">How many tensors of the module were loaded.</param>
public sealed record LoadStateOutcome(IReadOnlyList<string> MissingKeys, IReadOnlyList<string> UnexpectedKeys, ulong Generation, int LoadedTensors);

/// <summary>An optimizer.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Type">Its type.</param>
/// <param name="Groups">Its parameter groups.</param>
/// <param name="Steps">Steps taken since it was made.</param>
/// <param name="Scheduler">Its scheduler, where it has one.</param>
public sealed record OptimizerDescription(string Name, string Type, IReadOnlyList<GroupDescription> Groups, long Steps, SchedulerDescription? Scheduler)
{
    internal static OptimizerDescription Of(HostedOptimizer optimizer) => new(optimizer.Name, optimizer.Type, optimizer.Groups, optimizer.Steps,
        optimizer.Scheduler is { } scheduler ? new SchedulerDescription(scheduler.Type, scheduler.Args, scheduler.Steps, scheduler.LastLearningRates) : null);
}

/// <summary>A learning-rate scheduler.</summary>
/// <param name="Type">Its type.</param>
/// <param name="Args">Its arguments.</param>
/// <param name="Steps">Steps taken.</param>
/// <param name="LastLr">Learning rate of each parameter group now.</param>
public sealed record SchedulerDescription(string Type, IReadOnlyDictionary<string, object?> Args, long Steps, IReadOnlyList<double> LastLr);

/// <summary>A copy of an optimizer's state, in PyTorch's layout. Charged to the ledger until disposed.</summary>
public sealed class OptimizerSnapshot : IDisposable
{
    internal OptimizerSnapshot(OptimizerStateDict state, StateSnapshot tensors) => (Groups, Scalars, Tensors) = (state.Groups, state.Scalars, tensors);

    /// <summary><c>param_groups</c>.</summary>
    public IReadOnlyList<StateGroup> Groups { get; }

    /// <summary>State that is one number, by <c>number.name</c>.</summary>
    public IReadOnlyDictionary<string, double> Scalars { get; }

    /// <summary>State tensors, likewise.</summary>
    public StateSnapshot Tensors { get; }

    /// <inheritdoc/>
    public void Dispose() => Tensors.Dispose();
}
