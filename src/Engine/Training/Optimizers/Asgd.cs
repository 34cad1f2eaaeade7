using Sconce.Engine.Catalog;
using static TorchSharp.torch;

namespace Sconce.Engine.Training.Optimizers;

internal sealed class Asgd() : PerParameterRule(
    "ASGD",
    LearningRate(1e-2),
    Argument.Float("lambd").Or(1e-4),
    Argument.Float("alpha").Or(0.75),
    Argument.Float("t0").Or(1e6),
    WeightDecay(),
    Maximize())
{
    public override IReadOnlyList<string> StateScalars => ["step", "eta", "mu"];

    public override IReadOnlyList<string> StateTensors(OptionSet options) => ["ax"];

    public override void Update(Tensor parameter, Tensor gradient, ParameterState state, OptionSet options)
    {
        var (lr, lambd) = (options.LearningRate, options.Number("lambd"));
        var step = state.NextStep();
        gradient = Effective(parameter, gradient, options);

        // Both rates are those that the step before chose.
        var eta = state.Scalar("eta", lr);
        var mu = state.Scalar("mu", 1);
        _ = parameter.mul_(1 - (lambd * eta)).add_(gradient, alpha: -eta);
        var average = state.Zeros("ax");
        _ = mu == 1 ? average.copy_(parameter) : average.add_(parameter.sub(average).mul_(mu));

        state.SetScalar("eta", lr / Math.Pow(1 + (lambd * lr * step), options.Number("alpha")));
        state.SetScalar("mu", 1 / Math.Max(1, step - options.Number("t0")));
    }
}
