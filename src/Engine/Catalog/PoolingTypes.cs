using Sconce.Engine.Tensors;
using static Sconce.Engine.Catalog.Argument;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace Sconce.Engine.Catalog;

/// <summary>Pooling.</summary>
internal static class PoolingTypes
{
    private static readonly Argument ReturnIndices = Bool("return_indices", false);

    public static IReadOnlyList<StatelessType> All { get; } =
    [
        .. Enumerable.Range(1, 3).SelectMany(n => new[] { Max(n), Average(n), Norm(n), AdaptiveAverage(n), AdaptiveMax(n), Unpool(n) }),
        Fractional(2),
        Fractional(3),
    ];

    private static StatelessType Max(int n) => new($"MaxPool{n}d", "_MaxPoolNd", $"max_pool{n}d",
        [.. Window(n), Ints("padding", n).AtLeast(0).Or(0L), Ints("dilation", n).AtLeast(1).Or(1L), ReturnIndices, Bool("ceil_mode", false)],
        a => $"kernel_size={a.Repr("kernel_size")}, stride={Stride(a)}, padding={a.Repr("padding")}, dilation={a.Repr("dilation")}, ceil_mode={a.Repr("ceil_mode")}", args =>
        {
            var (kernel, stride) = KernelAndStride(args);
            var (padding, dilation, ceil) = (args.Ints("padding"), args.Ints("dilation"), args.Bool("ceil_mode"));
            CheckPadding(args, kernel, padding);
            Tensor Checked(Tensor input) => n == 1 ? CheckWindow(input, kernel[0], stride[0], padding[0], dilation[0], ceil) : input;
            return args.Bool("return_indices")
                ? (inputs, _) => Both(n switch
                {
                    1 => F.max_pool1d_with_indices(Checked(inputs[0]!), kernel[0], stride[0], padding[0], dilation[0], ceil),
                    2 => F.max_pool2d_with_indices(inputs[0]!, kernel, stride, padding, dilation, ceil),
                    _ => F.max_pool3d_with_indices(inputs[0]!, kernel, stride, padding, dilation, ceil),
                })
                : (inputs, _) => TensorTree.Of(n switch
                {
                    1 => F.max_pool1d(Checked(inputs[0]!), kernel[0], stride[0], padding[0], dilation[0], ceil),
                    2 => F.max_pool2d(inputs[0]!, kernel, stride, padding, dilation, ceil),
                    _ => F.max_pool3d(inputs[0]!, kernel, stride, padding, dilation, ceil),
                });
        });

    private static StatelessType Average(int n) => new($"AvgPool{n}d", "_AvgPoolNd", $"avg_pool{n}d",
        [.. Window(n), Ints("padding", n).AtLeast(0).Or(0L), Bool("ceil_mode", false), Bool("count_include_pad", true), .. n == 1 ? Array.Empty<Argument>() : [Int("divisor_override").OrNone()]],
        a => n == 1 ? $"kernel_size={a.Repr("kernel_size", true)}, stride={(a.IsNone("stride") ? a.Repr("kernel_size", true) : a.Repr("stride", true))}, padding={a.Repr("padding", true)}"
            : $"kernel_size={a.Repr("kernel_size")}, stride={Stride(a)}, padding={a.Repr("padding")}", args =>
        {
            var (kernel, stride) = KernelAndStride(args);
            var (padding, ceil, includePad) = (args.Ints("padding"), args.Bool("ceil_mode"), args.Bool("count_include_pad"));
            var divisor = n == 1 ? null : args.IntOrNone("divisor_override");
            if (divisor == 0)
            {
                throw args.Refuse("divisor_override", "0 was given; sums are divided by it");
            }

            CheckPadding(args, kernel, padding);
            return (inputs, _) => TensorTree.Of(n switch
            {
                1 => F.avg_pool1d(inputs[0]!, kernel[0], stride[0], padding[0], ceil, includePad),
                2 => F.avg_pool2d(inputs[0]!, kernel, stride, padding, ceil, includePad, divisor),
                _ => F.avg_pool3d(inputs[0]!, kernel, stride, padding, ceil, includePad, divisor),
            });
        });

    private static StatelessType Norm(int n) => new($"LPPool{n}d", "_LPPoolNd", $"lp_pool{n}d", [Float("norm_type"), .. Window(n), Bool("ceil_mode", false)],
        a => $"norm_type={a.Repr("norm_type")}, kernel_size={a.Repr("kernel_size")}, stride={a.Repr("stride")}, ceil_mode={a.Repr("ceil_mode")}", args =>
        {
            var (kernel, stride) = KernelAndStride(args);
            var (norm, ceil) = (args.Float("norm_type"), args.Bool("ceil_mode"));
            var size = kernel.Aggregate(1L, (product, k) => product * k);
            if (norm == 0)
            {
                throw args.Refuse("norm_type", "0 was given; its inverse is an exponent");
            }

            // PyTorch's own formula: the average, made a sum again, then rooted; relu keeps the root of a rounding error real.
            return (inputs, _) =>
            {
                var powers = inputs[0]!.pow(norm);
                var average = n switch
                {
                    1 => F.avg_pool1d(powers, kernel[0], stride[0], 0, ceil),
                    2 => F.avg_pool2d(powers, kernel, stride, new long[n], ceil),
                    _ => F.avg_pool3d(powers, kernel, stride, new long[n], ceil),
                };
                return TensorTree.Of((average.sign() * average.abs().relu()).mul(size).pow(1.0 / norm));
            };
        });

