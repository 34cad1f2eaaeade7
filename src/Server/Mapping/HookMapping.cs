using Google.Protobuf.Collections;
using Google.Protobuf.WellKnownTypes;
using Sconce.Engine;
using Sconce.Engine.Hooks;

namespace Sconce.Server.Mapping;

/// <summary>Hooks in and out, and what they have to say.</summary>
internal static class HookMapping
{
    /// <summary>The hooks of one call.</summary>
    public static IReadOnlyList<HookSpec> ToHooks(RepeatedField<V1.Hook> hooks, string field)
    {
        if (hooks.Count == 0)
        {
            return [];
        }

        var specs = new HookSpec[hooks.Count];
        for (var i = 0; i < specs.Length; i++)
        {
            specs[i] = ToHook(hooks[i], $"{field}[{i}]");
        }

        return specs;
    }

    public static HookSpec ToHook(V1.Hook? hook, string field) => hook is null ? throw EngineException.Invalid(field, "is not set; give at least a site and an action") : new HookSpec
    {
        Id = hook.Id,
        Target = hook.TargetCase switch
        {
            V1.Hook.TargetOneofCase.Glob => new(HookTargetKind.Glob, hook.Glob),
            V1.Hook.TargetOneofCase.Type => new(HookTargetKind.Type, hook.Type),
            V1.Hook.TargetOneofCase.Isinstance => new(HookTargetKind.IsInstance, hook.Isinstance),
            _ => new(HookTargetKind.Path, hook.Path),
        },
        Site = (HookSite)hook.Site,
        TensorIndex = hook.HasTensorIndex ? hook.TensorIndex : null,
        Names = [.. hook.Names],
        When = hook.When is { } when ? ToWhen(when) : HookWhen.Always,
        Select = hook.Select is { } select ? ToSelect(select) : null,
        Actions = [.. hook.Actions.Select((action, i) => HookActionMapping.ToAction(action, $"{field}.actions[{i}]"))],
        Priority = hook.Priority,
        Session = hook.Session,
    };

    public static V1.HookInfo ToInfo(HookInfo info)
    {
        var spec = info.Spec;
        var hook = new V1.Hook
        {
            Id = spec.Id,
            Site = (V1.HookSite)spec.Site,
            Names = { spec.Names },
            Actions = { spec.Actions.Select(HookActionMapping.ToAction) },
            Priority = spec.Priority,
            Session = spec.Session,
        };
        switch (spec.Target.Kind)
        {
            case HookTargetKind.Glob:
                hook.Glob = spec.Target.Text;
                break;
            case HookTargetKind.Type:
                hook.Type = spec.Target.Text;
                break;
            case HookTargetKind.IsInstance:
                hook.Isinstance = spec.Target.Text;
                break;
            default:
                hook.Path = spec.Target.Text;
                break;
        }

        if (spec.TensorIndex is { } index)
        {
            hook.TensorIndex = index;
        }

        if (spec.When != HookWhen.Always)
        {
            hook.When = ToWhen(spec.When);
        }

        if (spec.Select is { } select)
        {
            hook.Select = ToSelect(select);
        }

        var result = new V1.HookInfo { Hook = hook, Paths = { info.Paths }, Fires = info.Fires, Registered = info.Registered.ToTimestamp() };
        if (info.Detached is { } failure)
        {
            result.Detached = ToFailure(failure);
        }

        return result;
    }

    /// <summary>What hooks have to say; null where there is nothing.</summary>
    public static V1.HookReport? ToReport(HookReport report, IResponseMemory memory) => report.IsEmpty ? null : new V1.HookReport
    {
        Captures = { report.Captures.Select(capture => ToCapture(capture, memory)) },
        Detached = { report.Detached.Select(ToFailure) },
        StoppedBy = report.StoppedBy,
    };

    public static V1.HookFailure ToFailure(HookFailure failure) => new() { Hook = failure.Hook, Path = failure.Path, Message = failure.Message };

    public static V1.HookCapture ToCapture(HookCapture capture, IResponseMemory memory)
    {
        var result = new V1.HookCapture
        {
            Hook = capture.Hook,
            Path = capture.Path,
            Site = (V1.HookSite)capture.Site,
            TensorIndex = capture.TensorIndex,
            Name = capture.Name,
            Call = capture.Call,
            Action = (uint)capture.Action,
        };
        if (capture.Tensor is { } tensor)
        {
            result.Tensor = TensorMapping.ToTensor(tensor, memory);
        }

        foreach (var statistic in capture.Statistics)
        {
            result.Statistics.Add(new V1.StatisticValue
            {
                Statistic = (V1.Statistic)statistic.Statistic,
                Value = TensorMapping.ToTensor(statistic.Value, memory),
                Indexes = statistic.Indexes is null ? null : TensorMapping.ToTensor(statistic.Indexes, memory),
            });
        }

        return result;
    }

    private static HookWhen ToWhen(V1.HookWhen when) => new(
        when.FirstCall, when.HasEndCall ? when.EndCall : null, when.HasEvery ? when.Every : 1, when.HasTraining ? when.Training : null, when.HasMaxFires ? when.MaxFires : null);

    private static V1.HookWhen ToWhen(HookWhen when)
    {
        var result = new V1.HookWhen { FirstCall = when.FirstCall, Every = when.Every };
        if (when.EndCall is { } end)
        {
            result.EndCall = end;
        }

        if (when.Training is { } training)
        {
            result.Training = training;
        }

        if (when.MaxFires is { } fires)
        {
            result.MaxFires = fires;
        }

        return result;
    }

    private static HookSelect ToSelect(V1.HookSelect select) => new(
        select.Split is { } split ? new HookSplit(split.Dim, split.Parts) : null,
        [
            .. select.Dims.Select(dim => new HookDim(dim.Dim)
            {
                Index = dim.HasIndex ? dim.Index : null,
                Slice = dim.SelectCase == V1.HookDim.SelectOneofCase.Slice
                    ? (dim.Slice.HasStart ? dim.Slice.Start : null, dim.Slice.HasStop ? dim.Slice.Stop : null, dim.Slice.HasStep ? dim.Slice.Step : 1)
                    : null,
                Indexes = dim.SelectCase == V1.HookDim.SelectOneofCase.Indexes ? [.. dim.Indexes.Values] : null,
            }),
        ]);

    private static V1.HookSelect ToSelect(HookSelect select)
    {
        var result = new V1.HookSelect();
        if (select.Split is { } split)
        {
            result.Split = new V1.HookSplit { Dim = split.Dim, Parts = split.Parts };
        }

        foreach (var dim in select.Dims)
        {
            var one = new V1.HookDim { Dim = dim.Dim };
            if (dim.Index is { } index)
            {
                one.Index = index;
            }
            else if (dim.Slice is { } slice)
            {
                one.Slice = new V1.HookSlice { Step = slice.Step };
                if (slice.Start is { } start)
                {
                    one.Slice.Start = start;
                }

                if (slice.Stop is { } stop)
                {
                    one.Slice.Stop = stop;
                }
            }
            else
            {
                one.Indexes = new V1.HookIndexes { Values = { dim.Indexes } };
            }

            result.Dims.Add(one);
        }

        return result;
    }
}
