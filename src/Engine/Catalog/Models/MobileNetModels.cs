using static Sconce.Engine.Catalog.Argument;

namespace Sconce.Engine.Catalog.Models;

/// <summary>torchvision's MobileNetV2 and its blocks.</summary>
internal static class MobileNetModels
{
    // Expansion, channels, blocks and the first block's stride of each stage.
    private static readonly (long Expand, long Channels, int Count, long Stride)[] Stages =
        [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];

    public static IReadOnlyList<ModuleType> All { get; } =
    [
        ModelTypes.Of("Conv2dNormActivation", "Sequential",
            [
                Int("in_channels").AtLeast(1), Int("out_channels").AtLeast(1), Int("kernel_size").AtLeast(1).Or(3L), Int("stride").AtLeast(1).Or(1L), Int("groups").AtLeast(1).Or(1L),
                Text("activation_layer", "ReLU", "ReLU6", "Hardswish", "SiLU").Or("ReLU").Nullable(),
            ],
            ["input"], ConvNormActivation),
        ModelTypes.Of("InvertedResidual", "Module",
            [Int("inp").AtLeast(1), Int("oup").AtLeast(1), Int("stride").Between(1, 2), Float("expand_ratio").MoreThan(0)], ["x"], InvertedResidual),
        ModelTypes.Of("mobilenet_v2", "MobileNetV2",
            [
                Int("num_classes").AtLeast(1).Or(1000L), Float("width_mult").MoreThan(0).Or(1.0), Int("round_nearest").AtLeast(1).Or(8L), Float("dropout").Between(0, 1).Or(0.2),
            ],
            ["x"], Expand, (model, _) => VisionInitial.Draw(model, linearStd: 0.01)),
    ];

    private static ModuleSpec ConvNormActivation(BoundArguments args)
    {
        var (kernel, to) = (args.Int("kernel_size"), args.Int("out_channels"));
        var conv = Compose.Conv2d(args.Int("in_channels"), to, kernel, args.Int("stride"), (kernel - 1) / 2, groups: args.Int("groups"), bias: false);
        return args.IsNone("activation_layer") ? Compose.Sequential(conv, Compose.BatchNorm2d(to))
            : Compose.Sequential(conv, Compose.BatchNorm2d(to), Compose.Of(args.Text("activation_layer"), ("inplace", true)));
    }

    private static ModuleSpec InvertedResidual(BoundArguments args)
    {
        var (from, to, stride, expand) = (args.Int("inp"), args.Int("oup"), args.Int("stride"), args.Float("expand_ratio"));
        var hidden = (long)Math.Round(from * expand, MidpointRounding.ToEven);
        if (hidden < 1)
        {
            throw args.Refuse("expand_ratio", $"{expand} was given; with {from} channels that leaves none");
        }

        var layers = new List<ModuleSpec>();
        if (expand != 1)
        {
            layers.Add(Block(from, hidden, kernel: 1));
        }

        layers.AddRange([Block(hidden, hidden, 3, stride, hidden), Compose.Conv2d(hidden, to, 1, bias: false), Compose.BatchNorm2d(to)]);
        var wires = new Wires("x");
        var made = wires.Call("conv", "x");
        return Compose.Graph(wires.Returns(stride == 1 && from == to ? wires.Function("add", ["x", made]) : made), ("conv", Compose.Sequential(layers)));
    }

    private static ModuleSpec Expand(BoundArguments args)
    {
        var (width, round) = (args.Float("width_mult"), args.Int("round_nearest"));
        var from = Divisible(32 * width, round);
        var last = Divisible(1280 * Math.Max(1.0, width), round);
        var features = new List<ModuleSpec> { Block(3, from, 3, stride: 2) };
        foreach (var (expand, channels, count, stride) in Stages)
        {
            var to = Divisible(channels * width, round);
            for (var i = 0; i < count; i++, from = to)
            {
                features.Add(Compose.Of("InvertedResidual", ("inp", from), ("oup", to), ("stride", i == 0 ? stride : 1), ("expand_ratio", expand)));
            }
        }

        features.Add(Block(from, last, kernel: 1));
        var wires = new Wires("x");
        var pooled = wires.Function("adaptive_avg_pool2d", [wires.Call("features", "x")], ("output_size", new long[] { 1, 1 }));
        return Compose.Graph(
            wires.Returns(wires.Chain(wires.Function("flatten", [pooled], ("start_dim", 1)), "classifier")),
            ("features", Compose.Sequential(features)),
            ("classifier", Compose.Sequential(Compose.Dropout(args.Float("dropout")), Compose.Linear(last, args.Int("num_classes")))));
    }

    private static ModuleSpec Block(long from, long to, long kernel, long stride = 1, long groups = 1) => Compose.Of("Conv2dNormActivation",
        ("in_channels", from), ("out_channels", to), ("kernel_size", kernel), ("stride", stride), ("groups", groups), ("activation_layer", "ReLU6"));

    // torchvision's _make_divisible: near the value, divisible, and never less than nine tenths of it.
    private static long Divisible(double value, long divisor)
    {
        var near = Math.Max(divisor, (long)(value + (divisor / 2.0)) / divisor * divisor);
        return near < 0.9 * value ? near + divisor : near;
    }
}
