using Sconce.Engine.Catalog;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.Training.Losses;

internal sealed class KullbackLeiblerLoss() : LossRule(
    "KLDivLoss", "kl_div", ElementwiseLoss.InputAndTarget, [Reduction(batchMean: true), Argument.Bool("log_target", false)])
{
    public override void Check(LossCall call)
    {
        call.SameType(1);
        call.Broadcasts(1);
        if (call.Args.Text("reduction") == "batchmean")
        {
            call.Rank(0, 1, int.MaxValue);
        }
    }

    public override Tensor Compute(LossCall call)
    {
        // The reductions are ours: libtorch has no batchmean here, and prints a warning at each mean.
        var elements = nn.functional.kl_div(call[0], call[1], call.Args.Bool("log_target"), nn.Reduction.None);
        return call.Args.Text("reduction") == "batchmean" ? elements.sum().div(call[0].shape[0]) : Reduce(elements, call);
    }
}

/// <summary>Ours: TorchSharp's sums over features before it reduces, which PyTorch's does not.</summary>
internal sealed class GaussianLoss() : LossRule(
    "GaussianNLLLoss", "gaussian_nll_loss", ["input", "target", "var"], [Argument.Bool("full", false), Argument.Float("eps").Or(1e-6).MoreThan(0)])
{
    // A module that predicts a variance too returns (input, var): the target goes between them.
    public override IReadOnlyList<Tensor> Order(IReadOnlyList<Tensor> outputs, IReadOnlyList<Tensor> targets) =>
        outputs.Count == 2 && targets.Count == 1 ? [outputs[0], targets[0], outputs[1]] : base.Order(outputs, targets);

    public override void Check(LossCall call)
    {
        call.SameType(1);
        call.SameType(2);
        call.Broadcasts(1);
        var (input, variance) = (call[0].shape, call[2].shape);
        var homoscedastic = variance.Length == input.Length - 1 && input.AsSpan()[..^1].SequenceEqual(variance);
        var onePerRow = variance.Length == input.Length && input.Length > 0 && variance[^1] == 1 && input.AsSpan()[..^1].SequenceEqual(variance.AsSpan()[..^1]);
        if (!homoscedastic && !onePerRow)
        {
            call.SameShape(2);
        }

        if (call[2].lt(0).any().ToBoolean())
        {
            throw call.Refuse(2, "needs variances of at least 0; var has a negative one");
        }
    }

    public override Tensor Compute(LossCall call)
    {
        var variance = call[2].dim() == call[0].dim() - 1 ? call[2].unsqueeze(-1) : call[2];
        variance = variance.clone();
        using (no_grad())
        {
            // Held away from zero without touching its gradient, as PyTorch does.
            _ = variance.clamp_min_(call.Args.Float("eps"));
        }

        var elements = variance.log().add((call[0] - call[1]).square().div(variance)).mul(0.5);
        return Reduce(call.Args.Bool("full") ? elements.add(0.5 * Math.Log(2 * Math.PI)) : elements, call);
    }
}
