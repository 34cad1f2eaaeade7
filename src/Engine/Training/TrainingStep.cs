using System.Globalization;
using Sconce.Engine.Catalog;
using Sconce.Engine.Execution;
using Sconce.Engine.Hooks;
using Sconce.Engine.Modules;
using Sconce.Engine.PlugIns;
using Sconce.Engine.Tensors;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.Training;

/// <summary>What a training call computed.</summary>
/// <param name="Loss">The loss; its mean over elements where it is not reduced.</param>
/// <param name="GradNorm">With clipping by norm: the total norm before.</param>
/// <param name="Output">Where asked for: what the module returned, detached, in the caller's dispose scope.</param>
public sealed record StepOutcome(double Loss, double? GradNorm, TensorTree? Output);

/// <summary>One batch to learn from.</summary>
/// <param name="Node">The module that is called: the whole, or a part.</param>
/// <param name="Path">Its path, for errors.</param>
/// <param name="Inputs">What it is called with.</param>
/// <param name="Loss">The loss.</param>
/// <param name="Targets">What the loss takes besides the output.</param>
/// <param name="ReturnOutput">Whether the output is wanted.</param>
public sealed record TrainingBatch(ModuleNode Node, string Path, CallArguments Inputs, LossFunction Loss, IReadOnlyList<Tensor> Targets, bool ReturnOutput = false)
{
    /// <summary>The hooks that the call meets; null where there are none.</summary>
    internal HookRun? Hooks { get; init; }

    /// <summary>Most bytes that the output may take in an answer. One that is larger is refused before anything is changed.</summary>
    public long MaxAnswerBytes { get; init; } = long.MaxValue;

    /// <summary>What large results are asked of and charged to; null where nobody counts.</summary>
    internal CallMemory? Memory { get; init; }
}

/// <summary>How a step goes on after the loss.</summary>
/// <param name="Optimizer">What steps.</param>
/// <param name="ZeroGrad">Whether the module's gradients are reset before backward; else they add up.</param>
/// <param name="Clip">How gradients are clipped before the step; null for not at all.</param>
/// <param name="SchedulerStep">Whether the optimizer's scheduler steps too.</param>
public sealed record StepOptions(HostedOptimizer Optimizer, bool ZeroGrad = true, GradientClip? Clip = null, bool SchedulerStep = false);

/// <summary>Forward, loss, backward and step, on the lane's thread.</summary>
public static class TrainingStep
{
    /// <summary>Forward, loss and backward: adds to the gradients.</summary>
    /// <param name="tree">The module whose parameters gradients are added to.</param>
    /// <param name="batch">The batch.</param>
    /// <param name="scale">The loss is multiplied by this before backward; the loss returned is not.</param>
    /// <exception cref="EngineException">The inputs, the targets or the scale are wrong, or nothing requires a gradient.</exception>
    public static StepOutcome ForwardBackward(ModuleTree tree, TrainingBatch batch, double scale = 1)
    {
        if (!double.IsFinite(scale))
        {
            throw EngineException.Invalid("loss_scale", string.Create(CultureInfo.InvariantCulture, $"is {scale}; it must be finite"));
        }

        var (outcome, before) = Backward(tree, batch, scale, reset: false);
        before.Dispose();
        return outcome;
    }

    /// <summary>One training step: forward, loss, zero_grad, backward, clip, step and scheduler step.</summary>
    /// <param name="tree">The module whose gradients are reset and clipped.</param>
    /// <param name="batch">The batch.</param>
    /// <param name="options">How it goes on.</param>
    /// <exception cref="EngineException">As for <see cref="ForwardBackward"/>, or there is no scheduler to step, or the optimizer cannot step; then nothing has changed.</exception>
    public static StepOutcome Run(ModuleTree tree, TrainingBatch batch, StepOptions options)
    {
        ArgumentNullException.ThrowIfNull(tree);
        ArgumentNullException.ThrowIfNull(batch);
        ArgumentNullException.ThrowIfNull(options);
        options.Clip?.Check();
        if (options.SchedulerStep)
        {
            options.Optimizer.CheckSchedulerStep();
        }

        var outcome = options.Optimizer.NeedsClosure ? StepWithClosure(tree, batch, options) : Step(tree, batch, options);
        if (options.SchedulerStep)
        {
            options.Optimizer.SchedulerStep();
        }

        return outcome;
    }

