using Sconce.Engine.Tensors;
using static Sconce.Engine.Catalog.Argument;
using static Sconce.Engine.Catalog.StatelessType;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace Sconce.Engine.Catalog;

/// <summary>Modules that move elements, and distances.</summary>
internal static class ShapeTypes
{
    private static readonly Argument[] Windows = [Ints("kernel_size", 2).AtLeast(1), Ints("dilation", 2).AtLeast(1).Or(1L), Ints("padding", 2).AtLeast(0).Or(0L), Ints("stride", 2).AtLeast(1).Or(1L)];

    public static IReadOnlyList<StatelessType> All { get; } =
    [
        new("Identity", "Module", "", [], _ => "", _ => One(x => x)) { IsFunctionToo = false },
        new("Flatten", "Module", "flatten", [Int("start_dim").Or(1L), Int("end_dim").Or(-1L)], a => $"start_dim={a.Repr("start_dim")}, end_dim={a.Repr("end_dim")}", args =>
        {
            var (start, end) = (args.Int("start_dim"), args.Int("end_dim"));
            return One(x => x.flatten(start, end));
        }) { IsFunctionToo = false },
        new("Unflatten", "Module", "unflatten", [Int("dim"), Ints("unflattened_size")], a => $"dim={a.Repr("dim")}, unflattened_size={a.Repr("unflattened_size", spread: true)}", args =>
        {
            var (dim, size) = (args.Int("dim"), args.Ints("unflattened_size"));
            return One(x => x.unflatten(dim < 0 ? dim + x.Dimensions : dim, size));
        }) { IsFunctionToo = false },
        new("Unfold", "Module", "unfold", Windows, a => $"kernel_size={a.Repr("kernel_size")}, dilation={a.Repr("dilation")}, padding={a.Repr("padding")}, stride={a.Repr("stride")}", args =>
        {
            var (kernel, dilation, padding, stride) = (Pair(args, "kernel_size"), Pair(args, "dilation"), Pair(args, "padding"), Pair(args, "stride"));
            return Growing((x, memory) =>
            {
                if (x.Dimensions >= 3)
                {
                    var blocks = ResultShape.Windows(x.shape.AsSpan(^2), args.Ints("kernel_size"), args.Ints("stride"), args.Ints("padding"), args.Ints("dilation"));
                    memory?.Need(x, [.. x.shape.AsSpan(0, (int)x.Dimensions - 2), .. blocks, kernel.Item1], kernel.Item2);
                }

                return F.unfold(x, kernel, dilation, padding, stride);
            });
        }),
        new("Fold", "Module", "fold", [Ints("output_size", 2).AtLeast(1), .. Windows],
            a => $"output_size={a.Repr("output_size")}, kernel_size={a.Repr("kernel_size")}, dilation={a.Repr("dilation")}, padding={a.Repr("padding")}, stride={a.Repr("stride")}", args =>
        {
            var (output, kernel, dilation, padding, stride) = (Pair(args, "output_size"), Pair(args, "kernel_size"), Pair(args, "dilation"), Pair(args, "padding"), Pair(args, "stride"));
            return Growing((x, memory) =>
            {
                if (x.Dimensions >= 2)
                {
                    memory?.Need(x, [x.Dimensions == 3 ? x.shape[0] : 1, output.Item1, output.Item2], x.shape[^2] / Math.Max(1, TensorSize.Product(kernel.Item1, kernel.Item2)));
                }

                return F.fold(x, output, kernel, dilation, padding, stride);
            });
        }),
        new("PixelShuffle", "Module", "pixel_shuffle", [Int("upscale_factor").AtLeast(1)], a => $"upscale_factor={a.Repr("upscale_factor")}", args =>
        {
            var factor = args.Int("upscale_factor");
            return One(x => F.pixel_shuffle(x, factor));
        }),
        new("PixelUnshuffle", "Module", "pixel_unshuffle", [Int("downscale_factor").AtLeast(1)], a => $"downscale_factor={a.Repr("downscale_factor")}", args =>
        {
            var factor = args.Int("downscale_factor");
            return One(x => F.pixel_unshuffle(x, factor));
        }),
        new("ChannelShuffle", "Module", "channel_shuffle", [Int("groups").AtLeast(1)], a => $"groups={a.Repr("groups")}", args =>
        {
            var groups = args.Int("groups");
            return One(x => ShuffleChannels(x, groups));
        }),
        new("CosineSimilarity", "Module", "cosine_similarity", [Int("dim").Or(1L), Float("eps").Or(1e-8)], _ => "", args =>
        {
            var (dim, eps) = (args.Int("dim"), args.Float("eps"));
            return (inputs, mode) =>
            {
                mode.NeedBroadcast(inputs);
                return TensorTree.Of(F.cosine_similarity(inputs[0]!, inputs[1]!, dim, eps));
            };
        }) { Inputs = ["x1", "x2"] },
        new("PairwiseDistance", "Module", "pairwise_distance", [Float("p").Or(2.0), Float("eps").Or(1e-6), Bool("keepdim", false)], _ => "", args =>
        {
            var (p, eps, keepdim) = (args.Float("p"), args.Float("eps"), args.Bool("keepdim"));
            return (inputs, mode) =>
            {
                mode.NeedBroadcast(inputs);
                return TensorTree.Of(F.pairwise_distance(inputs[0]!, inputs[1]!, p, eps, keepdim));
            };
        }) { Inputs = ["x1", "x2"] },
    ];

    private static (long, long) Pair(BoundArguments args, string name)
    {
        var values = args.Ints(name);
        return (values[0], values[1]);
    }

    private static Tensor ShuffleChannels(Tensor x, long groups)
    {
        var shape = x.shape;
        if (shape.Length < 3 || shape[1] % groups != 0)
        {
            throw new ArgumentException($"ChannelShuffle takes at least 3 dimensions with a number of channels (the second) that groups, {groups}, divides");
        }

        return x.view([shape[0], groups, shape[1] / groups, .. shape[2..]]).transpose(1, 2).reshape(shape);
    }
}