    private static StatelessType AdaptiveAverage(int n) => new($"AdaptiveAvgPool{n}d", "_AdaptiveAvgPoolNd", $"adaptive_avg_pool{n}d", [OutputSize(n)],
        a => $"output_size={a.Repr("output_size")}", args =>
        {
            var wanted = args.Ints("output_size");
            return (inputs, mode) =>
            {
                var size = SizeFor(inputs[0]!, wanted);
                mode.Memory?.Need(inputs[0]!, inputs[0]!.shape.AsSpan(0, (int)inputs[0]!.Dimensions - n), TensorSize.Product(size));
                var walked = Walked(size);
                return TensorTree.Of(Widened(size, n switch
                {
                    1 => F.adaptive_avg_pool1d(inputs[0]!, walked[0]),
                    2 => F.adaptive_avg_pool2d(inputs[0]!, walked),
                    _ => F.adaptive_avg_pool3d(inputs[0]!, walked),
                }));
            };
        });

    private static StatelessType AdaptiveMax(int n) => new($"AdaptiveMaxPool{n}d", "_AdaptiveMaxPoolNd", $"adaptive_max_pool{n}d", [OutputSize(n), ReturnIndices],
        a => $"output_size={a.Repr("output_size")}", args =>
        {
            var (wanted, indices) = (args.Ints("output_size"), args.Bool("return_indices"));
            return (inputs, mode) =>
            {
                var size = SizeFor(inputs[0]!, wanted);
                mode.Memory?.Need(inputs[0]!, inputs[0]!.shape.AsSpan(0, (int)inputs[0]!.Dimensions - n), TensorSize.Product(size));
                var walked = Walked(size);
                var (values, places) = n switch
                {
                    1 => F.adaptive_max_pool1d_with_indices(inputs[0]!, walked[0]),
                    2 => F.adaptive_max_pool2d_with_indices(inputs[0]!, walked),
                    _ => NativeFunctions.AdaptiveMaxPool3d(inputs[0]!, walked),
                };
                return indices ? Both((Widened(size, values), Widened(size, places))) : TensorTree.Of(Widened(size, values));
            };
        });

    private static StatelessType Unpool(int n) => new($"MaxUnpool{n}d", "_MaxUnpoolNd", $"max_unpool{n}d", [.. Window(n), Ints("padding", n).AtLeast(0).Or(0L)],
        a => $"kernel_size={a.Repr("kernel_size", true)}, stride={(a.IsNone("stride") ? a.Repr("kernel_size", true) : a.Repr("stride", true))}, padding={a.Repr("padding", true)}", args =>
        {
            var (kernel, stride) = KernelAndStride(args);
            var padding = args.Ints("padding");
            return (inputs, mode) =>
            {
                var (x, indices) = (inputs[0]!, inputs[1]!);
                var size = UnpooledSize(x, inputs[2], kernel, stride, padding);
                mode.Memory?.Need(x, x.shape.AsSpan(0, (int)x.Dimensions - n), TensorSize.Product(size));
                CheckIndices(x, indices, size);

                // Each value goes to its place among zeros. (TorchSharp's functions lose the output size.)
                long[] outer = x.shape[..^n];
                var flat = zeros([.. outer, size.Aggregate(1L, (product, s) => product * s)], dtype: x.dtype, device: x.device);
                return TensorTree.Of(flat.scatter(-1, indices.flatten(-n), x.flatten(-n)).view([.. outer, .. size]));
            };
        })
    { Inputs = ["input", "indices", "output_size?"] };

    private static StatelessType Fractional(int n) => new($"FractionalMaxPool{n}d", "Module", $"fractional_max_pool{n}d",
        [Ints("kernel_size", n).AtLeast(1), Ints("output_size", n).AtLeast(1).OrNone(), Floats("output_ratio", n).OrNone(), ReturnIndices], _ => "", args =>
        {
            var (kernel, size, ratio, indices) = (args.Ints("kernel_size"), args.IntsOrNone("output_size"), args.FloatsOrNone("output_ratio"), args.Bool("return_indices"));
            if ((size is null) == (ratio is null))
            {
                throw args.Refuse("output_size", "exactly one of output_size and output_ratio must be given");
            }

            if (ratio is not null && ratio.Any(r => r is <= 0 or >= 1))
            {
                throw args.Refuse("output_ratio", $"{args.Repr("output_ratio")} was given; it must be between 0 and 1, both excluded");
            }

            return (inputs, _) =>
            {
                var both = n == 2 ? F.fractional_max_pool2d_with_indices(inputs[0]!, kernel, size, ratio) : F.fractional_max_pool3d_with_indices(inputs[0]!, kernel, size, ratio);
                return indices ? Both(both) : TensorTree.Of(both.Item1);
            };
        });

