using Sconce.Engine.Catalog;
using static TorchSharp.torch;

namespace Sconce.Engine.Training.Optimizers;

internal sealed class RAdam() : PerParameterRule(
    "RAdam",
    LearningRate(1e-3),
    Betas(),
    Epsilon(1e-8),
    WeightDecay(),
    Argument.Bool("decoupled_weight_decay", false),
    Maximize())
{
    public override IReadOnlyList<string> StateTensors(OptionSet options) => ["exp_avg", "exp_avg_sq"];

    public override void Update(Tensor parameter, Tensor gradient, ParameterState state, OptionSet options)
    {
        var (beta1, beta2) = options.Pair("betas");
        var lr = options.LearningRate;
        var decoupled = options.Flag("decoupled_weight_decay");
        var step = state.NextStep();
        gradient = Effective(parameter, gradient, options, penalty: !decoupled);
        if (decoupled)
        {
            Shrink(parameter, options);
        }

        var correction1 = 1 - Math.Pow(beta1, step);
        var correction2 = 1 - Math.Pow(beta2, step);
        var average = state.Zeros("exp_avg").mul_(beta1).add_(gradient, alpha: 1 - beta1);
        var square = state.Zeros("exp_avg_sq").mul_(beta2).addcmul_(gradient, gradient, 1 - beta2);

        // Length of the simple moving average: while it is short, the second moment says too little to be used.
        var longest = (2 / (1 - beta2)) - 1;
        var length = longest - (2 * step * Math.Pow(beta2, step) / correction2);
        if (length > 5)
        {
            var rectification = Math.Sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length));
            var denominator = square.sqrt().add_(options.Number("eps"));
            _ = parameter.addcdiv_(average, denominator, -lr * rectification * Math.Sqrt(correction2) / correction1);
        }
        else
        {
            _ = parameter.add_(average, alpha: -lr / correction1);
        }
    }
}
