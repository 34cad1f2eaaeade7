using Sconce.Engine.Training.Optimizers;

namespace Sconce.Engine.Training.Schedulers;

internal sealed class StepSchedule(IReadOnlyList<OptionSet> groups, OptionSet args) : LearningRateSchedule(groups)
{
    protected override double Rate(int index, OptionSet group) =>
        Epoch == 0 || Epoch % (long)args.Number("step_size") != 0 ? group.LearningRate : group.LearningRate * args.Number("gamma");
}

internal sealed class MultiStepSchedule(IReadOnlyList<OptionSet> groups, OptionSet args) : LearningRateSchedule(groups)
{
    private readonly Dictionary<long, int> _milestones = args.Numbers("milestones").GroupBy(m => (long)m).ToDictionary(g => g.Key, g => g.Count());

    protected override double Rate(int index, OptionSet group) =>
        group.LearningRate * Math.Pow(args.Number("gamma"), _milestones.GetValueOrDefault(Epoch));
}

internal sealed class ExponentialSchedule(IReadOnlyList<OptionSet> groups, OptionSet args) : LearningRateSchedule(groups)
{
    protected override double Rate(int index, OptionSet group) => Epoch == 0 ? group.LearningRate : group.LearningRate * args.Number("gamma");
}

internal sealed class ConstantSchedule(IReadOnlyList<OptionSet> groups, OptionSet args) : LearningRateSchedule(groups)
{
    private readonly double _factor = args.Number("factor");

    protected override double Rate(int index, OptionSet group) =>
        Epoch == 0 ? group.LearningRate * _factor : Epoch == (long)args.Number("total_iters") ? group.LearningRate / _factor : group.LearningRate;

    protected override double RateAtStart(int index, OptionSet group) =>
        args.Number("total_iters") <= 0 ? group.InitialLearningRate : group.InitialLearningRate * _factor;
}

internal sealed class LinearSchedule(IReadOnlyList<OptionSet> groups, OptionSet args) : LearningRateSchedule(groups)
{
    private readonly double _start = args.Number("start_factor");
    private readonly double _rise = args.Number("end_factor") - args.Number("start_factor");
    private readonly double _steps = args.Number("total_iters");

    protected override double Rate(int index, OptionSet group) =>
        Epoch == 0 ? group.LearningRate * _start
        : Epoch > _steps ? group.LearningRate
        : group.LearningRate * (1 + (_rise / ((_steps * _start) + ((Epoch - 1) * _rise))));

    protected override double RateAtStart(int index, OptionSet group) => group.InitialLearningRate * _start;
}

internal sealed class PolynomialSchedule(IReadOnlyList<OptionSet> groups, OptionSet args) : LearningRateSchedule(groups)
{
    protected override double Rate(int index, OptionSet group)
    {
        var steps = args.Number("total_iters");
        return Epoch == 0 || Epoch > steps
            ? group.LearningRate
            : group.LearningRate * Math.Pow((1 - (Epoch / steps)) / (1 - ((Epoch - 1) / steps)), args.Number("power"));
    }
}

internal sealed class CosineSchedule(IReadOnlyList<OptionSet> groups, OptionSet args) : LearningRateSchedule(groups)
{
    private readonly double _period = args.Number("T_max");
    private readonly double _least = args.Number("eta_min");

    protected override double Rate(int index, OptionSet group)
    {
        if (Epoch == 0)
        {
            return group.LearningRate;
        }

        // From the lowest point the recursion would divide by zero: step up from it instead.
        return (Epoch - 1 - _period) % (2 * _period) == 0
            ? group.LearningRate + ((group.InitialLearningRate - _least) * (1 - Math.Cos(Math.PI / _period)) / 2)
            : ((1 + Math.Cos(Math.PI * Epoch / _period)) / (1 + Math.Cos(Math.PI * (Epoch - 1) / _period)) * (group.LearningRate - _least)) + _least;
    }
}

internal sealed class WarmRestartsSchedule(IReadOnlyList<OptionSet> groups, OptionSet args) : LearningRateSchedule(groups)
{
    private double _period = args.Number("T_0");
    private double _at = -1;

    public override void Step(double? metric)
    {
        if (++_at >= _period)
        {
            _at -= _period;
            _period *= args.Number("T_mult");
        }

        base.Step(metric);
    }

    public override void Restart()
    {
        (_at, _period) = (0, args.Number("T_0"));
        base.Restart();
    }

    public override void Undo()
    {
        _at--;
        base.Undo();
    }

    public override IReadOnlyList<double> Remember() => [.. base.Remember(), _period, _at];

    protected override void Recall(Queue<double> memory)
    {
        base.Recall(memory);
        (_period, _at) = (memory.Dequeue(), memory.Dequeue());
    }

    protected override double Rate(int index, OptionSet group)
    {
        var least = args.Number("eta_min");
        return least + ((group.InitialLearningRate - least) * (1 + Math.Cos(Math.PI * _at / _period)) / 2);
    }
}
