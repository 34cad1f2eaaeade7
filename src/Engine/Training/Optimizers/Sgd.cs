using Sconce.Engine.Catalog;
using static TorchSharp.torch;

namespace Sconce.Engine.Training.Optimizers;

internal sealed class Sgd() : PerParameterRule(
    "SGD",
    LearningRate(1e-3),
    Argument.Float("momentum").Or(0.0).AtLeast(0),
    Argument.Float("dampening").Or(0.0),
    WeightDecay(),
    Argument.Bool("nesterov", false),
    Maximize())
{
    // PyTorch's SGD counts no steps.
    public override IReadOnlyList<string> StateScalars => [];

    public override IReadOnlyList<string> StateTensors(OptionSet options) => options.Number("momentum") != 0 ? ["momentum_buffer"] : [];

    public override void Check(OptionSet options, OptionErrors errors)
    {
        if (options.Flag("nesterov") && (options.Number("momentum") <= 0 || options.Number("dampening") != 0))
        {
            errors.Add("nesterov", "needs a momentum above 0 and a dampening of 0");
        }
    }

    public override void Update(Tensor parameter, Tensor gradient, ParameterState state, OptionSet options)
    {
        var change = Effective(parameter, gradient, options);
        var momentum = options.Number("momentum");
        if (momentum != 0)
        {
            var first = !state.Has("momentum_buffer");
            var buffer = state.Zeros("momentum_buffer");

            // The first gradient enters whole: dampening applies from the second on.
            _ = first ? buffer.copy_(change) : buffer.mul_(momentum).add_(change, alpha: 1 - options.Number("dampening"));
            change = options.Flag("nesterov") ? change.add(buffer, alpha: momentum) : buffer;
        }

        _ = parameter.add_(change, alpha: -options.LearningRate);
    }
}