    private static StepOutcome Step(ModuleTree tree, TrainingBatch batch, StepOptions options)
    {
        var (outcome, before) = Backward(tree, batch, 1, options.ZeroGrad);
        using (before)
        {
            try
            {
                if (options.Clip is { } clip)
                {
                    // A step that cannot be must not have clipped, which changes gradients in place.
                    options.Optimizer.CheckStep();
                    outcome = outcome with { GradNorm = Gradients.Clip(tree.Root, clip) };
                }

                options.Optimizer.Step();
                return outcome;
            }
            catch
            {
                before.Restore();
                throw;
            }
        }
    }

    private static StepOutcome StepWithClosure(ModuleTree tree, TrainingBatch batch, StepOptions options)
    {
        if (!options.ZeroGrad)
        {
            throw EngineException.Invalid("zero_grad", $"must be true with {options.Optimizer.Type}, which computes the gradients several times in a step");
        }

        // The optimizer frees what a step makes; the output is to outlive it.
        using var scope = NewDisposeScope();
        StepOutcome? first = null;
        GradientsBefore? atFirst = null;
        try
        {
            _ = options.Optimizer.StepWithClosure(() =>
            {
                // The caller gets the output and the norm of the first evaluation, which are those before the step.
                var (outcome, before) = Backward(tree, first is null ? batch : batch with { ReturnOutput = false }, 1, reset: true);
                if (atFirst is null)
                {
                    atFirst = before;
                }
                else
                {
                    before.Dispose();
                }

                var norm = options.Clip is null ? null : Gradients.Clip(tree.Root, options.Clip);
                first ??= outcome with { GradNorm = norm, Output = outcome.Output?.Map(tensor => tensor.MoveToOtherDisposeScope(scope)) };
                return outcome.Loss;
            });
            return first! with { Output = first.Output?.Map(tensor => tensor.MoveToOuterDisposeScope()) };
        }
        catch
        {
            atFirst?.Restore();
            throw;
        }
        finally
        {
            atFirst?.Dispose();
        }
    }

    private static (StepOutcome Outcome, GradientsBefore Before) Backward(ModuleTree tree, TrainingBatch batch, double scale, bool reset)
    {
        using var recording = enable_grad();
        using var scope = NewDisposeScope();
        using var memory = batch.Memory;
        var output = batch.Node.Call(batch.Inputs, new CallContext(batch.Path) { Memory = memory, Hooks = batch.Hooks });
        if (batch.ReturnOutput)
        {
            TensorSize.CheckAnswer(output, batch.MaxAnswerBytes);
            batch.Hooks?.MakeRoom(output);
        }

        // Most losses broadcast numbers against numbers.
        if (output.Tensor is { } prediction && batch.Targets is [var target, ..] && target.is_floating_point())
        {
            memory?.Need(Promotion.ElementSize(prediction, target), ResultShape.Broadcast(prediction, target));
        }

        var loss = batch.Loss.Compute(output, batch.Targets);
        if (loss.numel() != 1)
        {
            loss = loss.mean();
        }

        if (!loss.requires_grad)
        {
            throw EngineException.Precondition("NOTHING_REQUIRES_GRAD",
                "no parameter that the loss depends on requires a gradient; set some with RequiresGrad, or release them from the train policy");
        }

        var before = Gradients.Backward(tree, reset, () =>
        {
            FunctionGuard.Run(() => (scale == 1 ? loss : loss.mul(scale)).backward());
            ParameterGradients.Finish(batch.Hooks, batch.Hooks);
        }, exception => CallFailure.TranslateBackward(exception, batch.Node.Display(batch.Path)));
        try
        {
            var value = loss.detach().to(ScalarType.Float64).ToDouble();
            return (new StepOutcome(value, null, batch.ReturnOutput ? output.Map(tensor => tensor.detach().MoveToOuterDisposeScope()) : null), before);
        }
        catch
        {
            using (before)
            {
                before.Restore();
            }

            throw;
        }
    }
}
