using Sconce.Engine.Catalog;
using static TorchSharp.torch;

namespace Sconce.Engine.Training.Optimizers;

internal sealed class Rprop() : PerParameterRule(
    "Rprop",
    LearningRate(1e-2),
    Argument.Floats("etas", 2).Or(DefaultFactors),
    Argument.Floats("step_sizes", 2).Or(DefaultLimits),
    Maximize())
{
    private static readonly double[] DefaultFactors = [0.5, 1.2];
    private static readonly double[] DefaultLimits = [1e-6, 50];

    public override IReadOnlyList<string> StateTensors(OptionSet options) => ["prev", "step_size"];

    public override void Check(OptionSet options, OptionErrors errors)
    {
        var (minus, plus) = options.Pair("etas");
        if (!(minus > 0 && minus < 1 && plus > 1))
        {
            errors.Add("etas", $"is [{minus}, {plus}]; it must be [a, b] with 0 < a < 1 < b");
        }

        var (least, most) = options.Pair("step_sizes");
        if (!(least >= 0 && least <= most))
        {
            errors.Add("step_sizes", $"is [{least}, {most}]; it must be [least, most] with 0 <= least <= most");
        }
    }

    public override void Update(Tensor parameter, Tensor gradient, ParameterState state, OptionSet options)
    {
        var (minus, plus) = options.Pair("etas");
        var (least, most) = options.Pair("step_sizes");
        _ = state.NextStep();
        gradient = options.Flag("maximize") ? -gradient : gradient;
        var previous = state.Zeros("prev");
        var size = state.Filled("step_size", options.LearningRate);

        var agreement = gradient.mul(previous);
        var turned = agreement.lt(0);
        var factor = ones_like(gradient).masked_fill_(agreement.gt(0), plus).masked_fill_(turned, minus);
        _ = size.mul_(factor).clamp_(least, most);

        // Where the sign turned, the last step went too far: stay for this one.
        gradient = gradient.masked_fill(turned, 0);
        _ = parameter.addcmul_(gradient.sign(), size, -1);
        _ = previous.copy_(gradient);
    }
}
