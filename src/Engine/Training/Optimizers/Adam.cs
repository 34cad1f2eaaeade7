using Sconce.Engine.Catalog;
using static TorchSharp.torch;

namespace Sconce.Engine.Training.Optimizers;

/// <summary>Adam, and AdamW, whose weight decay shrinks the parameter instead of adding to the gradient.</summary>
internal sealed class Adam(bool decoupled) : PerParameterRule(
    decoupled ? "AdamW" : "Adam",
    LearningRate(1e-3),
    Betas(),
    Epsilon(1e-8),
    WeightDecay(decoupled ? 1e-2 : 0.0),
    Argument.Bool("amsgrad", false),
    Maximize())
{
    public override IReadOnlyList<string> StateTensors(OptionSet options) =>
        options.Flag("amsgrad") ? ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"] : ["exp_avg", "exp_avg_sq"];

    public override void Update(Tensor parameter, Tensor gradient, ParameterState state, OptionSet options)
    {
        var (beta1, beta2) = options.Pair("betas");
        var step = state.NextStep();
        gradient = Effective(parameter, gradient, options, penalty: !decoupled);
        if (decoupled)
        {
            Shrink(parameter, options);
        }

        var average = state.Zeros("exp_avg").mul_(beta1).add_(gradient, alpha: 1 - beta1);
        var square = state.Zeros("exp_avg_sq").mul_(beta2).addcmul_(gradient, gradient, 1 - beta2);
        if (options.Flag("amsgrad"))
        {
            var largest = state.Zeros("max_exp_avg_sq");
            square = largest.copy_(largest.maximum(square));
        }

        var denominator = square.sqrt().div_(Math.Sqrt(1 - Math.Pow(beta2, step))).add_(options.Number("eps"));
        _ = parameter.addcdiv_(average, denominator, -options.LearningRate / (1 - Math.Pow(beta1, step)));
    }
}
