using Sconce.Engine.Training.Optimizers;
using Sconce.Engine.Training.Schedulers;

namespace Sconce.Engine.Training;

/// <summary>The learning-rate scheduler of an optimizer.</summary>
public sealed class HostedScheduler
{
    private readonly IReadOnlyList<OptionSet> _groups;
    private readonly LearningRateSchedule _schedule;

    // Schedules give each of these its own limits; groups that were added later have none.
    private readonly int _groupsAtStart;

    internal HostedScheduler(string type, IReadOnlyDictionary<string, object?> args, IReadOnlyList<OptionSet> groups, string field)
    {
        Type = type;
        _groups = groups;
        (_schedule, Args) = SchedulerTypes.Create(type, args, groups, field);
        _groupsAtStart = groups.Count;
        _schedule.Start();
    }

    private HostedScheduler(SchedulerMemory memory, IReadOnlyList<OptionSet> groups)
    {
        Type = memory.Type;
        _groups = groups;
        (_schedule, Args) = SchedulerTypes.Create(memory.Type, memory.Args, groups, "scheduler");
        _groupsAtStart = groups.Count;
        _schedule.Recall(memory.Counts);
        Steps = memory.Steps;
    }

    /// <summary>A scheduler that goes on where another stood.</summary>
    /// <param name="memory">What the other remembered.</param>
    /// <param name="groups">The groups, as many as the other had when it was made; more may be added to the list later.</param>
    internal static HostedScheduler Restore(SchedulerMemory memory, IReadOnlyList<OptionSet> groups) => new(memory, groups);

    /// <summary>All that makes another go on where this one stands, but for the groups' rates.</summary>
    internal SchedulerMemory Remember() => new(Type, Args, _groupsAtStart, Steps, _schedule.Remember());

    /// <summary>PyTorch's type name, e.g. <c>StepLR</c>.</summary>
    public string Type { get; }

    /// <summary>Its arguments, defaults among them.</summary>
    public IReadOnlyDictionary<string, object?> Args { get; }

    /// <summary>Steps taken since it was made.</summary>
    public long Steps { get; private set; }

    /// <summary>The rate of each parameter group now (<c>get_last_lr</c>).</summary>
    public IReadOnlyList<double> LastLearningRates => [.. _groups.Select(group => group.LearningRate)];

    /// <summary>Throws where <see cref="Step"/> would, and changes nothing.</summary>
    internal void CheckCanStep(double? metric)
    {
        if (_schedule.NeedsMetric && metric is null)
        {
            throw EngineException.Precondition("METRIC_REQUIRED", $"{Type} needs the metric that it watches; call SchedulerStep with one");
        }

        if (!_schedule.NeedsMetric && metric is not null)
        {
            throw EngineException.Invalid("metric", $"{Type} watches no metric, only ReduceLROnPlateau does; leave it out");
        }

        _schedule.CheckCanStep();
    }

    internal void Step(double? metric)
    {
        CheckCanStep(metric);
        _schedule.Step(metric);
        Steps++;
    }
}
