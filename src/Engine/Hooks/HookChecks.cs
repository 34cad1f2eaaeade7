using System.Globalization;
using Sconce.Engine.Execution;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Hooks;

/// <summary>Checks of a hook that need no tensor and no module: which actions its site can take, and numbers in their ranges. All faults are told at once.</summary>
internal sealed class HookChecks
{
    private readonly List<FieldViolation> _wrong = [];
    private readonly HookSpec _spec;
    private readonly string _field;
    private readonly bool _inline;

    private HookChecks(HookSpec spec, string field, bool inline) => (_spec, _field, _inline) = (spec, field, inline);

    /// <summary>Checks a spec.</summary>
    /// <param name="spec">The spec.</param>
    /// <param name="field">Where it stands in the request.</param>
    /// <param name="inline">Whether it goes with one call.</param>
    /// <exception cref="EngineException">Something is wrong: all of it is named.</exception>
    public static void Check(HookSpec spec, string field, bool inline)
    {
        var checks = new HookChecks(spec, field, inline);
        checks.Run();
        if (checks._wrong.Count > 0)
        {
            throw EngineException.Invalid(checks._wrong, "BAD_HOOK");
        }
    }

    private void Run()
    {
        HookLimits.Check(_spec, Add);
        if (_wrong.Count > 0)
        {
            // The checks below look at every entry, some of them at every pair.
            return;
        }

        if (_spec.Id.Length > 0)
        {
            Id(_spec.Id, "id");
        }

        if (_spec.Site == HookSite.None || !Enum.IsDefined(_spec.Site))
        {
            Add("site", $"is {(int)_spec.Site}, which is no site; expected one of {string.Join(", ", Enum.GetValues<HookSite>().Skip(1).Select(site => $"{(int)site} ({site})"))}");
            return;
        }

        if (_spec.TensorIndex is not null && !_spec.IsForward && !_spec.IsBackward)
        {
            Add("tensor_index", $"is set; only the forward and backward sites have several tensors, {_spec.Site} chooses by names");
        }

        if (_spec.Names.Count > 0 && (_spec.IsForward || _spec.IsBackward))
        {
            Add("names", $"is set; {_spec.Site} chooses by tensor_index, names are for parameters and state-dict keys");
        }

        if (_spec.Target.Kind != HookTargetKind.Path && _spec.Target.Text.Length == 0)
        {
            Add("target", "is an empty pattern or type; leave the target out for the module itself");
        }

        if (_inline && _spec.Session.Length > 0)
        {
            Add("session", "is set; a hook of one call goes with its call");
        }

        When();
        if (_spec.Select is { } select)
        {
            Select(select);
        }

        Actions();
    }

    private void When()
    {
        var when = _spec.When;
        if (when.Every == 0)
        {
            Add("when.every", "is 0; it must be >= 1");
        }

        if (when.EndCall is { } end && end <= when.FirstCall)
        {
            Add("when.end_call", $"is {end}; it must be > first_call, which is {when.FirstCall}");
        }

        if (when.MaxFires == 0)
        {
            Add("when.max_fires", "is 0; it must be >= 1");
        }
    }

    private void Select(HookSelect select)
    {
        if (_spec.IsState)
        {
            Add("select", $"is set; {_spec.Site} sees whole entries");
        }

        if (select.Split is { Parts: 0 })
        {
            Add("select.split.parts", "is 0; it must be >= 1");
        }

        for (var i = 0; i < select.Dims.Count; i++)
        {
            var dim = select.Dims[i];
            var field = $"select.dims[{i}]";
            if (dim is { Index: null, Slice: null, Indexes: null })
            {
                Add(field, "has neither index, slice nor indexes; set one of them");
            }
            else if (dim.Slice is { Step: < 1 } slice)
            {
                Add($"{field}.slice.step", $"is {slice.Step}; it must be >= 1");
            }
            else if (dim.Indexes is { Count: 0 })
            {
                Add($"{field}.indexes", "is empty");
            }

            if (select.Dims.Take(i).Any(before => before.Dim == dim.Dim))
            {
                Add($"{field}.dim", $"is {dim.Dim}, which an entry before it has too; give each dimension once");
            }
        }
    }

