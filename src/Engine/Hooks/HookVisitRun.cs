using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Hooks;

/// <summary>One visit of one hook to one tensor: its actions in order, observations last unless they asked to come first.</summary>
internal sealed class HookVisitRun(HookRun run, HookServices services, in HookVisit visit)
{
    private readonly HookVisit _visit = visit;
    private string _at = "select";
    private int _action;

    /// <summary>Whether the hook leaves the module out.</summary>
    public bool Skips { get; private set; }

    /// <summary>Then: the output in its place; null where that is the input.</summary>
    public Tensor? SkippedOutput { get; private set; }

    /// <summary>Runs the hook.</summary>
    /// <param name="value">The tensor.</param>
    /// <returns>What it makes of it; the same object where it changes nothing, or where it failed.</returns>
    public Tensor Run(Tensor value)
    {
        try
        {
            return RunActions(value);
        }
        catch (HookStopException)
        {
            throw;
        }
        catch (Exception exception) when (exception is EngineException || CallFailure.IsNative(exception))
        {
            Skips = false;
            run.Fail(_visit, _at, LaneFailure.Translate(exception));
            return value;
        }
    }

    private Tensor RunActions(Tensor value)
    {
        var spec = _visit.Hook.Spec;
        var part = spec.Select is null ? value : spec.Select.Take(value);
        Observe(part, beforeEdits: true);
        var edited = part;
        var stops = false;
        for (var i = 0; i < spec.Actions.Count; i++)
        {
            var action = spec.Actions[i];
            switch (action)
            {
                case CaptureAction or ReduceAction or RenameAction or DropAction:
                    break;
                case StopAction:
                    stops = true;
                    break;
                case SkipAction skip:
                    At(i);
                    Skips = true;
                    SkippedOutput = skip.Output is null ? null : Operand(i, value)?.clone() ?? HookEdits.Full(skip.Output, value);
                    break;
                case CastAction cast:
                    At(i);
                    edited = edited.is_complex() && !cast.Type.IsComplex()
                        ? throw EngineException.Invalid("dtype", $"is {cast.Type.Name()}, which {CallFailure.Describe(edited)} does not convert to")
                        : edited.to(cast.Type.ToScalarType());
                    break;
                case CallModuleAction other:
                    At(i);
                    edited = Through(other.Module, edited);
                    break;
                default:
                    At(i);
                    var number = i;
                    edited = HookEdits.Apply(action, edited, Operand(i, edited), () => Seed(number));
                    break;
            }
        }

        Observe(edited, beforeEdits: false);
        if (stops)
        {
            run.Stop(_visit.Hook);
        }

        _at = "select";
        return ReferenceEquals(edited, part) ? value : spec.Select is null ? edited : spec.Select.Put(value, edited);
    }

    private void Observe(Tensor part, bool beforeEdits)
    {
        var actions = _visit.Hook.Spec.Actions;
        for (var i = 0; i < actions.Count; i++)
        {
            if (actions[i] is CaptureAction capture && capture.BeforeEdits == beforeEdits && services.IsWanted(_visit.Hook, capture.Where))
            {
                At(i);
                using var seen = part.detach();
                // Charged before it exists.
                using var room = new MemoryCharge(services.Host.Ledger, MemoryUse.Hooks, "a capture of hook", _visit.Hook.Id, TensorSize.Of(seen));
                var taken = capture.Through is null ? seen.clone() : Through(capture.Through, seen).detach();
                room.Dispose();
                services.Deliver(run, _visit, i, capture.Where, [(HookStatistic.None, taken, null)]);
            }
            else if (actions[i] is ReduceAction reduce && reduce.BeforeEdits == beforeEdits && services.IsWanted(_visit.Hook, reduce.Where))
            {
                At(i);
                using var seen = part.detach();
                using (no_grad())
                {
                    services.Deliver(run, _visit, i, reduce.Where, HookStatistics.Take(reduce, seen));
                }
            }
        }
    }

    private Tensor Through(HookModuleRef other, Tensor value)
    {
        var output = services.CallModule(other, value);
        return output.shape.AsSpan().SequenceEqual(value.shape) || _visit.Hook.Spec.Actions[_action] is CaptureAction
            ? (output.dtype == value.dtype ? output : output.to(value.dtype))
            : throw EngineException.Invalid("module", $"{EngineException.Quote(other.Module)} makes {CallFailure.Describe(output)} of {CallFailure.Describe(value)}; what goes on must have the same shape");
    }

    private void At(int action)
    {
        _action = action;
        _at = $"actions[{action}].{_visit.Hook.Spec.Actions[action].Name}";
    }

    // The noise of two places that a glob matches must not be the same.
    private long Seed(int action) => _visit.Hook.NoiseSeed(action, _visit.Call, StableHash($"{_visit.Path}/{_visit.TensorIndex}/{_visit.Name}"));

    private Tensor? Operand(int action, Tensor value)
    {
        if (_visit.Hook.Spec.Actions[action].Operand is not { Scalar: null } operand)
        {
            return null;
        }

        if (operand.Slot is { } slot)
        {
            return services.ReadSlot(slot) ?? (services.IsTrial ? value
                : throw EngineException.Precondition("SLOT_EMPTY", $"the slot {EngineException.Quote(slot)} is empty; a capture with to.slot fills it"));
        }

        return operand.State is { } key ? services.State(key) : _visit.Hook.OperandTensor(action);
    }

    // FNV-1a: the same in every process, which string.GetHashCode is not.
    private static int StableHash(string text)
    {
        var hash = 2166136261u;
        foreach (var c in text)
        {
            hash = unchecked((hash ^ c) * 16777619u);
        }

        return unchecked((int)hash);
    }
}
