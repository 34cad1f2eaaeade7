using Sconce.Engine.Catalog;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.Training.Losses;

/// <summary>CTC, whose kernel trusts lengths and targets and reads past its memory where they are wrong.</summary>
internal sealed class Ctc() : LossRule(
    "CTCLoss", "ctc_loss", ["log_probs", "targets", "input_lengths", "target_lengths"],
    [Argument.Int("blank").Or(0L).AtLeast(0), Reduction(), Argument.Bool("zero_infinity", false)])
{
    public override void Check(LossCall call)
    {
        call.Floating(0);
        call.Rank(0, 2, 3);
        call.Rank(1, 1, 2);
        for (var i = 1; i < 4; i++)
        {
            if (call[i].dtype is not (ScalarType.Int64 or ScalarType.Int32))
            {
                throw call.Refuse(i, $"needs int64 or int32; {call.Show(i)}");
            }
        }

        if (call[0].numel() == 0)
        {
            throw call.Refuse(0, $"needs at least one step, sequence and class; {call.Show(0)}");
        }

        var shape = call[0].shape;
        var (steps, batch, classes) = (shape[0], shape.Length == 3 ? shape[1] : 1, shape[^1]);
        if (call.Args.Int("blank") >= classes)
        {
            throw call.Args.Refuse("blank", $"is {call.Args.Int("blank")}; log_probs has {classes} classes, counted from 0");
        }

        CheckLengths(call, 2, batch, shape.Length);
        CheckLengths(call, 3, batch, shape.Length);
        call.InRange(2, 0, steps, "length");
        CheckTargets(call, batch, classes);
    }

    public override Tensor Compute(LossCall call) => nn.functional.ctc_loss(
        call[0], call[1], call[2], call[3], call.Args.Int("blank"), call.Args.Bool("zero_infinity"), ReductionOf(call));

    private static void CheckLengths(LossCall call, int index, long batch, int rank)
    {
        if (call[index].numel() != batch || (rank == 3 && call[index].dim() != 1))
        {
            throw call.Refuse(index, $"needs one length for each of the {batch} sequences in log_probs; {call.Show(index)}");
        }
    }

    private static void CheckTargets(LossCall call, long batch, long classes)
    {
        var padded = call[1].dim() == 2;
        if (padded && call[1].shape[0] != batch)
        {
            throw call.Refuse(1, $"needs targets of shape [{batch}, S] for log_probs of shape {LossCall.Shape(call[0].shape)}; {call.Show(1)}");
        }

        var room = call[1].shape[^1];
        var lengths = call[3].to(ScalarType.Int64).reshape(-1);
        call.InRange(3, 0, room, "length");
        if (!padded && lengths.sum().ToInt64() != room)
        {
            throw call.Refuse(1, $"needs exactly as many targets as target_lengths come to, {lengths.sum().ToInt64()}; {call.Show(1)}");
        }

        // Only what the lengths cover is read; padding may hold anything.
        var values = call[1].to(ScalarType.Int64);
        if (padded)
        {
            var covered = arange(room, ScalarType.Int64, device: values.device).unsqueeze(0).lt(lengths.unsqueeze(1));
            values = values.masked_fill(covered.logical_not(), 0);
        }

        if (values.numel() > 0 && (values.min().ToInt64() < 0 || values.max().ToInt64() >= classes))
        {
            var bad = values.min().ToInt64() < 0 ? values.min().ToInt64() : values.max().ToInt64();
            throw call.Refuse(1, $"got class {bad}; they are from 0 to {classes - 1}");
        }
    }
}
