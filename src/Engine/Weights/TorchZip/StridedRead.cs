using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Weights.TorchZip;

/// <summary>
/// Reads a tensor whose elements do not follow one another in its storage (transposed, sliced, expanded): stretches of the storage go into a small tensor, of
/// which libtorch copies the view into its place. So a view of a few elements, far apart in a storage of gigabytes, takes no gigabytes.
/// </summary>
internal static class StridedRead
{
    private const long WindowBytes = 16 << 20;

    /// <summary>Reads a tensor's elements.</summary>
    /// <param name="into">A dense tensor of its shape, with at least one element.</param>
    /// <param name="source">The file.</param>
    /// <param name="tensor">What to read; checked.</param>
    /// <param name="cancellationToken">Looked at before each stretch.</param>
    public static void Into(Tensor into, ByteSource source, TorchTensor tensor, CancellationToken cancellationToken)
    {
        var itemSize = tensor.Type.Size();
        var window = WindowBytes / itemSize;
        var dimensions = Dimensions(tensor);

        // The innermost dimensions that fit the window together make a block, with as many indices of the next one as fit too.
        var inner = dimensions.Count;
        var span = 1L;
        while (inner > 0 && Longer(span, dimensions[inner - 1], dimensions[inner - 1].Size) <= window)
        {
            inner--;
            span = (long)Longer(span, dimensions[inner], dimensions[inner].Size);
        }

        var step = inner == 0 ? 1 : Math.Max(1, ((window - span) / dimensions[inner - 1].Stride) + 1);
        var index = new long[inner];
        using var noGrad = no_grad();
        while (true)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var (from, to) = (tensor.Offset, 0L);
            for (var i = 0; i < inner; i++)
            {
                from += index[i] * dimensions[i].Stride;
                to += index[i] * dimensions[i].Place;
            }

            var block = dimensions[inner..];
            if (inner > 0)
            {
                var cut = dimensions[inner - 1];
                block.Add(cut with { Size = Math.Min(step, cut.Size - index[inner - 1]) });
            }

            Copy(into, to, source, tensor, from, block);
            var next = inner - 1;
            while (next >= 0 && (index[next] += next == inner - 1 ? step : 1) >= dimensions[next].Size)
            {
                index[next--] = 0;
            }

            if (next < 0)
            {
                return;
            }
        }
    }

    private static unsafe void Copy(Tensor into, long to, ByteSource source, TorchTensor tensor, long from, List<Dimension> block)
    {
        var span = block.Aggregate(1L, (sum, dimension) => sum + ((dimension.Size - 1) * dimension.Stride));
        var itemSize = tensor.Type.Size();
        using var scope = NewDisposeScope();
        var stretch = NativeTensors.Allocate(tensor.Type, [span], span * itemSize, out var memory);
        using (stretch)
        {
            source.ReadExactly(new Span<byte>(memory, (int)(span * itemSize)), tensor.Record.Offset + (from * itemSize));
            long[] sizes = [.. block.Select(dimension => dimension.Size)];
            var view = stretch.as_strided(sizes, [.. block.Select(dimension => dimension.Stride)], 0);
            _ = into.as_strided(sizes, [.. block.Select(dimension => dimension.Place)], to).copy_(view);
        }
    }

    // Those of more than one index, by their strides, the largest first.
    private static List<Dimension> Dimensions(TorchTensor tensor)
    {
        var dimensions = new List<Dimension>(tensor.Sizes.Length);
        var place = 1L;
        for (var i = tensor.Sizes.Length - 1; i >= 0; i--)
        {
            if (tensor.Sizes[i] > 1)
            {
                dimensions.Add(new Dimension(tensor.Sizes[i], tensor.Strides[i], place));
            }

            place *= tensor.Sizes[i];
        }

        dimensions.Sort((a, b) => b.Stride.CompareTo(a.Stride));
        return dimensions;
    }

    private static Int128 Longer(long span, Dimension dimension, long size) => span + ((Int128)(size - 1) * dimension.Stride);

    /// <summary>A dimension.</summary>
    /// <param name="Size">How many indices.</param>
    /// <param name="Stride">Elements of the storage from one to the next.</param>
    /// <param name="Place">Elements of the dense tensor from one to the next.</param>
    private readonly record struct Dimension(long Size, long Stride, long Place);
}
