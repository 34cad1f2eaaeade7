using Sconce.Engine.Tensors;
using TorchSharp.Modules;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace Sconce.Engine.Modules;

/// <summary><c>LayerNorm</c> and <c>RMSNorm</c>: over the last dimensions, without statistics.</summary>
internal sealed class LayerNormNode : ModuleNode
{
    private readonly long[] _shape;
    private readonly long[] _axes;
    private readonly double? _eps;
    private readonly bool _rms;
    private Parameter? _weight;
    private Parameter? _bias;

    public LayerNormNode(NodeOrigin origin, BuildContext context, bool rms)
        : base(origin)
    {
        _rms = rms;
        _shape = origin.Args.Ints("normalized_shape");
        _axes = [.. Enumerable.Range(1, _shape.Length).Select(i => (long)-i)];
        _eps = origin.Args.FloatOrNone("eps");
        if (_shape.Length == 0)
        {
            throw origin.Args.Refuse("normalized_shape", "an empty list was given; expected at least one size");
        }

        if (origin.Args.Bool("elementwise_affine"))
        {
            _weight = context.Parameter(origin, _shape);
            _bias = !rms && origin.Args.Bool("bias") ? context.Parameter(origin, _shape) : null;
        }

        ParameterSlot weight = new("weight", _weight, _shape);
        Slots = rms ? [weight] : [weight, new("bias", _bias, _shape)];
    }

    public override string ExtraRepr => $"{Origin.Args.Repr("normalized_shape", spread: true)}, eps={Origin.Args.Repr("eps")}, elementwise_affine={Origin.Args.Repr("elementwise_affine")}";

    internal override bool ResetParameters()
    {
        if (_weight is not null)
        {
            Initial.Fill(_weight, 1);
        }

        if (_bias is not null)
        {
            Initial.Fill(_bias, 0);
        }

        return true;
    }

    private protected override bool Rebind(string name, Parameter? parameter)
    {
        (_weight, _bias) = name == "weight" ? (parameter, _bias) : (_weight, parameter);
        return true;
    }

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var input = TensorAt(inputs, 0, context);
        var shape = input.shape;
        if (shape.Length < _shape.Length || !shape.AsSpan(shape.Length - _shape.Length).SequenceEqual(_shape))
        {
            throw Refuse(context, $"takes an input whose last dimensions are [{string.Join(", ", _shape)}] (normalized_shape); it was given {CallFailure.Describe(input)}");
        }

        return TensorTree.Of(_rms ? RootMeanSquare(input, _axes, _weight, _eps) : F.layer_norm(input, _shape, _weight, _bias, _eps ?? 1e-5));
    }

    // As libtorch does, 16-bit inputs are normalised in float32 and rounded once.
    internal static Tensor RootMeanSquare(Tensor input, long[] axes, Tensor? weight, double? epsilon)
    {
        var wide = input.dtype is ScalarType.Float16 or ScalarType.BFloat16 ? input.to_type(ScalarType.Float32) : input;
        var eps = epsilon ?? (wide.dtype == ScalarType.Float64 ? double.BitIncrement(1) - 1 : float.BitIncrement(1) - 1);
        var normal = wide * wide.pow(2).mean(axes, keepdim: true).add(eps).rsqrt();
        return weight is null ? normal.to_type(input.dtype) : (normal * weight).to_type(input.dtype);
    }
}

/// <summary><c>GroupNorm</c>.</summary>
internal sealed class GroupNormNode : ModuleNode
{
    private readonly long _groups;
    private readonly long _channels;
    private readonly double _eps;
    private Parameter? _weight;
    private Parameter? _bias;

    public GroupNormNode(NodeOrigin origin, BuildContext context)
        : base(origin)
    {
        _groups = origin.Args.Int("num_groups");
        _channels = origin.Args.Int("num_channels");
        _eps = origin.Args.Float("eps");
        if (_channels % _groups != 0)
        {
            throw origin.Args.Refuse("num_groups", $"{_groups} was given; it must divide num_channels, which is {_channels}");
        }

        if (origin.Args.Bool("affine"))
        {
            _weight = context.Parameter(origin, _channels);
            _bias = context.Parameter(origin, _channels);
        }

        Slots = [new("weight", _weight, [_channels]), new("bias", _bias, [_channels])];
    }

    public override string ExtraRepr => $"{_groups}, {_channels}, eps={Origin.Args.Repr("eps")}, affine={Origin.Args.Repr("affine")}";

    internal override bool ResetParameters()
    {
        if (_weight is not null)
        {
            Initial.Fill(_weight, 1);
        }

        if (_bias is not null)
        {
            Initial.Fill(_bias, 0);
        }

        return true;
    }

    private protected override bool Rebind(string name, Parameter? parameter)
    {
        (_weight, _bias) = name == "weight" ? (parameter, _bias) : (_weight, parameter);
        return true;
    }

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var input = TensorAt(inputs, 0, context);
        var shape = input.shape;
        if (shape.Length < 2 || shape[1] != _channels)
        {
            throw Refuse(context, $"takes an input with {_channels} channels (num_channels) in its second dimension; it was given {CallFailure.Describe(input)}");
        }

        if (shape[0] * shape[2..].Aggregate(_channels / _groups, (product, size) => product * size) == 1)
        {
            throw Refuse(context, $"needs more than 1 value per group; it was given {CallFailure.Describe(input)}");
        }

        return TensorTree.Of(F.group_norm(input, _groups, _weight, _bias, _eps));
    }
}
