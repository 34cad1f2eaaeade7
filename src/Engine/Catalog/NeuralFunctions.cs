using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using TorchSharp;
using static Sconce.Engine.Catalog.Argument;
using static Sconce.Engine.Catalog.StatelessType;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace Sconce.Engine.Catalog;

/// <summary>Functions of <c>torch.nn.functional</c> that are not modules without parameters, and products.</summary>
internal static class NeuralFunctions
{
    public static IReadOnlyList<FunctionType> All { get; } =
    [
        UpsamplingTypes.Function,
        new("matmul", [], ["input", "other"], _ => (inputs, _) => TensorTree.Of(MatrixProduct.Of(inputs[0]!, inputs[1]!))),
        new("mm", [], ["input", "mat2"], _ => (inputs, _) => TensorTree.Of(inputs[0]!.mm(inputs[1]!))),
        new("bmm", [], ["input", "mat2"], _ => (inputs, _) => TensorTree.Of(inputs[0]!.bmm(inputs[1]!))),
        new("einsum", [Text("equation")], ["*operands"], args =>
        {
            var equation = args.Text("equation");
            return (inputs, _) => TensorTree.Of(einsum(equation, inputs!));
        }),
        new("linear", [], ["input", "weight", "bias?"], _ => (inputs, _) => TensorTree.Of(F.linear(inputs[0]!, inputs[1]!, inputs[2]!))),
        new("layer_norm", [Ints("normalized_shape").AtLeast(1), Float("eps").AtLeast(0).Or(1e-5)], ["input", "weight?", "bias?"], args =>
        {
            var (shape, eps) = (args.Ints("normalized_shape"), args.Float("eps"));
            return (inputs, _) => TensorTree.Of(F.layer_norm(inputs[0]!, shape, inputs[1]!, inputs[2]!, eps));
        }),
        new("normalize", [Float("p").Or(2.0), Int("dim").Or(1L), Float("eps").MoreThan(0).Or(1e-12)], ["input"], args =>
        {
            var (p, dim, eps) = (args.Float("p"), args.Int("dim"), args.Float("eps"));
            return One(x => F.normalize(x, p, dim, eps));
        }),
        new("pad", [Ints("pad"), Text("mode", "constant", "reflect", "replicate", "circular").Or("constant"), Float("value").OrNone()], ["input"], args =>
        {
            var (pad, value) = (args.Ints("pad"), args.FloatOrNone("value") ?? 0);
            var mode = args.Text("mode") == "constant" ? PaddingModes.Constant : ConvolutionTypes.PaddingModeOf(args.Text("mode"));
            if (pad.Length % 2 != 0)
            {
                throw args.Refuse("pad", $"{pad.Length} numbers were given; expected two for each dimension, from the last on");
            }

            return One(x => pad.Length <= 2 * x.Dimensions ? F.pad(x, pad, mode, value) : throw new ArgumentException($"pad has {pad.Length} numbers for {x.Dimensions} dimensions"));
        }),
        new("one_hot", [Int("num_classes").Or(-1L)], ["input"], args =>
        {
            var classes = args.Int("num_classes");
            return One(x => F.one_hot(x, classes));
        }),
        new("embedding", [], ["input", "weight"], _ => (inputs, _) =>
        {
            var (indices, weight) = (inputs[0]!, inputs[1]!);
            return EmbeddingTable.Problem(indices, weight.Dimensions == 2 ? weight.shape[0] : 0) is { } problem
                ? throw new ArgumentException($"embedding {problem}")
                : TensorTree.Of(weight.index_select(0, indices.flatten()).view([.. indices.shape, weight.shape[1]]));
        }),
        new("scaled_dot_product_attention", [Float("dropout_p").Between(0, 1).Or(0.0), Bool("is_causal", false)], ["query", "key", "value", "attn_mask?"], args =>
        {
            var (dropout, causal) = (args.Float("dropout_p"), args.Bool("is_causal"));
            return (inputs, _) => inputs[3] is not null && causal
                ? throw new ArgumentException("scaled_dot_product_attention takes attn_mask or is_causal, not both")
                : TensorTree.Of(F.scaled_dot_product_attention(inputs[0]!, inputs[1]!, inputs[2]!, inputs[3]!, dropout, causal));
        }),
        new("grid_sample", [Text("mode", "bilinear", "nearest").Or("bilinear"), Text("padding_mode", "zeros", "border", "reflection").Or("zeros"), Bool("align_corners", false).OrNone()], ["input", "grid"], args =>
        {
            var mode = args.Text("mode") == "nearest" ? GridSampleMode.Nearest : GridSampleMode.Bilinear;
            var padding = args.Text("padding_mode") switch { "border" => GridSamplePaddingMode.Border, "reflection" => GridSamplePaddingMode.Reflection, _ => GridSamplePaddingMode.Zeros };
            var align = args.BoolOrNone("align_corners") ?? false;
            return (inputs, _) => TensorTree.Of(F.grid_sample(inputs[0]!, inputs[1]!, mode, padding, align));
        }),
    ];
}
