using Sconce.Engine.Training.Optimizers;
using Sconce.Engine.Training.Schedulers;

namespace Sconce.Engine.Training;

/// <summary>The learning-rate scheduler of an optimizer.</summary>
public sealed class HostedScheduler
{
    private readonly IReadOnlyList<OptionSet> _groups;
    private readonly LearningRateSchedule _schedule;

    internal HostedScheduler(string type, IReadOnlyDictionary<string, object?> args, IReadOnlyList<OptionSet> groups, string field)
    {
        Type = type;
        _groups = groups;
        (_schedule, Args) = SchedulerTypes.Create(type, args, groups, field);
        _schedule.Start();
    }

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
