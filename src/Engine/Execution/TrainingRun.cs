using Sconce.Engine.Hooks;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using Sconce.Engine.Training;
using static TorchSharp.torch;

namespace Sconce.Engine.Execution;

/// <summary>Training calls on a lane. A call that fails leaves parameters, buffers and generation as they were.</summary>
internal static class TrainingRun
{
    public static StepResult ForwardBackward(ModuleState state, ForwardBackwardCall call, LossFunction loss, CallTensors tensors, HookRun? hooks)
    {
        state.Begin(call.IfGeneration);
        using var memory = state.NewCallMemory(MemoryUse.Outputs, recording: true);
        var batch = new TrainingBatch(state.Tree.Find(call.Path), call.Path, tensors.Arguments(call.Inputs), loss, Targets(tensors, call.Inputs), call.ReturnOutput) { MaxAnswerBytes = state.MaxAnswerBytes, Memory = memory, Hooks = hooks };
        state.ChargeGradients();
        var outcome = OrRestored(state, () => TrainingStep.ForwardBackward(state.Tree, batch, call.LossScale));
        return new StepResult { Loss = outcome.Loss, Output = Export(outcome, state, memory), Generation = state.Generation, Hooks = hooks?.TakeReport() ?? HookReport.Empty };
    }

    public static StepResult Step(ModuleState state, TrainStepCall call, LossFunction loss, CallTensors tensors, HookRun? hooks)
    {
        state.Begin(call.IfGeneration);
        using var memory = state.NewCallMemory(MemoryUse.Outputs, recording: true);
        var optimizer = state.Optimizers.Find(call.Optimizer, call.Inputs.FieldPrefix + "optimizer");
        if (optimizer.NeedsClosure && state.AnyShapeless)
        {
            throw LazyNode.NotYet(ModuleTree.Uninitialized(state.Tree.Root));
        }

        var batch = new TrainingBatch(state.Tree.Find(call.Path), call.Path, tensors.Arguments(call.Inputs), loss, Targets(tensors, call.Inputs), call.ReturnOutput) { MaxAnswerBytes = state.MaxAnswerBytes, Memory = memory, Hooks = hooks };
        state.ChargeGradients();
        var outcome = state.OrStepped(() => OrRestored(state, () => TrainingStep.Run(state.Tree, batch, new StepOptions(optimizer, call.ZeroGrad, call.Clip, call.SchedulerStep))));
        state.StepTaken();
        return new StepResult
        {
            Loss = outcome.Loss,
            GradNorm = outcome.GradNorm,
            Output = Export(outcome, state, memory),
            Generation = state.Generation,
            Steps = optimizer.Steps,
            Hooks = hooks?.TakeReport() ?? HookReport.Empty,
        };
    }

    /// <summary>Runs a training call with the hooks that it meets.</summary>
    public static StepResult WithHooks(ModuleState state, HostServices host, CallHooks? call, HeldModules? held, Func<HookRun?, StepResult> step)
    {
        var run = CallHooks.Plan(state, host, call, held?.States ?? HeldModules.None);
        if (run is null)
        {
            return step(null);
        }

        try
        {
            return held is null ? step(run) : held.OrRestored(() => step(run));
        }
        catch (HookStopException stop)
        {
            run.TakeReport().Dispose();
            throw EngineException.Precondition("HOOK_STOPPED",
                $"the hook {EngineException.Quote(stop.Hook)} stopped the forward, so there is no loss; remove it with RemoveHook, or let it act in eval mode only (when.training)",
                new ResourceRef("hook", stop.Hook));
        }
        catch
        {
            run.TakeReport().Dispose();
            throw;
        }
        finally
        {
            state.Hooks.TrimSlots();
        }
    }

    private static OutputValue? Export(StepOutcome outcome, ModuleState state, CallMemory memory)
    {
        if (outcome.Output is not { } output)
        {
            return null;
        }

        var exported = OutputValue.Export(output, state.MaxAnswerBytes);
        exported.Charge = memory.Keep(output);
        return exported;
    }

    private static Tensor[] Targets(CallTensors tensors, CallInputs inputs)
    {
        var none = Array.FindIndex(tensors.Others, target => target is null);
        return none < 0 ? Array.ConvertAll(tensors.Others, target => target!) : throw EngineException.Invalid(new FieldPath(inputs.FieldPrefix, "targets", none).ToString(), "is no tensor; a loss takes tensors");
    }

    /// <summary>Runs a training call; where it fails, the statistics that it moved are put back.</summary>
    private static T OrRestored<T>(ModuleState state, Func<T> work)
    {
        try
        {
            return state.OrRestored(() => state.Shaping(() => state.Draw(work)));
        }
        catch
        {
            state.SettleGradients();
            throw;
        }
    }
}