    private static Argument[] Window(int n) => [Ints("kernel_size", n).AtLeast(1), Ints("stride", n).AtLeast(1).OrNone()];

    private static Argument OutputSize(int n) => Ints("output_size", n).AtLeast(0).WithNoneItems();

    private static string Stride(BoundArguments args) => args.IsNone("stride") ? args.Repr("kernel_size") : args.Repr("stride");

    private static (long[] Kernel, long[] Stride) KernelAndStride(BoundArguments args) => (args.Ints("kernel_size"), args.IntsOrNone("stride") ?? args.Ints("kernel_size"));

    /// <summary>libtorch walks through a one-dimensional window element by element, beyond the input too: a huge one would never end.</summary>
    private static Tensor CheckWindow(Tensor input, long kernel, long stride, long padding, long dilation, bool ceil)
    {
        if (input.dim() > 0)
        {
            var window = ((Int128)dilation * (kernel - 1)) + 1;
            var room = (Int128)input.shape[^1] + (2 * (Int128)padding) + (ceil ? stride - 1 : 0);
            if (window > Int128.Min(room, int.MaxValue))
            {
                throw new ArgumentException($"a window of {window} is larger than the input of {input.shape[^1]} with its padding");
            }
        }

        return input;
    }

    private static void CheckPadding(BoundArguments args, long[] kernel, long[] padding)
    {
        if (kernel.Zip(padding).Any(pair => pair.Second > pair.First / 2))
        {
            throw args.Refuse("padding", $"{args.Repr("padding")} was given; it must be at most half of kernel_size, {args.Repr("kernel_size")}");
        }
    }

    private static TensorTree Both((Tensor Values, Tensor Indices) result) => TensorTree.Tuple(TensorTree.Of(result.Values), TensorTree.Of(result.Indices));

    // libtorch walks through the windows of an output without elements too; one window in each other dimension is enough for that.
    private static long[] Walked(long[] size) => size.Contains(0) ? [.. size.Select(s => Math.Min(s, 1))] : size;

    private static Tensor Widened(long[] size, Tensor result) => size.Contains(0) ? result.expand([.. result.shape[..^size.Length], .. size]) : result;

    // None keeps a dimension as the input has it.
    private static long[] SizeFor(Tensor input, long[] wanted)
    {
        var shape = input.shape;
        return shape.Length <= wanted.Length
            ? throw new ArgumentException($"the input needs more than {wanted.Length} dimensions")
            : [.. wanted.Select((size, i) => size == Argument.NoneItem ? shape[shape.Length - wanted.Length + i] : size)];
    }

    private static long[] UnpooledSize(Tensor input, Tensor? given, long[] kernel, long[] stride, long[] padding)
    {
        var n = kernel.Length;
        var shape = input.shape;
        if (shape.Length != n + 1 && shape.Length != n + 2)
        {
            throw new ArgumentException($"the input needs {n + 1} or {n + 2} dimensions");
        }

        var spatial = shape[^n..];
        var least = spatial.Select((size, i) => ((size - 1) * stride[i]) + kernel[i] - (2 * padding[i])).ToArray();
        if (given is null)
        {
            return least;
        }

        var wanted = given.Dimensions == 1 && given.dtype == ScalarType.Int64 ? given.data<long>().ToArray() : throw new ArgumentException("output_size is a tensor of int64 with one dimension");
        wanted = wanted.Length == n ? wanted : wanted.Length == shape.Length ? wanted[^n..] : throw new ArgumentException($"output_size has {wanted.Length} items; expected {n} or {shape.Length}");
        return wanted.Zip(least, stride).All(d => Math.Abs(d.First - d.Second) < d.Third)
            ? wanted
            : throw new ArgumentException($"output_size [{string.Join(", ", wanted)}] is a stride or more away from [{string.Join(", ", least)}]");
    }

    // An index beyond the output would write outside its memory.
    private static void CheckIndices(Tensor input, Tensor indices, long[] size)
    {
        var cells = size.Aggregate(1L, (product, s) => checked(product * s));
        if (indices.dtype != ScalarType.Int64 || !indices.shape.SequenceEqual(input.shape))
        {
            throw new ArgumentException($"indices must be int64 of the input's shape");
        }

        if (indices.NumberOfElements > 0 && (indices.min().item<long>() < 0 || indices.max().item<long>() >= cells))
        {
            throw new ArgumentException($"indices must be from 0 to {cells - 1}, the last element of the output [{string.Join(", ", size)}]");
        }
    }
}
