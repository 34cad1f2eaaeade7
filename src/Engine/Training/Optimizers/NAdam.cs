using Sconce.Engine.Catalog;
using static TorchSharp.torch;

namespace Sconce.Engine.Training.Optimizers;

internal sealed class NAdam() : PerParameterRule(
    "NAdam",
    LearningRate(2e-3),
    Betas(),
    Epsilon(1e-8),
    WeightDecay(),
    Argument.Float("momentum_decay").Or(4e-3).AtLeast(0),
    Argument.Bool("decoupled_weight_decay", false),
    Maximize())
{
    public override IReadOnlyList<string> StateScalars => ["step", "mu_product"];

    public override IReadOnlyList<string> StateTensors(OptionSet options) => ["exp_avg", "exp_avg_sq"];

    public override void Update(Tensor parameter, Tensor gradient, ParameterState state, OptionSet options)
    {
        var (beta1, beta2) = options.Pair("betas");
        var (lr, decay) = (options.LearningRate, options.Number("momentum_decay"));
        var decoupled = options.Flag("decoupled_weight_decay");
        var step = state.NextStep();
        gradient = Effective(parameter, gradient, options, penalty: !decoupled);
        if (decoupled)
        {
            Shrink(parameter, options);
        }

        var mu = beta1 * (1 - (0.5 * Math.Pow(0.96, step * decay)));
        var nextMu = beta1 * (1 - (0.5 * Math.Pow(0.96, (step + 1) * decay)));
        var product = state.Scalar("mu_product", 1) * mu;
        state.SetScalar("mu_product", product);

        var average = state.Zeros("exp_avg").mul_(beta1).add_(gradient, alpha: 1 - beta1);
        var square = state.Zeros("exp_avg_sq").mul_(beta2).addcmul_(gradient, gradient, 1 - beta2);
        var denominator = square.div(1 - Math.Pow(beta2, step)).sqrt_().add_(options.Number("eps"));
        _ = parameter.addcdiv_(gradient, denominator, -lr * (1 - mu) / (1 - product));
        _ = parameter.addcdiv_(average, denominator, -lr * nextMu / (1 - (product * nextMu)));
    }
}
