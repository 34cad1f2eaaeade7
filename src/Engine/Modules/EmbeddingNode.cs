using Sconce.Engine.Tensors;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>
/// <c>Embedding</c>. TorchSharp has no functional form, so its module does the look-up on our parameter: it is made with rows of no elements,
/// and its weight set.
/// </summary>
internal sealed class EmbeddingNode : ModuleNode
{
    private readonly long _rows;
    private readonly Parameter _weight;
    private readonly Embedding? _native;

    public EmbeddingNode(NodeOrigin origin, BuildContext context)
        : base(origin)
    {
        var a = origin.Args;
        _rows = a.Int("num_embeddings");
        Padding = EmbeddingTable.PaddingRow(a, _rows);
        if (a.Bool("sparse") && a.Bool("scale_grad_by_freq"))
        {
            throw a.Refuse("scale_grad_by_freq", "true was given with sparse=True, whose gradients cannot be scaled");
        }

        _weight = context.Parameter(origin, _rows, a.Int("embedding_dim"));
        Parameters = [new("weight", _weight)];
        if (!context.OnMeta)
        {
            _native = nn.Embedding(_rows, 0, Padding, a.FloatOrNone("max_norm"), a.Float("norm_type"), a.Bool("scale_grad_by_freq"), a.Bool("sparse"));
            _native.weight = _weight;
        }
    }

    public override string ExtraRepr => EmbeddingTable.Repr(Origin.Args, Padding, mode: null) + (Origin.Args.Bool("sparse") ? ", sparse=True" : "");

    private long? Padding { get; }

    /// <summary>Draws the weight with a standard deviation; the padding row is 0.</summary>
    internal void Initialise(double std) => EmbeddingTable.Initialise(_weight, Padding, std);

    internal override bool ResetParameters()
    {
        Initialise(1);
        return true;
    }

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var input = TensorAt(inputs, 0, context);
        if (EmbeddingTable.Problem(input, _rows) is { } problem)
        {
            throw Refuse(context, problem);
        }

        context.Memory?.Need(_weight, input.shape, _weight.shape[1]);
        return TensorTree.Of(_native!.forward(input));
    }

    protected override void Dispose(bool disposing)
    {
        _native?.Dispose();
        base.Dispose(disposing);
    }
}

/// <summary><c>EmbeddingBag</c>, made as <see cref="EmbeddingNode"/>.</summary>
internal sealed class EmbeddingBagNode : ModuleNode
{
    private readonly long _rows;
    private readonly string _mode;
    private readonly bool _includesLast;
    private readonly Parameter _weight;
    private readonly EmbeddingBag? _native;

    public EmbeddingBagNode(NodeOrigin origin, BuildContext context)
        : base(origin)
    {
        var a = origin.Args;
        _rows = a.Int("num_embeddings");
        _mode = a.Text("mode");
        _includesLast = a.Bool("include_last_offset");
        Padding = EmbeddingTable.PaddingRow(a, _rows);
        if (_mode == "max" && (a.Bool("scale_grad_by_freq") || a.Bool("sparse")))
        {
            throw a.Refuse("mode", "\"max\" supports neither scale_grad_by_freq nor sparse");
        }

        _weight = context.Parameter(origin, _rows, a.Int("embedding_dim"));
        Parameters = [new("weight", _weight)];
        if (!context.OnMeta)
        {
            var mode = _mode switch { "sum" => EmbeddingBagMode.Sum, "max" => EmbeddingBagMode.Max, _ => EmbeddingBagMode.Mean };
            _native = nn.EmbeddingBag(_rows, 0, a.FloatOrNone("max_norm"), a.Float("norm_type"), a.Bool("scale_grad_by_freq"), mode, a.Bool("sparse"), _includesLast, Padding ?? -1);
            _native.weight = _weight;
        }
    }

    public override string ExtraRepr => EmbeddingTable.Repr(Origin.Args, Padding, _mode);

    private long? Padding { get; }

    internal override bool ResetParameters()
    {
        EmbeddingTable.Initialise(_weight, Padding);
        return true;
    }

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var (input, offsets, weights) = (TensorAt(inputs, 0, context), OptionalTensorAt(inputs, 1, context), OptionalTensorAt(inputs, 2, context));
        if ((EmbeddingTable.Problem(input, _rows) ?? OffsetProblem(input, offsets) ?? WeightProblem(input, weights)) is { } problem)
        {
            throw Refuse(context, problem);
        }

        context.Memory?.Need(_weight, [input.Dimensions == 2 ? input.shape[0] : offsets!.shape[0]], _weight.shape[1]);
        // Libtorch's two-dimensional path fails on int32.
        return TensorTree.Of(_native!.forward(input.to_type(ScalarType.Int64), offsets?.to_type(ScalarType.Int64)!, weights!));
    }

    protected override void Dispose(bool disposing)
    {
        _native?.Dispose();
        base.Dispose(disposing);
    }

    private string? OffsetProblem(Tensor input, Tensor? offsets)
    {
        if (input.Dimensions == 2)
        {
            return offsets is null ? null : "takes no offsets with an input of 2 dimensions, whose rows are the bags";
        }

        if (input.Dimensions != 1)
        {
            return $"takes an input of 1 or 2 dimensions; it was given {CallFailure.Describe(input)}";
        }

        if (offsets is null || offsets.Dimensions != 1 || offsets.dtype is not (ScalarType.Int64 or ScalarType.Int32))
        {
            return "needs offsets, int32 or int64 with one dimension, with an input of 1 dimension";
        }

        var starts = offsets.to_type(ScalarType.Int64).data<long>().ToArray();
        return (_includesLast && starts.Length == 0) || (starts.Length > 0 && starts[0] != 0) ? "needs offsets that begin with 0"
            : starts.Zip(starts.Skip(1)).Any(pair => pair.First > pair.Second) ? "needs offsets that never fall"
            : starts.Length > 0 && starts[^1] > input.shape[0] ? $"needs offsets of at most {input.shape[0]}, the length of the input; the last is {starts[^1]}"
            : null;
    }

    private string? WeightProblem(Tensor input, Tensor? weights) =>
        weights is null ? null
        : _mode != "sum" ? $"takes per_sample_weights only with mode \"sum\"; its mode is \"{_mode}\""
        : !weights.shape.SequenceEqual(input.shape) || weights.dtype != _weight.dtype ? $"needs per_sample_weights of the input's shape and the weight's dtype; it was given {CallFailure.Describe(weights)}"
        : null;
}
