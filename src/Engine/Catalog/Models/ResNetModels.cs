using Sconce.Engine.Modules;
using static Sconce.Engine.Catalog.Argument;

namespace Sconce.Engine.Catalog.Models;

/// <summary>torchvision's ResNets and their blocks.</summary>
internal static class ResNetModels
{
    private static readonly Argument[] Block =
    [
        Int("inplanes").AtLeast(1), Int("planes").AtLeast(1), Int("stride").AtLeast(1).Or(1L), Bool("downsample", false), Int("groups").AtLeast(1).Or(1L), Int("base_width").AtLeast(1).Or(64L),
        Int("dilation").AtLeast(1).Or(1L),
    ];

    private static readonly Argument[] Model =
        [Int("num_classes").AtLeast(1).Or(1000L), Bool("zero_init_residual", false), Int("groups").AtLeast(1).Or(1L), Int("width_per_group").AtLeast(1).Or(64L)];

    public static IReadOnlyList<ModuleType> All { get; } =
    [
        ModelTypes.Of("BasicBlock", "Module", Block, ["x"], Basic),
        ModelTypes.Of("Bottleneck", "Module", Block, ["x"], Narrowing),
        ResNet("resnet18", "BasicBlock", 2, 2, 2, 2),
        ResNet("resnet34", "BasicBlock", 3, 4, 6, 3),
        ResNet("resnet50", "Bottleneck", 3, 4, 6, 3),
        ResNet("resnet101", "Bottleneck", 3, 4, 23, 3),
        ResNet("resnet152", "Bottleneck", 3, 8, 36, 3),
    ];

    /// <summary>Channels that a block gives for each of its planes.</summary>
    private static long Expansion(string block) => block == "Bottleneck" ? 4 : 1;

    private static ModuleType ResNet(string name, string block, params int[] layers) =>
        ModelTypes.Of(name, "ResNet", Model, ["x"], args => Expand(block, layers, args), Initialise);

    private static ModuleSpec Expand(string block, int[] layers, BoundArguments args)
    {
        var (groups, width) = (args.Int("groups"), args.Int("width_per_group"));
        if (block == "BasicBlock")
        {
            CheckBasic(args, "width_per_group");
        }

        var channels = 64L;
        var wires = new Wires("x");
        var pooled = wires.Chain("x", "conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool");
        return Compose.Graph(
            wires.Returns(wires.Chain(wires.Function("flatten", [pooled], ("start_dim", 1)), "fc")),
            [
                ("conv1", Compose.Conv2d(3, 64, 7, stride: 2, padding: 3, bias: false)), ("bn1", Compose.BatchNorm2d(64)), ("relu", Compose.ReLU()),
                ("maxpool", Compose.Of("MaxPool2d", ("kernel_size", 3), ("stride", 2), ("padding", 1))),
                .. layers.Select((count, i) => ($"layer{i + 1}", Layer(64L << i, count, i == 0 ? 1 : 2))),
                ("avgpool", Compose.Of("AdaptiveAvgPool2d", ("output_size", new long[] { 1, 1 }))), ("fc", Compose.Linear(channels, args.Int("num_classes"))),
            ]);

        ModuleSpec Layer(long planes, int count, long stride)
        {
            var blocks = new List<ModuleSpec>();
            for (var i = 0; i < count; i++)
            {
                var first = i == 0;
                blocks.Add(Compose.Of(block,
                    ("inplanes", channels), ("planes", planes), ("stride", first ? stride : 1), ("downsample", first && (stride != 1 || channels != planes * Expansion(block))),
                    ("groups", groups), ("base_width", width)));
                channels = planes * Expansion(block);
            }

            return Compose.Sequential(blocks);
        }
    }

    private static ModuleSpec Basic(BoundArguments args)
    {
        CheckBasic(args, "base_width");
        if (args.Int("dilation") != 1)
        {
            throw args.Refuse("dilation", $"{args.Int("dilation")} was given; BasicBlock only takes 1");
        }

        var (from, planes) = (args.Int("inplanes"), args.Int("planes"));
        return Residual(args, planes, ["conv1", "bn1", "relu", "conv2", "bn2"],
        [
            ("conv1", Conv3x3(from, planes, args.Int("stride"))), ("bn1", Compose.BatchNorm2d(planes)), ("relu", Compose.ReLU()),
            ("conv2", Conv3x3(planes, planes)), ("bn2", Compose.BatchNorm2d(planes)),
        ]);
    }

    private static ModuleSpec Narrowing(BoundArguments args)
    {
        var (from, planes, groups) = (args.Int("inplanes"), args.Int("planes"), args.Int("groups"));
        var width = (long)(planes * (args.Int("base_width") / 64.0)) * groups;
        if (width == 0)
        {
            throw args.Refuse("base_width", $"{args.Int("base_width")} was given; with {planes} planes that leaves no channels: it must be at least {(63 + planes) / planes}");
        }

        var to = planes * Expansion("Bottleneck");
        return Residual(args, to, ["conv1", "bn1", "relu", "conv2", "bn2", "relu", "conv3", "bn3"],
        [
            ("conv1", Compose.Conv2d(from, width, 1, bias: false)), ("bn1", Compose.BatchNorm2d(width)),
            ("conv2", Conv3x3(width, width, args.Int("stride"), groups, args.Int("dilation"))), ("bn2", Compose.BatchNorm2d(width)),
            ("conv3", Compose.Conv2d(width, to, 1, bias: false)), ("bn3", Compose.BatchNorm2d(to)), ("relu", Compose.ReLU()),
        ]);
    }

    private static ModuleSpec Residual(BoundArguments args, long to, string[] path, (string Name, ModuleSpec Module)[] children)
    {
        var wires = new Wires("x");
        var main = wires.Chain("x", path);
        var shortcut = args.Bool("downsample") ? wires.Call("downsample", "x") : "x";
        var wiring = wires.Returns(wires.Chain(wires.Function("add", [main, shortcut]), "relu"));
        return !args.Bool("downsample") ? Compose.Graph(wiring, children)
            : Compose.Graph(wiring, [.. children, ("downsample", Compose.Sequential(Compose.Conv2d(args.Int("inplanes"), to, 1, args.Int("stride"), bias: false), Compose.BatchNorm2d(to)))]);
    }

    private static ModuleSpec Conv3x3(long from, long to, long stride = 1, long groups = 1, long dilation = 1) =>
        Compose.Conv2d(from, to, 3, stride, dilation, dilation, groups, bias: false);

    private static void CheckBasic(BoundArguments args, string width)
    {
        if (args.Int("groups") != 1 || args.Int(width) != 64)
        {
            throw args.Refuse(args.Int("groups") != 1 ? "groups" : width, $"BasicBlock only takes groups=1 and {width}=64; Bottleneck takes others");
        }
    }

    private static void Initialise(ModuleNode model, BoundArguments args)
    {
        VisionInitial.Draw(model);
        if (!args.Bool("zero_init_residual"))
        {
            return;
        }

        foreach (var (_, node) in ModuleTree.Walk(model).Where(at => at.Node.TypeName is "BasicBlock" or "Bottleneck"))
        {
            var last = node.Children.Last(child => child.Key.StartsWith("bn", StringComparison.Ordinal)).Value;
            Initial.Fill(last.Parameters[0].Parameter, 0);
        }
    }
}
