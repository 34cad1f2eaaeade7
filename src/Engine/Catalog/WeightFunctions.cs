using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static Sconce.Engine.Catalog.Argument;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace Sconce.Engine.Catalog;

/// <summary>
/// Functions of <c>torch.nn.functional</c> whose weights are inputs: what the modules of those names do with their own. What their constructors check
/// is checked of the weights here, since oneDNN's exceptions end the process.
/// </summary>
internal static class WeightFunctions
{
    public static IReadOnlyList<FunctionType> All { get; } =
    [
        .. Enumerable.Range(1, 3).Select(Convolution),
        .. Enumerable.Range(1, 3).Select(Transposed),
        new("batch_norm", [Bool("training", false), Float("momentum").Or(0.1), Float("eps").AtLeast(0).Or(1e-5)], ["input", "running_mean?", "running_var?", "weight?", "bias?"], args =>
        {
            var (training, momentum, eps) = (args.Bool("training"), args.Float("momentum"), args.Float("eps"));
            return (inputs, _) =>
            {
                var x = inputs[0]!;
                CheckChannels("batch_norm", x, x.Dimensions > 1 ? x.shape[1] : throw new ArgumentException("batch_norm takes an input of at least 2 dimensions"), inputs);
                CheckStatistics("batch_norm", inputs, training);
                return training && x.NumberOfElements == x.shape[1]
                    ? throw new ArgumentException("batch_norm needs more than 1 value per channel when training")
                    : TensorTree.Of(F.batch_norm(x, Kept(inputs[1], training), Kept(inputs[2], training), inputs[3], inputs[4], training, momentum, eps));
            };
        }),
        new("instance_norm", [Bool("use_input_stats", true), Float("momentum").Or(0.1), Float("eps").AtLeast(0).Or(1e-5)], ["input", "running_mean?", "running_var?", "weight?", "bias?"], args =>
        {
            var (own, momentum, eps) = (args.Bool("use_input_stats"), args.Float("momentum"), args.Float("eps"));
            return (inputs, _) =>
            {
                var x = inputs[0]!;
                CheckChannels("instance_norm", x, x.Dimensions > 2 ? x.shape[1] : throw new ArgumentException("instance_norm takes an input of at least 3 dimensions"), inputs);
                CheckStatistics("instance_norm", inputs, own);
                return own && x.shape[2..].Aggregate(1L, (product, size) => product * size) == 1
                    ? throw new ArgumentException("instance_norm needs more than 1 spatial element when it uses the input's statistics")
                    : TensorTree.Of(F.instance_norm(x, Kept(inputs[1], own), Kept(inputs[2], own), inputs[3], inputs[4], own, momentum, eps));
            };
        }),
        new("group_norm", [Int("num_groups").AtLeast(1), Float("eps").AtLeast(0).Or(1e-5)], ["input", "weight?", "bias?"], args =>
        {
            var (groups, eps) = (args.Int("num_groups"), args.Float("eps"));
            return (inputs, _) =>
            {
                var x = inputs[0]!;
                CheckChannels("group_norm", x, x.Dimensions > 1 && x.shape[1] % groups == 0 ? x.shape[1] : throw new ArgumentException($"group_norm takes an input of at least 2 dimensions with channels that num_groups, {groups}, divides"), [x, null, null, .. inputs[1..]]);
                return x.NumberOfElements > 0 && x.NumberOfElements == groups
                    ? throw new ArgumentException("group_norm needs more than 1 value per group")
                    : TensorTree.Of(F.group_norm(x, groups, inputs[1], inputs[2], eps));
            };
        }),
        new("rms_norm", [Ints("normalized_shape").AtLeast(0), Float("eps").AtLeast(0).OrNone()], ["input", "weight?"], args =>
        {
            var (shape, eps) = (args.Ints("normalized_shape"), args.FloatOrNone("eps"));
            long[] axes = [.. Enumerable.Range(1, shape.Length).Select(i => -(long)i)];
            return (inputs, _) =>
            {
                var (x, weight) = (inputs[0]!, inputs[1]);
                return shape.Length == 0 || x.Dimensions < shape.Length || !x.shape.AsSpan(x.shape.Length - shape.Length).SequenceEqual(shape) || (weight is not null && !weight.shape.AsSpan().SequenceEqual(shape)) || !x.is_floating_point()
                    ? throw new ArgumentException($"rms_norm takes a floating input whose last dimensions are [{string.Join(", ", shape)}] (normalized_shape), and a weight of that shape")
                    : TensorTree.Of(LayerNormNode.RootMeanSquare(x, axes, weight, eps));
            };
        }),
        new("prelu", [], ["input", "weight"], _ => (inputs, _) =>
        {
            var (x, weight) = (inputs[0]!, inputs[1]!);
            return weight.Dimensions <= 1 && x.dtype == weight.dtype && x.is_floating_point() && (weight.NumberOfElements == 1 || (x.Dimensions > 1 && x.shape[1] == weight.NumberOfElements))
                ? TensorTree.Of(F.prelu(x, weight))
                : throw new ArgumentException("prelu takes a weight of one element, or of one for each channel (the second dimension), in the input's dtype");
        }),
        new("bilinear", [], ["input1", "input2", "weight", "bias?"], _ => (inputs, mode) =>
        {
            var (first, second, weight, bias) = (inputs[0]!, inputs[1]!, inputs[2]!, inputs[3]);
            var right = weight.Dimensions == 3 && first.Dimensions > 0 && first.Dimensions == second.Dimensions && first.shape[^1] == weight.shape[1] && second.shape[^1] == weight.shape[2]
                && first.shape.AsSpan(0, first.shape.Length - 1).SequenceEqual(second.shape.AsSpan(0, second.shape.Length - 1)) && (bias is null || bias.shape.AsSpan().SequenceEqual([weight.shape[0]]))
                && inputs.All(input => input is null || (input.dtype == first.dtype && input.is_floating_point()));
            if (!right)
            {
                throw new ArgumentException("bilinear takes inputs [*, in1] and [*, in2], a weight [out, in1, in2] and a bias [out], of one floating dtype");
            }

            BilinearNode.NeedOutput(mode.Memory, first, weight);
            return TensorTree.Of(F.bilinear(first, second, weight, bias!));
        }),
    ];

