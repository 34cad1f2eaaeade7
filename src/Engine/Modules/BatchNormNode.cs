using Sconce.Engine.Tensors;
using TorchSharp.Modules;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace Sconce.Engine.Modules;

/// <summary>What <c>_NormBase</c> holds: scale, shift and running statistics.</summary>
internal abstract class RunningNormNode : ModuleNode
{
    private protected RunningNormNode(NodeOrigin origin, BuildContext context)
        : base(origin)
    {
        var args = origin.Args;
        Features = args.Int("num_features");
        Eps = args.Float("eps");
        Momentum = args.FloatOrNone("momentum");
        if (args.Bool("affine"))
        {
            Weight = context.Parameter(origin, Features);
            Bias = context.Parameter(origin, Features);
        }

        Slots = [new("weight", Weight, [Features]), new("bias", Bias, [Features])];

        if (args.Bool("track_running_stats"))
        {
            RunningMean = context.Buffer(origin, 0, Features);
            RunningVar = context.Buffer(origin, 1, Features);
            BatchesTracked = context.Counter(origin);
        }

        BufferSlots = [new("running_mean", RunningMean, true), new("running_var", RunningVar, true), new("num_batches_tracked", BatchesTracked, true)];
    }

    public override string ExtraRepr
    {
        get
        {
            var a = Origin.Args;
            return $"{Features}, eps={a.Repr("eps")}, momentum={a.Repr("momentum")}, affine={a.Repr("affine")}, track_running_stats={a.Repr("track_running_stats")}";
        }
    }

    private protected long Features { get; }

    private protected double Eps { get; }

    private protected double? Momentum { get; }

    private protected Parameter? Weight { get; private set; }

    private protected Parameter? Bias { get; private set; }

    private protected Tensor? RunningMean { get; }

    private protected Tensor? RunningVar { get; }

    private protected Tensor? BatchesTracked { get; }

    internal override bool ResetParameters()
    {
        if (RunningMean is not null)
        {
            Initial.Fill(RunningMean, 0);
            Initial.Fill(RunningVar!, 1);
            Initial.Fill(BatchesTracked!, 0);
        }

        if (Weight is not null)
        {
            Initial.Fill(Weight, 1);
        }

        if (Bias is not null)
        {
            Initial.Fill(Bias, 0);
        }

        return true;
    }

    private protected override bool Rebind(string name, Parameter? parameter)
    {
        (Weight, Bias) = name == "weight" ? (parameter, Bias) : (Weight, parameter);
        return true;
    }
}

/// <summary><c>BatchNorm1d</c>, <c>BatchNorm2d</c>, <c>BatchNorm3d</c>, and <c>SyncBatchNorm</c>, which is the same within one process.</summary>
/// <param name="origin">What it is made of.</param>
/// <param name="context">How it is made.</param>
/// <param name="leastDimensions">Fewest dimensions of an input.</param>
/// <param name="mostDimensions">Most dimensions of an input.</param>
internal sealed class BatchNormNode(NodeOrigin origin, BuildContext context, int leastDimensions, int mostDimensions) : RunningNormNode(origin, context)
{
    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var input = TensorAt(inputs, 0, context);
        var shape = input.shape;
        if (shape.Length < leastDimensions || shape.Length > mostDimensions)
        {
            var expected = leastDimensions == mostDimensions ? $"{leastDimensions}" : mostDimensions == int.MaxValue ? $"at least {leastDimensions}" : $"{leastDimensions} or {mostDimensions}";
            throw Refuse(context, $"takes an input of {expected} dimensions; it was given {CallFailure.Describe(input)}");
        }

        if (shape[1] != Features)
        {
            throw Refuse(context, $"takes an input with {Features} channels (num_features) in its second dimension; it was given {CallFailure.Describe(input)}");
        }

        var useBatch = Training || RunningMean is null;
        if (useBatch && shape[0] * shape[2..].Aggregate(1L, (product, size) => product * size) == 1)
        {
            throw Refuse(context, $"needs more than 1 value per channel when training; it was given {CallFailure.Describe(input)}: send a larger batch, or call it in eval mode");
        }

        var factor = Momentum ?? 0;
        if (Training && BatchesTracked is not null)
        {
            using var quiet = no_grad();
            BatchesTracked.add_(1);
            if (Momentum is null)
            {
                // No momentum means the plain average over all batches so far.
                factor = 1.0 / BatchesTracked.to_type(ScalarType.Int64).item<long>();
            }
        }

        return TensorTree.Of(F.batch_norm(input, RunningMean, RunningVar, Weight, Bias, useBatch, factor, Eps));
    }
}

/// <summary><c>InstanceNorm1d</c>, <c>InstanceNorm2d</c>, <c>InstanceNorm3d</c>.</summary>
/// <param name="origin">What it is made of.</param>
/// <param name="context">How it is made.</param>
/// <param name="spatial">Number of spatial dimensions.</param>
internal sealed class InstanceNormNode(NodeOrigin origin, BuildContext context, int spatial) : RunningNormNode(origin, context)
{
    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var input = TensorAt(inputs, 0, context);
        var shape = input.shape;
        if (shape.Length != spatial + 1 && shape.Length != spatial + 2)
        {
            throw Refuse(context, $"takes an input of {spatial + 1} or {spatial + 2} dimensions; it was given {CallFailure.Describe(input)}");
        }

        if (shape[^(spatial + 1)] != Features && (Weight is not null || RunningMean is not null))
        {
            throw Refuse(context, $"takes an input with {Features} channels (num_features); it was given {CallFailure.Describe(input)}");
        }

        var useInput = Training || RunningMean is null;
        if (useInput && shape[^spatial..].Aggregate(1L, (product, size) => product * size) == 1)
        {
            throw Refuse(context, $"needs more than 1 spatial element when training; it was given {CallFailure.Describe(input)}");
        }

        var unbatched = shape.Length == spatial + 1;
        var output = F.instance_norm(unbatched ? input.unsqueeze(0) : input, RunningMean, RunningVar, Weight, Bias, useInput, Momentum ?? 0, Eps);
        return TensorTree.Of(unbatched ? output.squeeze(0) : output);
    }
}
