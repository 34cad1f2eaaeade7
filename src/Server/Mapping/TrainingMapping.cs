using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Engine.Tensors;
using Sconce.Engine.Training;

namespace Sconce.Server.Mapping;

/// <summary>Losses, optimizers, schedulers and their state.</summary>
internal static class TrainingMapping
{
    public static LossSpec ToLoss(V1.Loss? loss, string prefix) =>
        loss is null ? throw EngineException.Invalid(prefix + "loss", "is not set; name a loss of torch.nn such as CrossEntropyLoss") : new LossSpec(loss.Type, StructMapping.ToArgs(loss.Args));

    public static GradientClip? ToClip(V1.GradientClip? clip, string field)
    {
        if (clip is null)
        {
            return null;
        }

        var result = new GradientClip(clip.HasMaxNorm ? clip.MaxNorm : null, clip.HasClipValue ? clip.ClipValue : null, clip.HasNormType ? clip.NormType : 2);
        result.Check(field);
        return result;
    }

    public static ParamGroupSpec ToGroup(V1.ParamGroup group) => new([.. group.Parameters], StructMapping.ToArgs(group.Args));

    public static V1.Optimizer ToOptimizer(OptimizerDescription optimizer)
    {
        var result = new V1.Optimizer { Name = optimizer.Name, Type = optimizer.Type, Steps = (ulong)optimizer.Steps };
        foreach (var group in optimizer.Groups)
        {
            result.Groups.Add(new V1.OptimizerGroup { Parameters = { group.Parameters }, Options = StructMapping.ToStruct(group.Options) });
        }

        if (optimizer.Scheduler is { } scheduler)
        {
            result.Scheduler = new V1.Scheduler
            {
                Type = scheduler.Type,
                Args = StructMapping.ToStruct(scheduler.Args),
                Steps = (ulong)scheduler.Steps,
                LastLr = { scheduler.LastLr },
            };
        }

        return result;
    }

    public static V1.OptimizerState ToState(OptimizerSnapshot snapshot)
    {
        var state = new V1.OptimizerState();
        foreach (var group in snapshot.Groups)
        {
            state.Groups.Add(new V1.OptimizerStateGroup
            {
                Parameters = { group.Parameters.Select(number => (uint)number) },
                Options = StructMapping.ToStruct(group.Options),
            });
        }

        state.Entries.Add(snapshot.Tensors.Entries.Select(ToEntry));
        foreach (var (key, value) in snapshot.Scalars)
        {
            state.Scalars.Add(key, value);
        }

        return state;
    }

    public static IReadOnlyList<StateGroup> ToStateGroups(V1.OptimizerState state) =>
    [
        .. state.Groups.Select((group, g) => new StateGroup(
            [
                .. group.Parameters.Select((number, i) => number <= int.MaxValue
                    ? (int)number
                    : throw EngineException.Invalid($"header.state.groups[{g}].parameters[{i}]", $"is {number}; parameters are numbered from 0 through all groups")),
            ],
            StructMapping.ToArgs(group.Options))),
    ];

    public static V1.StateEntry ToEntry(StateEntryInfo entry) =>
        new() { Key = entry.Key, Dtype = (V1.DataType)entry.Type, Shape = { entry.Shape } };

    public static StateEntryInfo ToEntryInfo(V1.StateEntry entry) => new(entry.Key, (ElementType)entry.Dtype, [.. entry.Shape]);
}
