using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using TorchSharp;
using TorchSharp.Modules;
using static Sconce.Engine.Catalog.Argument;

namespace Sconce.Engine.Catalog;

/// <summary>
/// Convolutions. oneDNN computes many of them, and its exceptions end the process (TorchSharp catches only libtorch's): what it would refuse,
/// such as no channels or an empty output, is refused here.
/// </summary>
internal static class ConvolutionTypes
{
    public static IEnumerable<ModuleType> All { get; } =
    [
        .. Enumerable.Range(1, 3).Select(Conv),
        .. Enumerable.Range(1, 3).Select(Transposed),
    ];

    /// <summary>Checks that the groups divide the channels, as PyTorch's constructors do.</summary>
    public static void CheckGroups(BoundArguments args)
    {
        var groups = args.Int("groups");
        foreach (var channels in new[] { "in_channels", "out_channels" })
        {
            if (args.Int(channels) % groups != 0)
            {
                throw args.Refuse("groups", $"{groups} was given; it must divide {channels}, which is {args.Int(channels)}");
            }
        }
    }

    public static PaddingModes PaddingModeOf(string name) => name switch
    {
        "reflect" => PaddingModes.Reflect,
        "replicate" => PaddingModes.Replicate,
        "circular" => PaddingModes.Circular,
        _ => PaddingModes.Zeros,
    };

    /// <summary>What <c>_ConvNd.extra_repr</c> says.</summary>
    public static string Repr(BoundArguments args, bool bias, string? outputPadding)
    {
        var text = $"{args.Repr("in_channels")}, {args.Repr("out_channels")}, kernel_size={args.Repr("kernel_size", spread: true)}, stride={args.Repr("stride", spread: true)}";
        if (args.IsText("padding") || args.Ints("padding").Any(p => p != 0))
        {
            text += $", padding={args.Repr("padding", spread: true)}";
        }

        if (args.Ints("dilation").Any(d => d != 1))
        {
            text += $", dilation={args.Repr("dilation", spread: true)}";
        }

        if (outputPadding is not null && args.Ints(outputPadding).Any(p => p != 0))
        {
            text += $", output_padding={args.Repr(outputPadding, spread: true)}";
        }

        if (args.Int("groups") != 1)
        {
            text += $", groups={args.Repr("groups")}";
        }

        if (!bias)
        {
            text += ", bias=False";
        }

        return args.Text("padding_mode") == "zeros" ? text : $"{text}, padding_mode={args.Text("padding_mode")}";
    }

    public static void Initialise(Parameter weight, Parameter? bias)
    {
        Initial.KaimingUniform(weight);
        if (bias is not null)
        {
            // Without a fan-in PyTorch leaves the bias as memory had it; zero is the kinder choice.
            Initial.UniformByFanIn(bias, weight.shape[1..].Aggregate(1L, (product, size) => product * size));
        }
    }

    /// <summary>Asks for room for the output of a convolution.</summary>
    /// <param name="memory">What is asked; null asks nothing.</param>
    /// <param name="input">The input.</param>
    /// <param name="weight">The weight.</param>
    /// <param name="stride">Stride of each dimension.</param>
    /// <param name="padding">Zeros on each side; null where the output has the input's sizes.</param>
    /// <param name="dilation">Dilation of each dimension.</param>
    public static void NeedOutput(CallMemory? memory, torch.Tensor input, torch.Tensor weight, long[] stride, long[]? padding, long[] dilation)
    {
        var (shape, n) = (input.shape, stride.Length);
        if (memory is not null && shape.Length > n)
        {
            var sizes = shape.AsSpan(^n);
            memory.Need(input, padding is null ? sizes : ResultShape.Windows(sizes, weight.shape[2..], stride, padding, dilation), TensorSize.Product(weight.shape[0], BatchOf(shape, n)));
        }
    }

    /// <summary>Asks for room for the output of a transposed convolution.</summary>
    /// <param name="memory">What is asked; null asks nothing.</param>
    /// <param name="input">The input, of n + 1 or n + 2 dimensions.</param>
    /// <param name="weight">The weight.</param>
    /// <param name="groups">Groups of channels.</param>
    /// <param name="stride">Stride of each dimension.</param>
    /// <param name="padding">What is cut off on each side.</param>
    /// <param name="extra">The output padding.</param>
    /// <param name="dilation">Dilation of each dimension.</param>
    /// <returns>What is wrong with the output's sizes; null for nothing.</returns>
    public static string? NeedTransposedOutput(CallMemory? memory, torch.Tensor input, torch.Tensor weight, long groups, long[] stride, long[] padding, long[] extra, long[] dilation)
    {
        var (shape, n) = (input.shape, stride.Length);
        var sizes = new long[n];
        for (var i = 0; i < n; i++)
        {
            var size = LeastTransposed(shape[^(n - i)], weight.shape[i + 2], stride[i], padding[i], dilation[i]) + extra[i];
            if (size < 1 || size > long.MaxValue / 8)
            {
                return $"would give an output of size {size} in spatial dimension {i}";
            }

            sizes[i] = (long)size;
        }

        memory?.Need(input, sizes, TensorSize.Product(weight.shape[1], groups, BatchOf(shape, n)));
        return null;
    }

    /// <summary>A transposed convolution's output in one dimension, without output padding. Wide, because every factor is the caller's.</summary>
    public static Int128 LeastTransposed(long size, long kernel, long stride, long padding, long dilation) =>
        ((Int128)(size - 1) * stride) - (2 * (Int128)padding) + ((Int128)dilation * (kernel - 1)) + 1;

    private static long BatchOf(long[] shape, int n) => shape.Length > n + 1 ? shape[0] : 1;

    private static ModuleType Conv(int dimensions) => new($"Conv{dimensions}d", "_ConvNd", $"conv{dimensions}d",
        [
            Int("in_channels").AtLeast(1), Int("out_channels").AtLeast(1), Ints("kernel_size", dimensions).AtLeast(1), Ints("stride", dimensions).AtLeast(1).Or(1L),
            IntsOrText("padding", dimensions, "same", "valid").AtLeast(0).Or(0L), Ints("dilation", dimensions).AtLeast(1).Or(1L), Int("groups").AtLeast(1).Or(1L),
            Bool("bias", true), Text("padding_mode", "zeros", "reflect", "replicate", "circular").Or("zeros"), Dtype(),
        ],
        ["input"], (origin, context) => new ConvNode(origin, context, dimensions));

    private static ModuleType Transposed(int dimensions) => new($"ConvTranspose{dimensions}d", "_ConvTransposeNd", $"conv_transpose{dimensions}d",
        [
            Int("in_channels").AtLeast(1), Int("out_channels").AtLeast(1), Ints("kernel_size", dimensions).AtLeast(1), Ints("stride", dimensions).AtLeast(1).Or(1L),
            Ints("padding", dimensions).AtLeast(0).Or(0L), Ints("output_padding", dimensions).AtLeast(0).Or(0L), Int("groups").AtLeast(1).Or(1L), Bool("bias", true),
            Ints("dilation", dimensions).AtLeast(1).Or(1L), Text("padding_mode", "zeros").Or("zeros"), Dtype(),
        ],
        ["input", "output_size?"], (origin, context) => new ConvTransposeNode(origin, context, dimensions));
}
