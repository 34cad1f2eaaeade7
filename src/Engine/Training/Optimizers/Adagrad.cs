using Sconce.Engine.Catalog;
using static TorchSharp.torch;

namespace Sconce.Engine.Training.Optimizers;

internal sealed class Adagrad() : PerParameterRule(
    "Adagrad",
    LearningRate(1e-2),
    Argument.Float("lr_decay").Or(0.0).AtLeast(0),
    WeightDecay(),
    Argument.Float("initial_accumulator_value").Or(0.0).AtLeast(0),
    Epsilon(1e-10),
    Maximize())
{
    public override IReadOnlyList<string> StateTensors(OptionSet options) => ["sum"];

    public override bool FillsAtOnce => true;

    public override void Initialize(ParameterState state, OptionSet options)
    {
        state.SetScalar("step", 0);
        _ = state.Filled("sum", options.Number("initial_accumulator_value"));
    }

    public override void Update(Tensor parameter, Tensor gradient, ParameterState state, OptionSet options)
    {
        var step = state.NextStep();
        gradient = Effective(parameter, gradient, options);
        var lr = options.LearningRate / (1 + ((step - 1) * options.Number("lr_decay")));
        var sum = state.Filled("sum", options.Number("initial_accumulator_value")).addcmul_(gradient, gradient, 1);
        _ = parameter.addcdiv_(gradient, sum.sqrt().add_(options.Number("eps")), -lr);
    }
}
