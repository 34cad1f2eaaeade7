using System.Globalization;
using Sconce.Engine.Training.Optimizers;

namespace Sconce.Engine.Training.Schedulers;

/// <summary>A schedule with limits for each group, which may cycle momentum against the rate.</summary>
internal abstract class CycleSchedule(IReadOnlyList<OptionSet> groups, OptionSet args) : LearningRateSchedule(groups)
{
    private readonly bool _cycleMomentum = args.Flag("cycle_momentum");

    protected OptionSet Args => args;

    // Groups added later are not in the lists, and keep their rates.
    protected double[] LowMomentum { get; } = args.PerGroup("base_momentum", groups.Count);

    protected double[] HighMomentum { get; } = args.PerGroup("max_momentum", groups.Count);

    public override void Step(double? metric)
    {
        base.Step(metric);
        if (_cycleMomentum)
        {
            for (var i = 0; i < LowMomentum.Length; i++)
            {
                SetMomentum(Groups[i], Momentum(i));
            }
        }
    }

    /// <summary>Momentum of a group at <see cref="LearningRateSchedule.Epoch"/>.</summary>
    protected abstract double Momentum(int index);

    private static void SetMomentum(OptionSet group, double value)
    {
        if (group.Has("betas"))
        {
            group.Set("betas", new[] { value, group.Pair("betas").Second });
        }
        else
        {
            group.Set("momentum", value);
        }
    }
}

internal sealed class CyclicSchedule(IReadOnlyList<OptionSet> groups, OptionSet args) : CycleSchedule(groups, args)
{
    private readonly double[] _low = args.PerGroup("base_lr", groups.Count);
    private readonly double[] _high = args.PerGroup("max_lr", groups.Count);
    private readonly double _up = args.Number("step_size_up");
    private readonly double _length = args.Number("step_size_up") + (args.OptionalNumber("step_size_down") ?? args.Number("step_size_up"));

    public override void Start()
    {
        for (var i = 0; i < _low.Length; i++)
        {
            Groups[i].LearningRate = _low[i];
        }

        base.Start();
    }

    public override void Restart()
    {
        Epoch = -1;
        Step(null);
    }

    protected override double Rate(int index, OptionSet group) =>
        index < _low.Length ? _low[index] + ((_high[index] - _low[index]) * Height()) : group.LearningRate;

    protected override double Momentum(int index) => HighMomentum[index] - ((HighMomentum[index] - LowMomentum[index]) * Height());

    /// <summary>Where between the limits this step is: 0 is low.</summary>
    private double Height()
    {
        var cycle = Math.Floor(1 + (Epoch / _length));
        var x = 1 + (Epoch / _length) - cycle;
        var ratio = _up / _length;
        var triangle = x <= ratio ? x / ratio : (x - 1) / (ratio - 1);
        return triangle * Args.Text("mode") switch
        {
            "triangular2" => 1 / Math.Pow(2, cycle - 1),
            "exp_range" => Math.Pow(Args.Number("gamma"), Epoch),
            _ => 1,
        };
    }
}

internal sealed class OneCycleSchedule : CycleSchedule
{
    private readonly double[] _first;
    private readonly double[] _high;
    private readonly double[] _last;
    private readonly double _steps;
    private readonly Phase[] _phases;
    private readonly bool _linear;

    public OneCycleSchedule(IReadOnlyList<OptionSet> groups, OptionSet args)
        : base(groups, args)
    {
        _high = args.PerGroup("max_lr", groups.Count);
        _first = [.. _high.Select(rate => rate / args.Number("div_factor"))];
        _last = [.. _first.Select(rate => rate / args.Number("final_div_factor"))];
        _steps = TotalSteps(args)!.Value;
        _linear = args.Text("anneal_strategy") == "linear";
        _phases = Phases(args);
    }

    /// <summary>The number of steps, from either form in which it may be given; null where neither is whole.</summary>
    public static double? TotalSteps(OptionSet args) => args.OptionalNumber("total_steps") ?? (args.OptionalNumber("epochs") * args.OptionalNumber("steps_per_epoch"));

    /// <summary>Whether every phase lasts longer than nothing.</summary>
    public static bool HasLength(OptionSet args)
    {
        var phases = Phases(args);
        return phases.Select((phase, i) => phase.End - (i == 0 ? 0 : phases[i - 1].End)).All(length => length != 0);
    }

    public override void Start()
    {
        for (var i = 0; i < _first.Length; i++)
        {
            Groups[i].InitialLearningRate = _first[i];
        }

        base.Start();
    }

    public override void CheckCanStep()
    {
        if (Epoch + 1 > _steps)
        {
            throw EngineException.Precondition("SCHEDULE_ENDED", string.Create(CultureInfo.InvariantCulture,
                $"the OneCycleLR scheduler was made for {_steps} steps and has taken them; create a new one with a larger total_steps"));
        }
    }

    public override void Restart()
    {
        Epoch = -1;
        Step(null);
    }

    protected override double Rate(int index, OptionSet group)
    {
        if (index >= _first.Length)
        {
            return group.LearningRate;
        }

        var (phase, share) = Now();
        return Anneal(Limit(phase.From), Limit(phase.To), share);

        double Limit(Level level) => level switch { Level.First => _first[index], Level.High => _high[index], _ => _last[index] };
    }

    protected override double Momentum(int index)
    {
        var (phase, share) = Now();
        return Anneal(Opposite(phase.From), Opposite(phase.To), share);

        double Opposite(Level level) => level == Level.High ? LowMomentum[index] : HighMomentum[index];
    }

    private static Phase[] Phases(OptionSet args)
    {
        var steps = TotalSteps(args)!.Value;
        var rise = args.Number("pct_start") * steps;
        return args.Flag("three_phase")
            ? [new(rise - 1, Level.First, Level.High), new((2 * rise) - 2, Level.High, Level.First), new(steps - 1, Level.First, Level.Last)]
            : [new(rise - 1, Level.First, Level.High), new(steps - 1, Level.High, Level.Last)];
    }

    private (Phase Phase, double Share) Now()
    {
        double start = 0;
        foreach (var phase in _phases.AsSpan()[..^1])
        {
            if (Epoch <= phase.End)
            {
                return (phase, (Epoch - start) / (phase.End - start));
            }

            start = phase.End;
        }

        return (_phases[^1], (Epoch - start) / (_phases[^1].End - start));
    }

    private double Anneal(double from, double to, double share) =>
        _linear ? ((to - from) * share) + from : to + ((from - to) / 2 * (Math.Cos(Math.PI * share) + 1));

    private enum Level
    {
        First,
        High,
        Last,
    }

    private readonly record struct Phase(double End, Level From, Level To);
}
