using Sconce.Engine.Catalog;
using Sconce.Engine.Tensors;
using TorchSharp.Modules;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace Sconce.Engine.Modules;

/// <summary><c>ConvTranspose1d</c>, <c>ConvTranspose2d</c>, <c>ConvTranspose3d</c>.</summary>
internal sealed class ConvTransposeNode : ModuleNode
{
    private readonly int _dimensions;
    private readonly long[] _kernel;
    private readonly long[] _stride;
    private readonly long[] _padding;
    private readonly long[] _outputPadding;
    private readonly long[] _dilation;
    private readonly long _groups;
    private Parameter _weight;
    private Parameter? _bias;

    public ConvTransposeNode(NodeOrigin origin, BuildContext context, int dimensions)
        : base(origin)
    {
        var args = origin.Args;
        _dimensions = dimensions;
        _kernel = args.Ints("kernel_size");
        _stride = args.Ints("stride");
        _padding = args.Ints("padding");
        _outputPadding = args.Ints("output_padding");
        _dilation = args.Ints("dilation");
        _groups = args.Int("groups");
        ConvolutionTypes.CheckGroups(args);
        if (Enumerable.Range(0, dimensions).Any(i => _outputPadding[i] >= Math.Max(_stride[i], _dilation[i])))
        {
            throw args.Refuse("output_padding", $"{args.Repr("output_padding")} was given; it must be less than stride or dilation in each dimension");
        }

        _weight = context.Parameter(origin, [args.Int("in_channels"), args.Int("out_channels") / _groups, .. _kernel]);
        _bias = args.Bool("bias") ? context.Parameter(origin, args.Int("out_channels")) : null;
        Slots = [new("weight", _weight), new("bias", _bias, [args.Int("out_channels")])];
    }

    public override string ExtraRepr => ConvolutionTypes.Repr(Origin.Args, _bias is not null, "output_padding");

    internal override bool ResetParameters()
    {
        ConvolutionTypes.Initialise(_weight, _bias);
        return true;
    }

    private protected override bool Rebind(string name, Parameter? parameter)
    {
        (_weight, _bias) = name == "weight" ? (parameter ?? _weight, _bias) : (_weight, parameter);
        return name != "weight" || parameter is not null;
    }

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var input = TensorAt(inputs, 0, context);
        var shape = input.shape;
        if (shape.Length != _dimensions + 1 && shape.Length != _dimensions + 2)
        {
            throw Refuse(context, $"takes an input of {_dimensions + 1} or {_dimensions + 2} dimensions; it was given {CallFailure.Describe(input)}");
        }

        var extra = OptionalTensorAt(inputs, 1, context) is { } size ? ExtraFor(shape, size, context) : _outputPadding;
        if (ConvolutionTypes.NeedTransposedOutput(context.Memory, input, _weight, _groups, _stride, _padding, extra, _dilation) is { } problem)
        {
            throw Refuse(context, $"{problem}; it was given {CallFailure.Describe(input)}");
        }

        return TensorTree.Of(_dimensions switch
        {
            1 => F.conv_transpose1d(input, _weight, _bias, _stride[0], _padding[0], extra[0], _dilation[0], _groups),
            2 => F.conv_transpose2d(input, _weight, _bias, _stride, _padding, extra, _dilation, _groups),
            _ => F.conv_transpose3d(input, _weight, _bias, _stride, _padding, extra, _dilation, _groups),
        });
    }

    // The output padding that gives a wanted output size (PyTorch's _output_padding).
    private long[] ExtraFor(long[] shape, Tensor wanted, CallContext context)
    {
        if (wanted.dtype != ScalarType.Int64 || wanted.Dimensions != 1 || (wanted.shape[0] != _dimensions && wanted.shape[0] != shape.Length))
        {
            throw Refuse(context, $"takes output_size as int64 [{_dimensions}] or [{shape.Length}]; it was given {CallFailure.Describe(wanted)}");
        }

        var size = wanted.data<long>().ToArray()[^_dimensions..];
        var extra = new long[_dimensions];
        for (var i = 0; i < _dimensions; i++)
        {
            var least = ConvolutionTypes.LeastTransposed(shape[^(_dimensions - i)], _kernel[i], _stride[i], _padding[i], _dilation[i]);
            if (size[i] < least || size[i] >= least + _stride[i])
            {
                throw Refuse(context, $"cannot make output_size {size[i]} in spatial dimension {i}; possible sizes are {least} to {least + _stride[i] - 1}");
            }

            extra[i] = (long)(size[i] - least);
        }

        return extra;
    }
}
