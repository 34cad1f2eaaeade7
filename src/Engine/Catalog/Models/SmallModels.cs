using static Sconce.Engine.Catalog.Argument;

namespace Sconce.Engine.Catalog.Models;

/// <summary>torchvision.ops.MLP, and LeNet-5 with the names of PyTorch's tutorial.</summary>
internal static class SmallModels
{
    public static IReadOnlyList<ModuleType> All { get; } =
    [
        ModelTypes.Of("MLP", "Sequential",
            [
                Int("in_channels").AtLeast(1), Ints("hidden_channels").AtLeast(1), Text("norm_layer", "BatchNorm1d", "LayerNorm").OrNone(),
                Text("activation_layer", "ReLU", "GELU", "SiLU", "Tanh", "Sigmoid", "LeakyReLU", "ELU").Or("ReLU"), Bool("inplace", false).OrNone(), Bool("bias", true), Float("dropout").Between(0, 1).Or(0.0),
            ],
            ["input"], Mlp),
        ModelTypes.Of("LeNet5", "Module", [Int("num_classes").AtLeast(1).Or(10L), Int("in_channels").AtLeast(1).Or(1L), Int("image_size").Between(16, 1 << 12).Or(32L)], ["x"], LeNet),
    ];

    private static ModuleSpec Mlp(BoundArguments args)
    {
        var sizes = args.Ints("hidden_channels");
        if (sizes.Length == 0)
        {
            throw args.Refuse("hidden_channels", "an empty list was given; its last number is the size of the output");
        }

        (string, object?)[] inplace = args.BoolOrNone("inplace") is { } value ? [("inplace", value)] : [];
        var layers = new List<ModuleSpec>();
        var from = args.Int("in_channels");
        foreach (var to in sizes[..^1])
        {
            layers.Add(Linear(from, to));
            if (!args.IsNone("norm_layer"))
            {
                layers.Add(Compose.Of(args.Text("norm_layer"), (args.Text("norm_layer") == "LayerNorm" ? "normalized_shape" : "num_features", to)));
            }

            layers.AddRange([Compose.Of(args.Text("activation_layer"), inplace), Dropout()]);
            from = to;
        }

        return Compose.Sequential([.. layers, Linear(from, sizes[^1]), Dropout()]);

        ModuleSpec Linear(long inputs, long outputs) => Compose.Of("Linear", ("in_features", inputs), ("out_features", outputs), ("bias", args.Bool("bias")));

        ModuleSpec Dropout() => Compose.Of("Dropout", [("p", args.Float("dropout")), .. inplace]);
    }

    private static ModuleSpec LeNet(BoundArguments args)
    {
        // Each convolution takes 4 off, each pooling halves.
        var side = (((args.Int("image_size") - 4) / 2) - 4) / 2;
        var wires = new Wires("x");
        var value = Pooled("conv2", Pooled("conv1", "x"));
        value = wires.Function("flatten", [value], ("start_dim", 1));
        value = wires.Function("relu", [wires.Call("fc1", value)]);
        value = wires.Function("relu", [wires.Call("fc2", value)]);
        return Compose.Graph(
            wires.Returns(wires.Call("fc3", value)),
            ("conv1", Compose.Conv2d(args.Int("in_channels"), 6, 5)), ("conv2", Compose.Conv2d(6, 16, 5)),
            ("fc1", Compose.Linear(16 * side * side, 120)), ("fc2", Compose.Linear(120, 84)), ("fc3", Compose.Linear(84, args.Int("num_classes"))));

        string Pooled(string convolution, string input) =>
            wires.Function("max_pool2d", [wires.Function("relu", [wires.Call(convolution, input)])], ("kernel_size", 2));
    }
}
