using Sconce.Engine.Catalog;
using Sconce.Engine.Execution;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary><c>torch.matmul</c> out of <c>mm</c> and <c>bmm</c>: TorchSharp's own lets libtorch's exceptions end the process, out of memory among them.</summary>
internal static class MatrixProduct
{
    /// <summary>The product, with PyTorch's rules for vectors and for broadcasting batches.</summary>
    /// <param name="a">The left.</param>
    /// <param name="b">The right.</param>
    /// <param name="memory">What is asked for room; null asks nothing.</param>
    /// <exception cref="ArgumentException">The shapes do not fit.</exception>
    public static Tensor Of(Tensor a, Tensor b, CallMemory? memory)
    {
        var (left, right) = (a.shape, b.shape);
        if (left.Length == 0 || right.Length == 0 || left[^1] != right[^Math.Min(2, right.Length)])
        {
            throw new ArgumentException($"matmul takes matrices whose inner sizes agree; it was given {CallFailure.Describe(a)} and {CallFailure.Describe(b)}");
        }

        if (left.Length == 1)
        {
            return Of(a.unsqueeze(0), b, memory).squeeze(right.Length == 1 ? 0 : -2);
        }

        if (right.Length == 1)
        {
            return Of(a, b.unsqueeze(1), memory).squeeze(-1);
        }

        if (right.Length == 2)
        {
            memory?.Need(a, left.AsSpan(0, left.Length - 1), right[1]);
        }

        if (left.Length == 2 && right.Length == 2)
        {
            return a.mm(b);
        }

        // One matrix for the whole batch: its rows are one long matrix.
        if (right.Length == 2)
        {
            return a.reshape(-1, left[^1]).mm(b).view([.. left.AsSpan(0, left.Length - 1), right[1]]);
        }

        var (leftBatch, rightBatch) = (left[..^2], right[..^2]);
        var batch = ResultShape.Broadcast(leftBatch, rightBatch);
        if (!ResultShape.Expands(leftBatch, batch) || !ResultShape.Expands(rightBatch, batch))
        {
            throw new ArgumentException($"matmul takes batches that broadcast; it was given {CallFailure.Describe(a)} and {CallFailure.Describe(b)}");
        }

        var count = TensorSize.Product(batch);
        // The operands are made dense too.
        memory?.Need(a, [left[^2], right[^1]], count);
        memory?.Need(a, [left[^2], left[^1]], count);
        memory?.Need(a, [right[^2], right[^1]], count);
        return Flat(a, batch, count).bmm(Flat(b, batch, count)).view([.. batch, left[^2], right[^1]]);
    }

    private static Tensor Flat(Tensor tensor, long[] batch, long count)
    {
        var shape = tensor.shape;
        var (rows, columns) = (shape[^2], shape[^1]);
        return tensor.expand([.. batch, rows, columns]).reshape(count, rows, columns);
    }
}
