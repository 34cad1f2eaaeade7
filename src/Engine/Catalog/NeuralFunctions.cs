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
        new("matmul", [], ["input", "other"], _ => (inputs, mode) => TensorTree.Of(MatrixProduct.Of(inputs[0]!, inputs[1]!, mode.Memory))),
        new("mm", [], ["input", "mat2"], _ => (inputs, mode) => TensorTree.Of(Room(mode, inputs, 2).mm(inputs[1]!))),
        new("bmm", [], ["input", "mat2"], _ => (inputs, mode) => TensorTree.Of(Room(mode, inputs, 3).bmm(inputs[1]!))),
        new("einsum", [Text("equation")], ["*operands"], args =>
        {
            var equation = args.Text("equation");
            return (inputs, mode) =>
            {
                if (mode.Memory is { } memory)
                {
                    var size = Promotion.ElementSize(inputs);
                    foreach (var product in EinsumProducts.Of(equation, inputs))
                    {
                        memory.Need(size, product);
                    }
                }

                return TensorTree.Of(einsum(equation, inputs!));
            };
        }),
        new("linear", [], ["input", "weight", "bias?"], _ => (inputs, mode) =>
        {
            var (x, weight) = (inputs[0]!, inputs[1]!);
            if (x.Dimensions > 0 && weight.Dimensions > 0)
            {
                mode.Memory?.Need(x, x.shape.AsSpan(0, (int)x.Dimensions - 1), weight.shape[0]);
            }

            return TensorTree.Of(F.linear(x, weight, inputs[2]!));
        }),
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

            return Growing((x, memory) =>
            {
                memory?.Need(x, ResultShape.Padded(x, pad));
                return pad.Length <= 2 * x.Dimensions ? F.pad(x, pad, mode, value) : throw new ArgumentException($"pad has {pad.Length} numbers for {x.Dimensions} dimensions");
            });
        }),
        new("one_hot", [Int("num_classes").Or(-1L)], ["input"], args =>
        {
            var classes = args.Int("num_classes");
            return Growing((x, memory) =>
            {
                // Where it is not said, there are as many classes as the greatest index tells.
                memory?.Need(x, x.shape, classes >= 0 || x.NumberOfElements == 0 || x.dtype != ScalarType.Int64 ? classes : TensorSize.Sum(x.max().item<long>(), 1));
                return F.one_hot(x, classes);
            });
        }),
        new("embedding", [], ["input", "weight"], _ => (inputs, mode) =>
        {
            var (indices, weight) = (inputs[0]!, inputs[1]!);
            mode.Memory?.Need(weight, indices.shape, weight.Dimensions == 2 ? weight.shape[1] : 0);
            return EmbeddingTable.Problem(indices, weight.Dimensions == 2 ? weight.shape[0] : 0) is { } problem
                ? throw new ArgumentException($"embedding {problem}")
                : TensorTree.Of(weight.index_select(0, indices.flatten()).view([.. indices.shape, weight.shape[1]]));
        }),
        new("scaled_dot_product_attention", [Float("dropout_p").Between(0, 1).Or(0.0), Bool("is_causal", false)], ["query", "key", "value", "attn_mask?"], args =>
        {
            var (dropout, causal) = (args.Float("dropout_p"), args.Bool("is_causal"));
            return (inputs, mode) =>
            {
                var (query, key, value) = (inputs[0]!.shape, inputs[1]!.shape, inputs[2]!.shape);
                if (query.Length < 2 || key.Length < 2 || value.Length < 2 || query[^1] != key[^1] || key[^2] != value[^2])
                {
                    // The fused kernel takes the number of steps from the value and reads past a key that has fewer.
                    throw new ArgumentException($"scaled_dot_product_attention takes a query [*, L, E], a key [*, S, E] and a value [*, S, Ev]; it was given {CallFailure.Describe([.. inputs.Select(TensorTree.Of)])}");
                }

                mode.Memory?.Need(inputs[0]!, ResultShape.Broadcast([.. query.AsSpan(0, query.Length - 1), 1], [.. key.AsSpan(0, key.Length - 2), 1, key[^2]]));
                return inputs[3] is not null && causal
                    ? throw new ArgumentException("scaled_dot_product_attention takes attn_mask or is_causal, not both")
                    : TensorTree.Of(F.scaled_dot_product_attention(inputs[0]!, inputs[1]!, inputs[2]!, inputs[3]!, dropout, causal));
            };
        }),
        new("grid_sample", [Text("mode", "bilinear", "nearest").Or("bilinear"), Text("padding_mode", "zeros", "border", "reflection").Or("zeros"), Bool("align_corners", false).OrNone()], ["input", "grid"], args =>
        {
            var mode = args.Text("mode") == "nearest" ? GridSampleMode.Nearest : GridSampleMode.Bilinear;
            var padding = args.Text("padding_mode") switch { "border" => GridSamplePaddingMode.Border, "reflection" => GridSamplePaddingMode.Reflection, _ => GridSamplePaddingMode.Zeros };
            var align = args.BoolOrNone("align_corners") ?? false;
            return (inputs, call) =>
            {
                var (x, grid) = (inputs[0]!, inputs[1]!);
                if (x.Dimensions > 2 && grid.Dimensions > 2)
                {
                    call.Memory?.Need(x, grid.shape.AsSpan(0, (int)grid.Dimensions - 1), x.shape[1]);
                }

                return TensorTree.Of(F.grid_sample(x, grid, mode, padding, align));
            };
        }),
    ];

    // The first operand of a product of matrices, once there is room for the result.
    private static Tensor Room(FunctionMode mode, Tensor?[] inputs, int rank)
    {
        var (a, b) = (inputs[0]!, inputs[1]!);
        if (a.Dimensions == rank && b.Dimensions == rank)
        {
            mode.Memory?.Need(a, a.shape.AsSpan(0, rank - 1), b.shape[^1]);
        }

        return a;
    }
}
