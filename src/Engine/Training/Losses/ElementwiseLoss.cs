using Sconce.Engine.Catalog;
using static TorchSharp.torch;

namespace Sconce.Engine.Training.Losses;

/// <summary>A loss of numbers against numbers, element by element.</summary>
internal sealed class ElementwiseLoss(string type, string functional, Func<LossCall, nn.Reduction, Tensor> compute, params Argument[] arguments)
    : LossRule(type, functional, InputAndTarget, arguments)
{
    public static readonly string[] InputAndTarget = ["input", "target"];

    /// <summary>Whether PyTorch refuses to broadcast.</summary>
    public bool Strict { get; init; }

    /// <summary>Whether the target may be of another dtype.</summary>
    public bool AnyTarget { get; init; }

    public override void Check(LossCall call)
    {
        call.Floating(0);
        if (!AnyTarget)
        {
            call.SameType(1);
        }
        else if (call[1].is_complex())
        {
            throw call.Refuse(1, $"needs real numbers; {call.Show(1)}");
        }

        if (Strict)
        {
            call.SameShape(1);
            foreach (var name in Arguments.Select(argument => argument.Name).Where(name => name.EndsWith("weight", StringComparison.Ordinal)))
            {
                call.WeightOfRow(name);
            }
        }
        else
        {
            call.Broadcasts(1);
        }
    }

    public override Tensor Compute(LossCall call)
    {
        // Broadcast here: libtorch does it too, and prints a warning each time.
        if (!Strict && !call[0].shape.AsSpan().SequenceEqual(call[1].shape))
        {
            call = call.Broadcast();
        }

        return compute(call, ReductionOf(call));
    }

    public static IEnumerable<LossRule> All { get; } =
    [
        new ElementwiseLoss("L1Loss", "l1_loss", (call, by) => nn.functional.l1_loss(call[0], call[1], by)),
        new ElementwiseLoss("MSELoss", "mse_loss", (call, by) => nn.functional.mse_loss(call[0], call[1], by)),
        new ElementwiseLoss("SmoothL1Loss", "smooth_l1_loss",
            (call, by) => nn.functional.smooth_l1_loss(call[0], call[1], by, call.Args.Float("beta")), Reduction(), Argument.Float("beta").Or(1.0).AtLeast(0)),
        new ElementwiseLoss("HuberLoss", "huber_loss",
            (call, by) => nn.functional.huber_loss(call[0], call[1], call.Args.Float("delta"), by), Reduction(), Argument.Float("delta").Or(1.0).MoreThan(0)),
        new ElementwiseLoss("SoftMarginLoss", "soft_margin_loss", (call, by) => nn.functional.soft_margin_loss(call[0], call[1], by)),
        new ElementwiseLoss("HingeEmbeddingLoss", "hinge_embedding_loss",
            (call, by) => nn.functional.hinge_embedding_loss(call[0], call[1], call.Args.Float("margin"), by), Argument.Float("margin").Or(1.0)) { AnyTarget = true },
        new ElementwiseLoss("BCELoss", "binary_cross_entropy",
            (call, by) => nn.functional.binary_cross_entropy(call[0], call[1], call.Vector("weight"), by), Weight()) { Strict = true },
        new ElementwiseLoss("BCEWithLogitsLoss", "binary_cross_entropy_with_logits",
            (call, by) => nn.functional.binary_cross_entropy_with_logits(call[0], call[1], call.Vector("weight"), by, call.Vector("pos_weight")),
            Weight(), Reduction(), Weight("pos_weight")) { Strict = true, Base = "_Loss" },
        new ElementwiseLoss("PoissonNLLLoss", "poisson_nll_loss",
            (call, _) => Reduce(Poisson(call), call), Argument.Bool("log_input", true), Argument.Bool("full", false), Argument.Float("eps").Or(1e-8)),
    ];

    // Ours: TorchSharp's eps does not reach libtorch, as a comparison with PyTorch showed.
    private static Tensor Poisson(LossCall call)
    {
        var (input, target) = (call[0], call[1]);
        var loss = call.Args.Bool("log_input")
            ? input.exp().sub(target.mul(input))
            : input.sub(target.mul(input.add(call.Args.Float("eps")).log()));
        if (!call.Args.Bool("full"))
        {
            return loss;
        }

        var stirling = target.mul(target.log()).sub(target).add(target.mul(2 * Math.PI).log().mul(0.5));
        return loss.add(stirling.masked_fill(target.le(1), 0));
    }
}
