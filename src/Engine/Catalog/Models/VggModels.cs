using static Sconce.Engine.Catalog.Argument;

namespace Sconce.Engine.Catalog.Models;

/// <summary>torchvision's VGGs, with and without batch norm.</summary>
internal static class VggModels
{
    private static readonly Argument[] Model = [Int("num_classes").AtLeast(1).Or(1000L), Bool("init_weights", true), Float("dropout").Between(0, 1).Or(0.5)];

    // Convolutions of each of the five stages; a pooling ends each.
    private static readonly (string Name, int[] Convolutions)[] Sizes =
        [("vgg11", [1, 1, 2, 2, 2]), ("vgg13", [2, 2, 2, 2, 2]), ("vgg16", [2, 2, 3, 3, 3]), ("vgg19", [2, 2, 4, 4, 4])];

    private static readonly long[] Channels = [64, 128, 256, 512, 512];

    public static IReadOnlyList<ModuleType> All { get; } =
        [.. Sizes.SelectMany(size => new[] { Vgg(size.Name, size.Convolutions, norm: false), Vgg(size.Name + "_bn", size.Convolutions, norm: true) })];

    private static ModuleType Vgg(string name, int[] convolutions, bool norm) => ModelTypes.Of(name, "VGG", Model, ["x"], args => Expand(convolutions, norm, args), (model, args) =>
    {
        if (args.Bool("init_weights"))
        {
            VisionInitial.Draw(model, linearStd: 0.01);
        }
    });

    private static ModuleSpec Expand(int[] convolutions, bool norm, BoundArguments args)
    {
        var features = new List<ModuleSpec>();
        var from = 3L;
        foreach (var (count, to) in convolutions.Zip(Channels))
        {
            for (var i = 0; i < count; i++, from = to)
            {
                features.Add(Compose.Conv2d(from, to, 3, padding: 1));
                if (norm)
                {
                    features.Add(Compose.BatchNorm2d(to));
                }

                features.Add(Compose.ReLU());
            }

            features.Add(Compose.Of("MaxPool2d", ("kernel_size", 2), ("stride", 2)));
        }

        var dropout = Compose.Dropout(args.Float("dropout"));
        var wires = new Wires("x");
        var pooled = wires.Chain("x", "features", "avgpool");
        return Compose.Graph(
            wires.Returns(wires.Chain(wires.Function("flatten", [pooled], ("start_dim", 1)), "classifier")),
            ("features", Compose.Sequential(features)),
            ("avgpool", Compose.Of("AdaptiveAvgPool2d", ("output_size", new long[] { 7, 7 }))),
            ("classifier", Compose.Sequential(
                Compose.Linear(512 * 7 * 7, 4096), Compose.ReLU(), dropout, Compose.Linear(4096, 4096), Compose.ReLU(), dropout, Compose.Linear(4096, args.Int("num_classes")))));
    }
}
