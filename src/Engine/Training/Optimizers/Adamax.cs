using static TorchSharp.torch;

namespace Sconce.Engine.Training.Optimizers;

internal sealed class Adamax() : PerParameterRule(
    "Adamax",
    LearningRate(2e-3),
    Betas(),
    Epsilon(1e-8),
    WeightDecay(),
    Maximize())
{
    public override IReadOnlyList<string> StateTensors(OptionSet options) => ["exp_avg", "exp_inf"];

    public override void Update(Tensor parameter, Tensor gradient, ParameterState state, OptionSet options)
    {
        var (beta1, beta2) = options.Pair("betas");
        var step = state.NextStep();
        gradient = Effective(parameter, gradient, options);
        var average = state.Zeros("exp_avg").mul_(beta1).add_(gradient, alpha: 1 - beta1);
        var infinity = state.Zeros("exp_inf").mul_(beta2);
        _ = infinity.copy_(infinity.maximum(gradient.abs().add_(options.Number("eps"))));
        _ = parameter.addcdiv_(average, infinity, -options.LearningRate / (1 - Math.Pow(beta1, step)));
    }
}
