using Sconce.Engine.Catalog;
using static TorchSharp.torch;

namespace Sconce.Engine.Training.Optimizers;

internal sealed class RmsProp() : PerParameterRule(
    "RMSprop",
    LearningRate(1e-2),
    Argument.Float("alpha").Or(0.99).AtLeast(0),
    Epsilon(1e-8),
    WeightDecay(),
    Argument.Float("momentum").Or(0.0).AtLeast(0),
    Argument.Bool("centered", false),
    Maximize())
{
    public override IReadOnlyList<string> StateTensors(OptionSet options) =>
        [
            "square_avg",
            .. options.Number("momentum") > 0 ? ["momentum_buffer"] : Array.Empty<string>(),
            .. options.Flag("centered") ? ["grad_avg"] : Array.Empty<string>(),
        ];

    public override void Update(Tensor parameter, Tensor gradient, ParameterState state, OptionSet options)
    {
        var (alpha, momentum) = (options.Number("alpha"), options.Number("momentum"));
        _ = state.NextStep();
        gradient = Effective(parameter, gradient, options);
        var square = state.Zeros("square_avg").mul_(alpha).addcmul_(gradient, gradient, 1 - alpha);
        Tensor average;
        if (options.Flag("centered"))
        {
            var mean = state.Zeros("grad_avg").mul_(alpha).add_(gradient, alpha: 1 - alpha);
            average = square.addcmul(mean, mean, -1).sqrt_();
        }
        else
        {
            average = square.sqrt();
        }

        _ = average.add_(options.Number("eps"));
        _ = momentum > 0
            ? parameter.add_(state.Zeros("momentum_buffer").mul_(momentum).addcdiv_(gradient, average, 1), alpha: -options.LearningRate)
            : parameter.addcdiv_(gradient, average, -options.LearningRate);
    }
}