    private static FunctionType Convolution(int n) => new($"conv{n}d",
        [
            Ints("stride", n).AtLeast(1).Or(1L), IntsOrText("padding", n, "same", "valid").AtLeast(0).Or(0L), Ints("dilation", n).AtLeast(1).Or(1L), Int("groups").AtLeast(1).Or(1L),
        ],
        ["input", "weight", "bias?"], args =>
        {
            var (stride, dilation, groups) = (args.Ints("stride"), args.Ints("dilation"), args.Int("groups"));
            var same = args.IsText("padding") && args.Text("padding") == "same";
            var padding = args.IsText("padding") ? new long[n] : args.Ints("padding");
            if (same && stride.Any(s => s != 1))
            {
                throw args.Refuse("padding", "\"same\" needs a stride of 1");
            }

            return (inputs, mode) =>
            {
                var (x, weight, bias) = (inputs[0]!, inputs[1]!, inputs[2]);
                CheckWeights($"conv{n}d", n, inputs, groups, isTransposed: false);
                ConvolutionTypes.NeedOutput(mode.Memory, x, weight, stride, same ? null : padding, dilation);
                return TensorTree.Of((n, same) switch
                {
                    (1, false) => F.conv1d(x, weight, bias, stride[0], padding[0], dilation[0], groups),
                    (2, false) => F.conv2d(x, weight, bias, stride, padding, dilation, groups),
                    (3, false) => F.conv3d(x, weight, bias, stride, padding, dilation, groups),
                    (1, true) => F.conv1d_padding(x, weight, bias, stride[0], TorchSharp.Padding.Same, dilation[0], groups),
                    (2, true) => F.conv2d_padding(x, weight, bias, stride, TorchSharp.Padding.Same, dilation, groups),
                    _ => F.conv3d_padding(x, weight, bias, stride, TorchSharp.Padding.Same, dilation, groups),
                });
            };
        });

