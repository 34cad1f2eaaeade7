using Sconce.Engine.Modules;
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
