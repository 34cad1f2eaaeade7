using static Sconce.Engine.Catalog.Argument;

namespace Sconce.Engine.Catalog.Models;

/// <summary>The U-Net of PyTorch Hub (mateuszbuda/brain-segmentation-pytorch); torchvision has none.</summary>
internal static class UNetModels
{
    private const int Levels = 4;

    public static IReadOnlyList<ModuleType> All { get; } =
    [
        ModelTypes.Of("UNet", "Module", [Int("in_channels").AtLeast(1).Or(3L), Int("out_channels").AtLeast(1).Or(1L), Int("init_features").Between(1, 1 << 20).Or(32L)], ["x"], Expand),
    ];

    private static ModuleSpec Expand(BoundArguments args)
    {
        var features = args.Int("init_features");
        var children = new List<(string, ModuleSpec)>();
        var wires = new Wires("x");
        var (value, channels) = ("x", args.Int("in_channels"));
        var skips = new string[Levels + 1];
        for (var level = 1; level <= Levels; level++)
        {
            var to = features << (level - 1);
            children.AddRange([($"encoder{level}", Block($"enc{level}", channels, to)), ($"pool{level}", Compose.Of("MaxPool2d", ("kernel_size", 2), ("stride", 2)))]);
            skips[level] = wires.Call($"encoder{level}", value);
            (value, channels) = (wires.Call($"pool{level}", skips[level]), to);
        }

        children.Add(("bottleneck", Block("bottleneck", channels, channels * 2)));
        value = wires.Call("bottleneck", value);
        for (var level = Levels; level > 0; level--)
        {
            var to = features << (level - 1);
            children.AddRange(
            [
                ($"upconv{level}", Compose.Of("ConvTranspose2d", ("in_channels", to * 2), ("out_channels", to), ("kernel_size", 2), ("stride", 2))),
                ($"decoder{level}", Block($"dec{level}", to * 2, to)),
            ]);
            value = wires.Call($"decoder{level}", wires.Function("cat", [wires.Call($"upconv{level}", value), skips[level]], ("dim", 1)));
        }

        children.Add(("conv", Compose.Conv2d(features, args.Int("out_channels"), 1)));
        return Compose.Graph(wires.Returns(wires.Function("sigmoid", [wires.Call("conv", value)])), children);
    }

    private static ModuleSpec Block(string name, long from, long to) => Compose.Sequential(
        (name + "conv1", Compose.Conv2d(from, to, 3, padding: 1, bias: false)), (name + "norm1", Compose.BatchNorm2d(to)), (name + "relu1", Compose.ReLU()),
        (name + "conv2", Compose.Conv2d(to, to, 3, padding: 1, bias: false)), (name + "norm2", Compose.BatchNorm2d(to)), (name + "relu2", Compose.ReLU()));
}