    private void Actions()
    {
        var ended = false;
        for (var i = 0; i < _spec.Actions.Count; i++)
        {
            var action = _spec.Actions[i];
            var field = $"actions[{i}].{action.Name}";
            Site(action, field);
            if (ended && action is not (CaptureAction or ReduceAction))
            {
                Add(field, "comes after skip or stop, which end the hook's edits");
            }

            ended |= action is SkipAction or StopAction;
            if (action.Operand is { } operand)
            {
                Operand(operand, $"{field}.{action.OperandField}", action);
            }

            if (action.To is { } to)
            {
                Destination(to, $"{field}.to");
            }

            Numbers(action, field);
        }
    }

    private void Site(HookAction action, string field)
    {
        var fits = action switch
        {
            RenameAction or DropAction or CastAction => _spec.IsState,
            SkipAction => _spec.Site == HookSite.ForwardPre,
            StopAction or CallModuleAction or CaptureAction { Through: not null } => _spec.IsForward,
            _ => true,
        };
        if (!fits)
        {
            Add(field, $"cannot stand at {_spec.Site}; it is for {(action is RenameAction or DropAction or CastAction ? "the state-dict sites" : action is SkipAction ? nameof(HookSite.ForwardPre) : "the forward sites")}");
        }

        if (action is SkipAction && _spec.Select is not null)
        {
            Add("select", "is set together with skip, which takes the whole tensor");
        }

        if (action.Calls is { } other)
        {
            Id(other.Module, $"{field}.{(action is CaptureAction ? "through" : "module")}.module");
        }
    }

    private void Operand(HookOperand operand, string field, HookAction action)
    {
        if (operand is { Scalar: null, Tensor: null, Slot: null, State: null })
        {
            Add(field, "is not set; give a scalar, a tensor, a slot or a state key");
        }
        else if (operand.Tensor is { IsNone: true })
        {
            Add($"{field}.tensor", "holds no tensor; give its data or a kept_id");
        }
        else if (operand.Slot is { } slot)
        {
            Slot(slot, $"{field}.slot");
        }
        else if (action is ProjectOutAction && operand.Scalar is not null)
        {
            Add(field, "is a number; a direction is a tensor of one dimension");
        }
    }

    private void Destination(HookDestination to, string field)
    {
        if (to.Response && _spec.IsState)
        {
            Add($"{field}.response", $"is set; no answer carries captures of {_spec.Site}: watch them, keep them or fill a slot");
        }

        if (_inline && to.IsDefault && _spec.IsState)
        {
            Add(field, "is not set");
        }

        if (to.Watch && _inline)
        {
            Add($"{field}.watch", "is set; only registered hooks are watched, the captures of a call come with its answer");
        }

        if (to.Keep.Length > 0)
        {
            Id(to.Keep, $"{field}.keep");
        }
        else if (to.Ttl is not null)
        {
            Add($"{field}.ttl", "is set without keep, which it belongs to");
        }

        if (to.Slot.Length > 0)
        {
            Slot(to.Slot, $"{field}.slot");
        }
    }

    private void Slot(string slot, string field)
    {
        if (_spec.IsState)
        {
            Add(field, $"is set; state dicts are read beside forwards, so {_spec.Site} takes no slots: use a kept tensor");
        }

        Id(slot, field);
    }

