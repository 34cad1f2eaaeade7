using Sconce.Engine.Catalog;
using Sconce.Engine.Tensors;
using TorchSharp;
using TorchSharp.Modules;
using F = TorchSharp.torch.nn.functional;

namespace Sconce.Engine.Modules;

/// <summary><c>Conv1d</c>, <c>Conv2d</c>, <c>Conv3d</c>.</summary>
internal sealed class ConvNode : ModuleNode
{
    private readonly int _dimensions;
    private readonly long[] _stride;
    private readonly long[] _dilation;
    private readonly long _groups;

    // What libtorch pads with zeros by itself, and what is padded before in another mode (pairs from the last dimension on).
    private readonly long[] _padding;
    private readonly long[] _before = [];
    private readonly PaddingModes _mode;
    private readonly bool _same;

    public ConvNode(NodeOrigin origin, BuildContext context, int dimensions)
        : base(origin)
    {
        var args = origin.Args;
        _dimensions = dimensions;
        _stride = args.Ints("stride");
        _dilation = args.Ints("dilation");
        _groups = args.Int("groups");
        var kernel = args.Ints("kernel_size");
        ConvolutionTypes.CheckGroups(args);
        _same = args.IsText("padding") && args.Text("padding") == "same";
        if (_same && _stride.Any(s => s != 1))
        {
            throw args.Refuse("padding", "\"same\" needs a stride of 1");
        }

        _mode = ConvolutionTypes.PaddingModeOf(args.Text("padding_mode"));
        _padding = args.IsText("padding") ? new long[dimensions] : args.Ints("padding");
        if (_mode != PaddingModes.Zeros)
        {
            _before = _same
                ? [.. Enumerable.Range(0, dimensions).Reverse().SelectMany(i => Halves(_dilation[i] * (kernel[i] - 1)))]
                : [.. _padding.Reverse().SelectMany(p => new[] { p, p })];
            _padding = new long[dimensions];
            _same = false;
        }

        Weight = context.Parameter(origin, [args.Int("out_channels"), args.Int("in_channels") / _groups, .. kernel]);
        Bias = args.Bool("bias") ? context.Parameter(origin, args.Int("out_channels")) : null;
        Slots = [new("weight", Weight), new("bias", Bias, [args.Int("out_channels")])];
    }

    public Parameter Weight { get; private set; }

    public Parameter? Bias { get; private set; }

    public override string ExtraRepr => ConvolutionTypes.Repr(Origin.Args, Bias is not null, outputPadding: null);

    internal override bool ResetParameters()
    {
        ConvolutionTypes.Initialise(Weight, Bias);
        return true;
    }

    private protected override bool Rebind(string name, Parameter? parameter)
    {
        (Weight, Bias) = name == "weight" ? (parameter ?? Weight, Bias) : (Weight, parameter);
        return name != "weight" || parameter is not null;
    }

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var input = TensorAt(inputs, 0, context);
        if (_before.Length > 0)
        {
            context.Memory?.Need(input, ResultShape.Padded(input, _before));
            input = F.pad(input, _before, _mode);
        }

        ConvolutionTypes.NeedOutput(context.Memory, input, Weight, _stride, _same ? null : _padding, _dilation);
        return TensorTree.Of((_dimensions, _same) switch
        {
            (1, false) => F.conv1d(input, Weight, Bias, _stride[0], _padding[0], _dilation[0], _groups),
            (2, false) => F.conv2d(input, Weight, Bias, _stride, _padding, _dilation, _groups),
            (3, false) => F.conv3d(input, Weight, Bias, _stride, _padding, _dilation, _groups),
            (1, true) => F.conv1d_padding(input, Weight, Bias, _stride[0], Padding.Same, _dilation[0], _groups),
            (2, true) => F.conv2d_padding(input, Weight, Bias, _stride, Padding.Same, _dilation, _groups),
            _ => F.conv3d_padding(input, Weight, Bias, _stride, Padding.Same, _dilation, _groups),
        });
    }

    private static long[] Halves(long total) => [total / 2, total - (total / 2)];
}
