using Sconce.Engine.Catalog;
using static TorchSharp.torch;

namespace Sconce.Engine.Training.Optimizers;

internal sealed class Adadelta() : PerParameterRule(
    "Adadelta",
    LearningRate(1.0),
    Argument.Float("rho").Or(0.9).Between(0, 1),
    Epsilon(1e-6),
    WeightDecay(),
    Maximize())
{
    public override IReadOnlyList<string> StateTensors(OptionSet options) => ["square_avg", "acc_delta"];

    public override void Update(Tensor parameter, Tensor gradient, ParameterState state, OptionSet options)
    {
        var (rho, eps) = (options.Number("rho"), options.Number("eps"));
        _ = state.NextStep();
        gradient = Effective(parameter, gradient, options);
        var square = state.Zeros("square_avg").mul_(rho).addcmul_(gradient, gradient, 1 - rho);
        var accumulated = state.Zeros("acc_delta");
        var delta = accumulated.add(eps).sqrt_().div_(square.add(eps).sqrt_()).mul_(gradient);
        _ = accumulated.mul_(rho).addcmul_(delta, delta, 1 - rho);
        _ = parameter.add_(delta, alpha: -options.LearningRate);
    }
}
