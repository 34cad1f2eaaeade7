using Sconce.Engine.Catalog;
using static TorchSharp.torch;

namespace Sconce.Engine.Training.Losses;

/// <summary>What losses over class indexes share: scores of shape [C], [N, C] or [N, C, …], and indexes without the C.</summary>
internal abstract class ClassIndexLoss(string type, string functional, Argument[] arguments) : LossRule(type, functional, ElementwiseLoss.InputAndTarget, arguments)
{
    protected static long Classes(LossCall call) => call[0].shape[call[0].dim() == 1 ? 0 : 1];

    /// <summary>The target as libtorch wants it: some of its kernels take the uint8 that others take, and some only seem to.</summary>
    protected static Tensor Indexes(LossCall call) => call[1].dtype == ScalarType.Byte ? call[1].to(ScalarType.Int64) : call[1];

    protected static void CheckIndexes(LossCall call, int mostDimensions, long? ignored)
    {
        call.Floating(0);
        call.Rank(0, 1, mostDimensions);
        if (call[1].dtype is not (ScalarType.Int64 or ScalarType.Byte))
        {
            throw call.Refuse(1, $"needs class indexes of int64; {call.Show(1)}");
        }

        var shape = call[0].shape;
        call.HasShape(1, shape.Length == 1 ? [] : [shape[0], .. shape.AsSpan()[2..]]);
        call.WeightCount("weight", Classes(call));
        call.InRange(1, 0, Classes(call) - 1, "class", ignored);
    }
}

internal sealed class CrossEntropy() : ClassIndexLoss(
    "CrossEntropyLoss", "cross_entropy",
    [Weight(), Argument.Int("ignore_index").Or(-100L), Reduction(), Argument.Float("label_smoothing").Or(0.0).Between(0, 1)])
{
    public override void Check(LossCall call)
    {
        if (!call[1].is_floating_point())
        {
            CheckIndexes(call, int.MaxValue, call.Args.Int("ignore_index"));
            return;
        }

        // Floating targets are probabilities of the classes.
        call.SameType(1);
        call.Rank(0, 1, int.MaxValue);
        call.SameShape(1);
        call.WeightCount("weight", Classes(call));
        if (call.Args.Int("ignore_index") >= 0)
        {
            throw call.Args.Refuse("ignore_index", "is of no use with class probabilities as target; leave it out");
        }
    }

    public override Tensor Compute(LossCall call) => nn.functional.cross_entropy(
        call[0], Indexes(call), call.Vector("weight"), call.Args.Int("ignore_index"), ReductionOf(call), call.Args.Float("label_smoothing"));
}

internal sealed class NegativeLogLikelihood() : ClassIndexLoss("NLLLoss", "nll_loss", [Weight(), Argument.Int("ignore_index").Or(Ignored)])
{
    private const long Ignored = -100;

    public override void Check(LossCall call) => CheckIndexes(call, int.MaxValue, call.Args.Int("ignore_index"));

    public override Tensor Compute(LossCall call)
    {
        // TorchSharp passes no ignore_index on: give what is to be ignored the default's value.
        var ignored = call.Args.Int("ignore_index");
        var target = ignored == Ignored ? Indexes(call) : Indexes(call).masked_fill(call[1].eq(ignored), Ignored);
        return nn.functional.nll_loss(call[0], target, call.Vector("weight"), ReductionOf(call));
    }
}

internal sealed class MultiMargin() : ClassIndexLoss(
    "MultiMarginLoss", "multi_margin_loss", [Argument.Int("p").Or(1L).Between(1, 2), Argument.Float("margin").Or(1.0), Weight()])
{
    public override void Check(LossCall call) => CheckIndexes(call, 2, null);

    public override Tensor Compute(LossCall call) => nn.functional.multi_margin_loss(
        call[0], Indexes(call), (int)call.Args.Int("p"), call.Args.Float("margin"), call.Vector("weight"), ReductionOf(call));
}

/// <summary>Targets are lists of class indexes, each ended by -1.</summary>
internal sealed class MultiLabelMargin() : LossRule("MultiLabelMarginLoss", "multilabel_margin_loss", ElementwiseLoss.InputAndTarget, [])
{
    public override void Check(LossCall call)
    {
        call.Floating(0);
        call.Rank(0, 1, 2);
        call.SameShape(1);
        if (call[1].dtype != ScalarType.Int64)
        {
            throw call.Refuse(1, $"needs class indexes of int64; {call.Show(1)}");
        }

        call.InRange(1, -1, call[0].shape[^1] - 1, "class");
    }

    public override Tensor Compute(LossCall call) => nn.functional.multi_label_margin_loss(call[0], call[1], ReductionOf(call));
}

/// <summary>Targets are 0 or 1 for each class.</summary>
internal sealed class MultiLabelSoftMargin() : LossRule("MultiLabelSoftMarginLoss", "multilabel_soft_margin_loss", ElementwiseLoss.InputAndTarget, [Weight()])
{
    public override void Check(LossCall call)
    {
        call.SameType(1);
        call.Rank(0, 1, int.MaxValue);
        call.SameShape(1);
        call.WeightCount("weight", call[0].shape[^1]);
    }

    public override Tensor Compute(LossCall call) =>
        nn.functional.multilabel_soft_margin_loss(call[0], call[1], call.Vector("weight"), ReductionOf(call));
}
