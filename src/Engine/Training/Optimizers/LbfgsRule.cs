using Sconce.Engine.Catalog;

namespace Sconce.Engine.Training.Optimizers;

/// <summary>What callers see of L-BFGS; <see cref="Lbfgs"/> does its work.</summary>
internal sealed class LbfgsRule() : OptimizerRule(
    "LBFGS",
    LearningRate(1.0),
    Argument.Int("max_iter").Or(20L).AtLeast(1),
    Argument.Int("max_eval").OrNone().AtLeast(1),
    Argument.Float("tolerance_grad").Or(1e-7).AtLeast(0),
    Argument.Float("tolerance_change").Or(1e-9).AtLeast(0),
    Argument.Int("history_size").Or(100L).AtLeast(1),
    Argument.Text("line_search_fn", "strong_wolfe").OrNone())
{
    // Two vectors for each step of the history; the gradient, the one before, and the direction; and those that a step replaces, until it has succeeded.
    public override double StateCopies(OptionSet options) => (2 * (options.Number("history_size") + Math.Min(options.Number("max_iter"), options.Number("history_size")))) + 6;
}
