using static TorchSharp.torch;

namespace Sconce.Engine.Catalog;

/// <summary>
/// Shapes of results that can be much larger than what they are made of, to ask for room before they are made. Where arguments are wrong the shape is
/// anything: libtorch refuses them.
/// </summary>
internal static class ResultShape
{
    /// <summary>What operands broadcast to.</summary>
    public static long[] Broadcast(params ReadOnlySpan<Tensor?> operands)
    {
        long[] result = [];
        foreach (var operand in operands)
        {
            if (operand is not null)
            {
                result = Broadcast(result, operand.shape);
            }
        }

        return result;
    }

    /// <summary>What two shapes broadcast to.</summary>
    public static long[] Broadcast(ReadOnlySpan<long> a, ReadOnlySpan<long> b)
    {
        var result = new long[Math.Max(a.Length, b.Length)];
        for (var i = 1; i <= result.Length; i++)
        {
            var (x, y) = (i <= a.Length ? a[^i] : 1, i <= b.Length ? b[^i] : 1);
            result[^i] = x == 1 ? y : x;
        }

        return result;
    }

    /// <summary>Whether a shape expands to another one.</summary>
    public static bool Expands(ReadOnlySpan<long> shape, ReadOnlySpan<long> to)
    {
        for (var i = 1; i <= shape.Length; i++)
        {
            if (i > to.Length || (shape[^i] != to[^i] && shape[^i] != 1))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary><c>expand</c>: -1 keeps a dimension.</summary>
    public static long[] Expanded(Tensor x, long[] size)
    {
        var shape = x.shape;
        return [.. size.Select((wanted, i) => wanted != -1 ? wanted : shape.Length - size.Length + i is var at && at >= 0 ? shape[at] : 1)];
    }

    /// <summary><c>pad</c>: pairs from the last dimension on.</summary>
    public static long[] Padded(Tensor x, long[] pad)
    {
        var shape = x.shape;
        for (var i = 0; i < shape.Length && (2 * i) + 1 < pad.Length; i++)
        {
            shape[^(i + 1)] = Clamp((Int128)shape[^(i + 1)] + pad[2 * i] + pad[(2 * i) + 1]);
        }

        return shape;
    }

    /// <summary>The sizes over which a window slides: of a convolution's output, or of <c>unfold</c>'s blocks.</summary>
    /// <param name="sizes">The input's sizes in those dimensions.</param>
    /// <param name="kernel">The window.</param>
    /// <param name="stride">Its stride.</param>
    /// <param name="padding">Zeros on each side.</param>
    /// <param name="dilation">Its dilation.</param>
    public static long[] Windows(ReadOnlySpan<long> sizes, long[] kernel, long[] stride, long[] padding, long[] dilation)
    {
        var result = new long[sizes.Length];
        for (var i = 0; i < result.Length; i++)
        {
            result[i] = Clamp((((Int128)sizes[i] + (2 * (Int128)padding[i]) - ((Int128)dilation[i] * (kernel[i] - 1)) - 1) / stride[i]) + 1);
        }

        return result;
    }

    /// <summary><c>interpolate</c>, by size or by factors.</summary>
    public static long[] Interpolated(Tensor x, long[]? size, double[]? scale)
    {
        var shape = x.shape;
        return [.. shape.AsSpan(0, 2), .. size ?? [.. scale!.Select((factor, i) => (long)Math.Min(Math.Floor(shape[i + 2] * factor), long.MaxValue))]];
    }

    private static long Clamp(Int128 size) => (long)Int128.Clamp(size, 0, long.MaxValue);
}
