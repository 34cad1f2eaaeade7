using Sconce.V1;

namespace Sconce.Client;

/// <summary>What a training step does besides forward, loss, backward and step.</summary>
public sealed record TrainStepOptions
{
    /// <summary>Name of the optimizer; empty is "default".</summary>
    public string Optimizer { get; init; } = "";

    /// <summary>Reset the gradients before backward; false adds to those there are.</summary>
    public bool ZeroGrad { get; init; } = true;

    /// <summary>Clip the gradients before the step, e.g. <c>new() { MaxNorm = 1 }</c>; null clips nothing.</summary>
    public GradientClip? Clip { get; init; }

    /// <summary>Step the optimizer's scheduler afterwards.</summary>
    public bool SchedulerStep { get; init; }

    /// <summary>Return the module's output too.</summary>
    public bool ReturnOutput { get; init; }

    /// <summary>Hooks for this call alone, in order: see <see cref="Sconce.Client.Hooks"/>.</summary>
    public IReadOnlyList<Hook> Hooks { get; init; } = [];
}

/// <summary>What a training step did.</summary>
/// <param name="Loss">The loss before the step (its mean over elements where its reduction is "none").</param>
/// <param name="GradNorm">Total norm of the gradients before clipping; null where they were not clipped by norm.</param>
/// <param name="Output">What the module returned; null unless asked for.</param>
/// <param name="Generation">The module's new generation.</param>
/// <param name="Steps">Steps that the optimizer has taken.</param>
public sealed record TrainStepResult(double Loss, double? GradNorm, RemoteValue? Output, ulong Generation, ulong Steps)
{
    /// <summary>What hooks have to say.</summary>
    public HookResults Hooks { get; init; } = HookResults.Empty;

    internal static TrainStepResult From(TrainStepResponse response) => new(
        response.Loss,
        response.HasGradNorm ? response.GradNorm : null,
        response.Output is null ? null : new RemoteValue(response.Output, response.Generation),
        response.Generation,
        response.Steps)
    {
        Hooks = HookResults.From(response.Hooks),
    };
}

/// <summary>What a forward and backward of one micro-batch gave.</summary>
/// <param name="Loss">The loss, not scaled (its mean over elements where its reduction is "none").</param>
/// <param name="Output">What the module returned; null unless asked for.</param>
/// <param name="Generation">Generation of the module.</param>
public sealed record ForwardBackwardResult(double Loss, RemoteValue? Output, ulong Generation)
{
    /// <summary>What hooks have to say.</summary>
    public HookResults Hooks { get; init; } = HookResults.Empty;
}

/// <summary>One batch of a <see cref="TrainStream"/>.</summary>
/// <param name="Inputs">Inputs of the module.</param>
/// <param name="Targets">What the loss takes after the module's outputs.</param>
public sealed record TrainBatch(Inputs Inputs, Inputs Targets)
{
    /// <summary>
    /// The id under which the step is taken once, for a caller that repeats steps after a crash of the server or of its own: a repeat is the
    /// same batch with the same id. Null lets the client choose one, which covers its own retries.
    /// </summary>
    public string? RequestId { get; init; }
}
