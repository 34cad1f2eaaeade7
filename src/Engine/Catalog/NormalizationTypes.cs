using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static Sconce.Engine.Catalog.Argument;
using static Sconce.Engine.Catalog.StatelessType;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace Sconce.Engine.Catalog;

/// <summary>Normalization.</summary>
internal static class NormalizationTypes
{
    private static readonly Argument Eps = Float("eps").AtLeast(0).Or(1e-5);

    private static readonly Argument[] Batch =
        [Int("num_features").AtLeast(0), Eps, Float("momentum").Or(0.1).Nullable(), Bool("affine", true), Bool("track_running_stats", true), Dtype()];

    private static readonly Argument[] Instance =
        [Int("num_features").AtLeast(0), Eps, Float("momentum").Or(0.1).Nullable(), Bool("affine", false), Bool("track_running_stats", false), Dtype()];

    private static readonly Argument[] Response = [Int("size").AtLeast(1), Float("alpha").Or(1e-4), Float("beta").Or(0.75)];

    public static IReadOnlyList<ModuleType> All { get; } =
    [
        BatchNorm("BatchNorm1d", 2, 3),
        BatchNorm("BatchNorm2d", 4, 4),
        BatchNorm("BatchNorm3d", 5, 5),
        BatchNorm("SyncBatchNorm", 2, int.MaxValue),
        .. Enumerable.Range(1, 3).Select(n => new ModuleType($"InstanceNorm{n}d", "_InstanceNorm", "instance_norm", Instance, ["input"], (origin, context) => new InstanceNormNode(origin, context, n))),
        new("LayerNorm", "Module", "layer_norm", [Ints("normalized_shape").AtLeast(0), Eps, Bool("elementwise_affine", true), Bool("bias", true), Dtype()], ["input"],
            (origin, context) => new LayerNormNode(origin, context, rms: false)),
        new("RMSNorm", "Module", "rms_norm", [Ints("normalized_shape").AtLeast(0), Float("eps").AtLeast(0).OrNone(), Bool("elementwise_affine", true), Dtype()], ["input"],
            (origin, context) => new LayerNormNode(origin, context, rms: true)),
        new("GroupNorm", "Module", "group_norm", [Int("num_groups").AtLeast(1), Int("num_channels").AtLeast(1), Eps, Bool("affine", true), Dtype()], ["input"],
            (origin, context) => new GroupNormNode(origin, context)),
    ];

    public static IReadOnlyList<StatelessType> Stateless { get; } =
    [
        LocalResponse("LocalResponseNorm", "local_response_norm", [.. Response, Float("k").Or(1.0)], 3,
            (x, a) => F.local_response_norm(x, a.Int("size"), a.Float("alpha"), a.Float("beta"), a.Float("k"))),
        LocalResponse("CrossMapLRN2d", "", [.. Response, Float("k").Or(1L)], 4, CrossMap) with { IsFunctionToo = false },
    ];

    private static ModuleType BatchNorm(string name, int least, int most) =>
        new(name, "_BatchNorm", "batch_norm", Batch, ["input"], (origin, context) => new BatchNormNode(origin, context, least, most));

    private static StatelessType LocalResponse(string name, string functional, Argument[] arguments, int leastDimensions, Func<Tensor, BoundArguments, Tensor> function) =>
        new(name, "Module", functional, arguments, a => $"{a.Repr("size")}, alpha={a.Repr("alpha")}, beta={a.Repr("beta")}, k={a.Repr("k")}", args =>
            Growing((x, memory) =>
            {
                if (x.Dimensions >= 2)
                {
                    // The channels are padded by the window; CrossMapLRN2d makes a matrix of channels.
                    memory?.Need(x, [x.NumberOfElements / Math.Max(1, x.shape[1])], TensorSize.Sum(x.shape[1], args.Int("size")));
                    memory?.Need(x, [x.shape[1]], functional.Length == 0 ? x.shape[1] : 1);
                }

                return x.Dimensions >= leastDimensions ? function(x, args) : throw new ArgumentException($"{name} takes at least {leastDimensions} dimensions, it was given {x.Dimensions}");
            }));

    // PyTorch's CrossMapLRN2d is a function of its own. Forward scales channel c by k + alpha/size * (the squares of the channels near it), in a
    // window that always counts channel 0; backward is the gradient of another, symmetric window. Both are kept.
    private static Tensor CrossMap(Tensor x, BoundArguments args)
    {
        if (x.Dimensions != 4)
        {
            throw new ArgumentException($"CrossMapLRN2d takes 4 dimensions, it was given {x.Dimensions}");
        }

        var (size, beta) = (args.Int("size"), args.Float("beta"));
        var ratio = args.Float("alpha") / size;
        var reach = ((size - 1) / 2) + 1;
        var back = size - ((size - 1) / 2.0);
        var forward = Band(x, c => (Math.Max(1, c - reach + 1), c + reach - 1), alwaysFirst: true);
        var fixedX = x.detach();
        var scale = (F.conv2d(fixedX.square(), forward) * ratio) + args.Float("k");
        var value = fixedX * scale.pow(-beta);

        // A stand-in of value zero whose gradient is PyTorch's backward.
        var backward = Band(x, c => (c - size + 1 + (long)back, c + (long)back), alwaysFirst: false);
        var standIn = (x * scale.pow(-beta)) - (value / scale * F.conv2d(x.square(), backward) * (ratio * beta));
        return value + (standIn - standIn.detach());
    }

    // A 1x1 convolution that adds up, for each channel, the channels of its window.
    private static Tensor Band(Tensor x, Func<long, (long First, long Last)> window, bool alwaysFirst)
    {
        var channels = x.shape[1];
        var band = zeros([channels, channels, 1, 1], dtype: x.dtype, device: x.device);
        for (var c = 0L; c < channels; c++)
        {
            var (first, last) = window(c);
            (first, last) = (Math.Max(0, first), Math.Min(last, channels - 1));
            if (last >= first)
            {
                band[c].narrow(0, first, last - first + 1).fill_(1);
            }

            if (alwaysFirst)
            {
                band[c][0].fill_(1);
            }
        }

        return band;
    }
}