    private void Numbers(HookAction action, string field)
    {
        switch (action)
        {
            case AddAction { Scale: var scale }:
                Require(double.IsFinite(scale), $"{field}.scale", scale, "finite");
                break;
            case LerpAction { Weight: var weight }:
                Require(double.IsFinite(weight), $"{field}.weight", weight, "finite");
                break;
            case ClampAction clamp:
                Clamp(clamp, field);
                break;
            case AddNoiseAction { Std: var std }:
                Require(double.IsFinite(std) && std >= 0, $"{field}.std", std, ">= 0 and finite");
                break;
            case ClipNormAction clip:
                Require(clip.MaxNorm > 0 && double.IsFinite(clip.MaxNorm), $"{field}.max_norm", clip.MaxNorm, "> 0 and finite");
                Require(clip.NormType > 0, $"{field}.norm_type", clip.NormType, "> 0");
                break;
            case ReduceAction reduce:
                Reduce(reduce, field);
                break;
            case RenameAction { Replacement: var replacement } when replacement.Any(char.IsControl):
                Add($"{field}.replacement", "holds a control character, which no key does");
                break;
            case CastAction { Type: var type } when type == ElementType.None || !type.IsDefined():
                Add($"{field}.dtype", $"is {(int)type}, which is no dtype");
                break;
        }
    }

    private void Clamp(ClampAction clamp, string field)
    {
        if (clamp is { Min: null, Max: null })
        {
            Add(field, "has neither min nor max; set at least one");
        }

        Require(clamp.Min is not { } min || !double.IsNaN(min), $"{field}.min", clamp.Min ?? 0, "a number");
        Require(clamp.Max is not { } max || !double.IsNaN(max), $"{field}.max", clamp.Max ?? 0, "a number");
        Require(!(clamp.Min > clamp.Max), $"{field}.min", clamp.Min ?? 0, $"<= max, which is {Text(clamp.Max ?? 0)}");
    }

    private void Reduce(ReduceAction reduce, string field)
    {
        if (reduce.Statistics.Count == 0)
        {
            Add($"{field}.statistics", "is empty; name at least one");
        }

        for (var i = 0; i < reduce.Statistics.Count; i++)
        {
            var statistic = reduce.Statistics[i];
            if (statistic == HookStatistic.None || !Enum.IsDefined(statistic))
            {
                Add($"{field}.statistics[{i}]", $"is {(int)statistic}, which is no statistic");
            }
            else if (reduce.Statistics.Take(i).Contains(statistic))
            {
                Add($"{field}.statistics[{i}]", $"is {statistic}, which is named before");
            }
            else if (statistic is HookStatistic.Histogram or HookStatistic.TopK && reduce.Dims.Count > 0)
            {
                Add($"{field}.dims", $"is set; {statistic} is over all elements");
            }
        }

        if (reduce.Dims.Distinct().Count() != reduce.Dims.Count)
        {
            Add($"{field}.dims", "names a dimension twice");
        }

        if (reduce.Bins > 65_536)
        {
            Add($"{field}.bins", $"is {reduce.Bins}; it must be 1 to 65536");
        }

        if (reduce.HistogramMin is null != reduce.HistogramMax is null)
        {
            Add($"{field}.histogram_{(reduce.HistogramMin is null ? "min" : "max")}", "is not set though the other end of the range is");
        }
        else if (reduce.HistogramMin is { } least && reduce.HistogramMax is { } most)
        {
            Require(double.IsFinite(least) && least <= most, $"{field}.histogram_min", least, $"finite and <= histogram_max, which is {Text(most)}");
            Require(double.IsFinite(most), $"{field}.histogram_max", most, "finite");
        }

        if ((reduce.Where.Keep.Length > 0 || reduce.Where.Slot.Length > 0) && reduce.Statistics.Count != 1)
        {
            Add($"{field}.to", $"keeps one tensor, and {reduce.Statistics.Count} statistics are asked for; name one");
        }
    }

    private void Require(bool holds, string field, double value, string expected)
    {
        if (!holds)
        {
            Add(field, $"is {Text(value)}; it must be {expected}");
        }
    }

    private void Id(string id, string field)
    {
        try
        {
            Ids.Check(id, $"{_field}.{field}");
        }
        catch (EngineException exception)
        {
            _wrong.AddRange(exception.Fields);
        }
    }

    private void Add(string field, string message) => _wrong.Add(new($"{_field}.{field}", message));

    private static string Text(double value) => value.ToString(CultureInfo.InvariantCulture);
}
