using Sconce.Engine.Modules;
using static Sconce.Engine.Catalog.Argument;
using static Sconce.Engine.Catalog.StatelessType;
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

    private static readonly Argument[] Response = [Int("size").AtLeast(1), Float("alpha").Or(1e-4), Float("beta").Or(0.75), Float("k").Or(1.0)];

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
        LocalResponse("LocalResponseNorm", "local_response_norm", 3),
        LocalResponse("CrossMapLRN2d", "", 4) with { IsFunctionToo = false },
    ];

    private static ModuleType BatchNorm(string name, int least, int most) =>
        new(name, "_BatchNorm", "batch_norm", Batch, ["input"], (origin, context) => new BatchNormNode(origin, context, least, most));

    private static StatelessType LocalResponse(string name, string functional, int leastDimensions) => new(name, "Module", functional, Response,
        a => $"{a.Repr("size")}, alpha={a.Repr("alpha")}, beta={a.Repr("beta")}, k={a.Repr("k")}", args =>
        {
            var (size, alpha, beta, k) = (args.Int("size"), args.Float("alpha"), args.Float("beta"), args.Float("k"));
            return One(x => x.Dimensions >= leastDimensions
                ? F.local_response_norm(x, size, alpha, beta, k)
                : throw new ArgumentException($"{name} takes at least {leastDimensions} dimensions, it was given {x.Dimensions}"));
        });
}
