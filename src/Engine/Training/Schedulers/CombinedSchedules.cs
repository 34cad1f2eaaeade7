using Sconce.Engine.Training.Optimizers;

namespace Sconce.Engine.Training.Schedulers;

/// <summary>Runs one schedule after another.</summary>
internal sealed class SequentialSchedule(IReadOnlyList<OptionSet> groups, IReadOnlyList<LearningRateSchedule> schedules, IReadOnlyList<double> milestones)
    : LearningRateSchedule(groups)
{
    public override void CheckCanStep()
    {
        if (MilestoneAt(Epoch + 1) is var (index, atMilestone) && !atMilestone)
        {
            schedules[index].CheckCanStep();
        }
    }

    public override void Start()
    {
        // As PyTorch, whose schedules have all started before they are put in sequence.
        foreach (var schedule in schedules)
        {
            schedule.Start();
        }

        foreach (var group in Groups)
        {
            group.LearningRate = group.InitialLearningRate;
        }

        Undo();
        Epoch = 0;
        schedules[0].Step(null);
    }

    public override void Step(double? metric)
    {
        Epoch++;
        var (index, atMilestone) = MilestoneAt(Epoch);
        if (atMilestone)
        {
            schedules[index].Restart();
        }
        else
        {
            schedules[index].Step(null);
        }
    }

    public override void Restart()
    {
        Epoch = 0;
        schedules[0].Restart();
    }

    public override void Undo()
    {
        Epoch--;
        foreach (var schedule in schedules)
        {
            schedule.Undo();
        }
    }

    public override IReadOnlyList<double> Remember() => [.. base.Remember(), .. schedules.SelectMany(schedule => schedule.Remember())];

    protected override void Recall(Queue<double> memory)
    {
        base.Recall(memory);
        foreach (var schedule in schedules)
        {
            Recall(schedule, memory);
        }
    }

    protected override double Rate(int index, OptionSet group) => group.LearningRate;

    private (int Index, bool AtMilestone) MilestoneAt(long epoch)
    {
        var index = milestones.Count(milestone => milestone <= epoch);
        return (index, index > 0 && milestones[index - 1] == epoch);
    }
}

/// <summary>Runs several schedules at once, each on what the one before made of the rates.</summary>
internal sealed class ChainedSchedule(IReadOnlyList<OptionSet> groups, IReadOnlyList<LearningRateSchedule> schedules) : LearningRateSchedule(groups)
{
    public override void CheckCanStep() => Each(schedule => schedule.CheckCanStep());

    public override void Start() => Each(schedule => schedule.Start());

    public override void Step(double? metric) => Each(schedule => schedule.Step(null));

    public override void Restart() => Each(schedule => schedule.Restart());

    public override void Undo() => Each(schedule => schedule.Undo());

    public override IReadOnlyList<double> Remember() => [.. base.Remember(), .. schedules.SelectMany(schedule => schedule.Remember())];

    protected override void Recall(Queue<double> memory)
    {
        base.Recall(memory);
        foreach (var schedule in schedules)
        {
            Recall(schedule, memory);
        }
    }

    protected override double Rate(int index, OptionSet group) => group.LearningRate;

    private void Each(Action<LearningRateSchedule> action)
    {
        foreach (var schedule in schedules)
        {
            action(schedule);
        }
    }
}
