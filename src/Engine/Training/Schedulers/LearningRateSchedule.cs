using Sconce.Engine.Training.Optimizers;

namespace Sconce.Engine.Training.Schedulers;

/// <summary>Sets the learning rate of each parameter group, step by step.</summary>
/// <remarks>
/// The arithmetic is PyTorch's chainable form: it starts from the rate that a group has now, so that a rate set from outside stays set.
/// </remarks>
internal abstract class LearningRateSchedule(IReadOnlyList<OptionSet> groups)
{
    protected IReadOnlyList<OptionSet> Groups { get; } = groups;

    /// <summary>Steps since the start; the start itself is 0.</summary>
    protected long Epoch { get; set; } = -1;

    /// <summary>Whether each step needs a metric.</summary>
    public virtual bool NeedsMetric => false;

    /// <summary>Throws where no further step is possible.</summary>
    public virtual void CheckCanStep()
    {
    }

    /// <summary>Takes hold of the groups and sets their first rates.</summary>
    public virtual void Start()
    {
        foreach (var group in Groups)
        {
            Adopt(group);
        }

        Step(null);
    }

    public virtual void Step(double? metric)
    {
        Epoch++;
        SetRates(Rate);
    }

    /// <summary>Back to the start, from the first rates; what <c>SequentialLR</c> does at a milestone.</summary>
    public virtual void Restart()
    {
        Epoch = 0;
        SetRates(RateAtStart);
    }

    /// <summary>One step back without a change of rates; what <c>SequentialLR</c> does before it starts.</summary>
    public virtual void Undo() => Epoch--;

    /// <summary>What it has counted and seen, as numbers; the rates themselves are the groups'.</summary>
    public virtual IReadOnlyList<double> Remember() => [Epoch];

    /// <summary>Takes that up again, in the place of a start.</summary>
    /// <param name="memory">What <see cref="Remember"/> gave, of a schedule that was made alike.</param>
    public void Recall(IReadOnlyList<double> memory)
    {
        if (memory.Count != Remember().Count)
        {
            throw new ArgumentException($"{memory.Count} numbers were given; this schedule remembers {Remember().Count}", nameof(memory));
        }

        Recall(new Queue<double>(memory));
    }

    /// <summary>Takes its own numbers from the front.</summary>
    protected virtual void Recall(Queue<double> memory) => Epoch = (long)memory.Dequeue();

    /// <summary>Has a part take its numbers.</summary>
    protected static void Recall(LearningRateSchedule part, Queue<double> memory) => part.Recall(memory);

    /// <summary>Remembers the first rate of a group, unless a scheduler before this one did (as PyTorch: <c>setdefault("initial_lr")</c>).</summary>
    public static void Adopt(OptionSet group) => group.InitialLearningRate = group.InitialLearningRate;

    /// <summary>The rate of a group at <see cref="Epoch"/>.</summary>
    protected abstract double Rate(int index, OptionSet group);

    protected virtual double RateAtStart(int index, OptionSet group) => group.InitialLearningRate;

    protected void SetRates(Func<int, OptionSet, double> rate)
    {
        // All first: a rule that throws leaves every group as it was.
        var rates = Groups.Select((group, index) => rate(index, group)).ToArray();
        for (var i = 0; i < rates.Length; i++)
        {
            Groups[i].LearningRate = rates[i];
        }
    }
}
