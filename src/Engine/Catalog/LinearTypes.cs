using Sconce.Engine.Modules;
using static Sconce.Engine.Catalog.Argument;

namespace Sconce.Engine.Catalog;

/// <summary>Linear layers, embeddings, and PReLU.</summary>
internal static class LinearTypes
{
    private static readonly Argument[] Linear = [Int("in_features").AtLeast(0), Int("out_features").AtLeast(0), Bool("bias", true), Dtype()];

    public static IReadOnlyList<ModuleType> All { get; } =
    [
        new("Linear", "Module", "linear", Linear, ["input"], (origin, context) => new LinearNode(origin, context)),

        // MultiheadAttention's out_proj is of this type, and PyTorch prints its name.
        new("NonDynamicallyQuantizableLinear", "Linear", "linear", Linear, ["input"], (origin, context) => new LinearNode(origin, context)),
        new("Bilinear", "Module", "bilinear", [Int("in1_features").AtLeast(1), Int("in2_features").AtLeast(1), Int("out_features").AtLeast(0), Bool("bias", true), Dtype()], ["input1", "input2"],
            (origin, context) => new BilinearNode(origin, context)),
        new("PReLU", "Module", "prelu", [Int("num_parameters").AtLeast(1).Or(1L), Float("init").Or(0.25), Dtype()], ["input"], (origin, context) => new PReluNode(origin, context)),
        new("Embedding", "Module", "embedding",
            [
                Int("num_embeddings").AtLeast(0), Int("embedding_dim").AtLeast(0), Int("padding_idx").OrNone(), Float("max_norm").OrNone(), Float("norm_type").Or(2.0),
                Bool("scale_grad_by_freq", false), Bool("sparse", false), Dtype(),
            ],
            ["input"], (origin, context) => new EmbeddingNode(origin, context)),
        new("EmbeddingBag", "Module", "embedding_bag",
            [
                Int("num_embeddings").AtLeast(0), Int("embedding_dim").AtLeast(0), Float("max_norm").OrNone(), Float("norm_type").Or(2.0), Bool("scale_grad_by_freq", false),
                Text("mode", "sum", "mean", "max").Or("mean"), Bool("sparse", false), Bool("include_last_offset", false), Int("padding_idx").OrNone(), Dtype(),
            ],
            ["input", "offsets?", "per_sample_weights?"], (origin, context) => new EmbeddingBagNode(origin, context)),
        new("AdaptiveLogSoftmaxWithLoss", "Module", "",
            [Int("in_features").AtLeast(1), Int("n_classes").AtLeast(2), Ints("cutoffs").AtLeast(1), Float("div_value").MoreThan(0).Or(4.0), Bool("head_bias", false), Dtype()],
            ["input", "target"], (origin, context) => new AdaptiveLogSoftmaxNode(origin, context))
        {
            Outputs = ["output", "loss"],
            Methods = ["log_prob", "predict"],
        },
    ];
}
