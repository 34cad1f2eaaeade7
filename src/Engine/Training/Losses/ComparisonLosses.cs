using Sconce.Engine.Catalog;
using static TorchSharp.torch;

namespace Sconce.Engine.Training.Losses;

internal sealed class CosineEmbedding() : LossRule(
    "CosineEmbeddingLoss", "cosine_embedding_loss", ["input1", "input2", "target"], [Argument.Float("margin").Or(0.0)])
{
    public override void Check(LossCall call)
    {
        call.SameType(1);
        call.Rank(0, 1, 2);
        call.SameShape(1);
        call.HasShape(2, call[0].shape.AsSpan()[..^1]);
        if (call[2].is_complex())
        {
            throw call.Refuse(2, $"needs 1 or -1; {call.Show(2)}");
        }
    }

    public override Tensor Compute(LossCall call) =>
        nn.functional.cosine_embedding_loss(call[0], call[1], call[2], call.Args.Float("margin"), ReductionOf(call));
}

internal sealed class MarginRanking() : LossRule(
    "MarginRankingLoss", "margin_ranking_loss", ["input1", "input2", "target"], [Argument.Float("margin").Or(0.0)])
{
    public override void Check(LossCall call)
    {
        call.SameType(1);
        call.Rank(1, (int)call[0].dim(), (int)call[0].dim());
        call.Rank(2, (int)call[0].dim(), (int)call[0].dim());
        call.Broadcasts(1);
        call.Broadcasts(2);
        call.Broadcasts(2, 1);
        if (call[2].is_complex())
        {
            throw call.Refuse(2, $"needs 1 or -1; {call.Show(2)}");
        }
    }

    public override Tensor Compute(LossCall call) =>
        nn.functional.margin_ranking_loss(call[0], call[1], call[2], call.Args.Float("margin"), ReductionOf(call));
}

/// <summary>TripletMarginLoss, and TripletMarginWithDistanceLoss with PyTorch's default distance (a caller cannot send code for another).</summary>
/// <remarks>Ours: TorchSharp's takes whole norm degrees only.</remarks>
internal sealed class TripletMargin(bool withDistance) : LossRule(
    withDistance ? "TripletMarginWithDistanceLoss" : "TripletMarginLoss",
    withDistance ? "triplet_margin_with_distance_loss" : "triplet_margin_loss",
    ["anchor", "positive", "negative"],
    withDistance
        ? [Argument.Float("margin").Or(1.0), Argument.Bool("swap", false)]
        : [Argument.Float("margin").Or(1.0), Argument.Float("p").Or(2.0).AtLeast(0), Argument.Float("eps").Or(1e-6), Argument.Bool("swap", false)])
{
    public override void Check(LossCall call)
    {
        call.Rank(0, 1, int.MaxValue);
        for (var i = 1; i < 3; i++)
        {
            call.SameType(i);
            call.Rank(i, (int)call[0].dim(), (int)call[0].dim());
            call.Broadcasts(i);
        }

        call.Broadcasts(2, 1);
    }

    public override Tensor Compute(LossCall call)
    {
        var (anchor, positive, negative) = (call[0], call[1], call[2]);
        var far = Distance(anchor, negative);
        if (call.Args.Bool("swap"))
        {
            far = far.minimum(Distance(positive, negative));
        }

        return Reduce(Distance(anchor, positive).sub(far).add(call.Args.Float("margin")).clamp_min(0), call);

        Tensor Distance(Tensor a, Tensor b) =>
            a.sub(b).add(withDistance ? 1e-6 : call.Args.Float("eps")).norm(-1, false, withDistance ? 2 : (float)call.Args.Float("p"));
    }
}
