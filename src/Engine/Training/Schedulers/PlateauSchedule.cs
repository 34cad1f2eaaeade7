using Sconce.Engine.Training.Optimizers;

namespace Sconce.Engine.Training.Schedulers;

/// <summary>Lowers the rates when a metric has stopped improving.</summary>
internal sealed class PlateauSchedule(IReadOnlyList<OptionSet> groups, OptionSet args) : LearningRateSchedule(groups)
{
    private readonly double[] _least = args.PerGroup("min_lr", groups.Count);
    private readonly bool _min = args.Text("mode") == "min";
    private readonly double _threshold = args.Number("threshold");
    private double _best = args.Text("mode") == "min" ? double.PositiveInfinity : double.NegativeInfinity;
    private long _bad;
    private long _cooldown;

    public override bool NeedsMetric => true;

    public override void Start()
    {
        // Unlike the others it changes no rate at the start, and remembers none.
    }

    public override void Step(double? metric)
    {
        var value = metric!.Value;
        var better = IsBetter(value);
        _best = better ? value : _best;
        _bad = better ? 0 : _bad + 1;
        if (_cooldown > 0)
        {
            _cooldown--;
            _bad = 0;
        }

        if (_bad > args.Number("patience"))
        {
            SetRates(Rate);
            _cooldown = (long)args.Number("cooldown");
            _bad = 0;
        }
    }

    public override IReadOnlyList<double> Remember() => [.. base.Remember(), _best, _bad, _cooldown];

    protected override void Recall(Queue<double> memory)
    {
        base.Recall(memory);
        (_best, _bad, _cooldown) = (memory.Dequeue(), (long)memory.Dequeue(), (long)memory.Dequeue());
    }

    protected override double Rate(int index, OptionSet group)
    {
        var lower = Math.Max(group.LearningRate * args.Number("factor"), index < _least.Length ? _least[index] : 0);
        return group.LearningRate - lower > args.Number("eps") ? lower : group.LearningRate;
    }

    private bool IsBetter(double value) => (args.Text("threshold_mode") == "rel", _min) switch
    {
        (true, true) => value < _best * (1 - _threshold),
        (false, true) => value < _best - _threshold,
        (true, false) => value > _best * (_threshold + 1),
        (false, false) => value > _best + _threshold,
    };
}