    private static FunctionType Transposed(int n) => new($"conv_transpose{n}d",
        [
            Ints("stride", n).AtLeast(1).Or(1L), Ints("padding", n).AtLeast(0).Or(0L), Ints("output_padding", n).AtLeast(0).Or(0L), Int("groups").AtLeast(1).Or(1L), Ints("dilation", n).AtLeast(1).Or(1L),
        ],
        ["input", "weight", "bias?"], args =>
        {
            var (stride, padding, extra, groups, dilation) = (args.Ints("stride"), args.Ints("padding"), args.Ints("output_padding"), args.Int("groups"), args.Ints("dilation"));
            if (Enumerable.Range(0, n).Any(i => extra[i] >= Math.Max(stride[i], dilation[i])))
            {
                throw args.Refuse("output_padding", $"{args.Repr("output_padding")} was given; it must be less than stride or dilation in each dimension");
            }

            return (inputs, mode) =>
            {
                var (x, weight, bias) = (inputs[0]!, inputs[1]!, inputs[2]);
                CheckWeights($"conv_transpose{n}d", n, inputs, groups, isTransposed: true);
                if (ConvolutionTypes.NeedTransposedOutput(mode.Memory, x, weight, groups, stride, padding, extra, dilation) is { } problem)
                {
                    throw new ArgumentException($"conv_transpose{n}d {problem}");
                }

                return TensorTree.Of(n switch
                {
                    1 => F.conv_transpose1d(x, weight, bias, stride[0], padding[0], extra[0], dilation[0], groups),
                    2 => F.conv_transpose2d(x, weight, bias, stride, padding, extra, dilation, groups),
                    _ => F.conv_transpose3d(x, weight, bias, stride, padding, extra, dilation, groups),
                });
            };
        });

    private static void CheckWeights(string name, int n, Tensor?[] inputs, long groups, bool isTransposed)
    {
        var (x, weight, bias) = (inputs[0]!, inputs[1]!, inputs[2]);
        if (weight.Dimensions != n + 2 || weight.shape.Any(size => size < 1) || weight.shape[0] % groups != 0)
        {
            throw new ArgumentException($"{name} takes a weight of {n + 2} dimensions, none of them empty, whose first one groups, {groups}, divides; it was given {CallFailure.Describe(weight)}");
        }

        var (from, to) = isTransposed ? (weight.shape[0], weight.shape[1] * groups) : (weight.shape[1] * groups, weight.shape[0]);
        if (x.Dimensions < n + 1 || x.Dimensions > n + 2 || x.shape[^(n + 1)] != from)
        {
            throw new ArgumentException($"{name} takes an input of {n + 1} or {n + 2} dimensions with {from} channels for a weight [{string.Join(", ", weight.shape)}]; it was given {CallFailure.Describe(x)}");
        }

        if (bias is not null && !bias.shape.AsSpan().SequenceEqual([to]))
        {
            throw new ArgumentException($"{name} takes a bias [{to}]; it was given {CallFailure.Describe(bias)}");
        }

        CheckTypes(name, inputs);
    }

    private static void CheckChannels(string name, Tensor x, long channels, Tensor?[] inputs)
    {
        foreach (var other in inputs.Skip(1))
        {
            if (other is not null && !other.shape.AsSpan().SequenceEqual([channels]))
            {
                throw new ArgumentException($"{name} takes statistics, a weight and a bias of {channels} elements, the channels of its input, {CallFailure.Describe(x)}; it was given {CallFailure.Describe(other)}");
            }
        }

        CheckTypes(name, inputs);
    }

    private static void CheckStatistics(string name, Tensor?[] inputs, bool ofInput)
    {
        if ((inputs[1] is null) != (inputs[2] is null) || (inputs[1] is null && !ofInput))
        {
            throw new ArgumentException($"{name} takes running_mean and running_var together, and needs them where it does not use the statistics of its input");
        }
    }

    private static void CheckTypes(string name, Tensor?[] inputs)
    {
        if (!inputs[0]!.is_floating_point() || inputs.Any(input => input is not null && input.dtype != inputs[0]!.dtype))
        {
            throw new ArgumentException($"{name} takes tensors of one floating dtype; it was given {CallFailure.Describe([.. inputs.Select(TensorTree.Of)])}");
        }
    }

    // PyTorch's moves running statistics in place; these may be a caller's memory or a kept tensor, and stay as they are. They have no gradient.
    private static Tensor? Kept(Tensor? statistics, bool moves)
    {
        var constant = statistics?.detach();
        return moves ? constant?.clone() : constant;
    }
}
