using Sconce.Engine.Catalog;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>What Embedding and EmbeddingBag share.</summary>
internal static class EmbeddingTable
{
    /// <summary>The row of <c>padding_idx</c>, counted from the start.</summary>
    public static long? PaddingRow(BoundArguments args, long rows)
    {
        if (args.IntOrNone("padding_idx") is not { } row)
        {
            return null;
        }

        return row < -rows || row >= rows
            ? throw args.Refuse("padding_idx", $"{row} was given; it must be from {-rows} to {rows - 1}, within num_embeddings")
            : row < 0 ? row + rows : row;
    }

    public static string Repr(BoundArguments args, long? padding, string? mode)
    {
        var text = $"{args.Repr("num_embeddings")}, {args.Repr("embedding_dim")}";
        var pad = padding is null ? "" : $", padding_idx={padding}";
        text += mode is null ? pad : "";
        text += args.IsNone("max_norm") ? "" : $", max_norm={args.Repr("max_norm")}";
        text += args.Float("norm_type") == 2 ? "" : $", norm_type={args.Repr("norm_type")}";
        text += args.Bool("scale_grad_by_freq") ? ", scale_grad_by_freq=True" : "";
        return mode is null ? text : $"{text}, mode={mode}{pad}";
    }

    public static void Initialise(Parameter weight, long? padding, double std = 1)
    {
        Initial.Normal(weight, std);
        if (padding is { } row)
        {
            using var scope = NewDisposeScope();
            using var quiet = no_grad();
            weight[row].fill_(0);
        }
    }

    /// <summary>Why these indexes cannot be looked up; null where they can. Libtorch does not check them on every path.</summary>
    public static string? Problem(Tensor indices, long rows)
    {
        if (indices.dtype is not (ScalarType.Int64 or ScalarType.Int32))
        {
            return $"takes indexes of int32 or int64; it was given {CallFailure.Describe(indices)}";
        }

        if (indices.NumberOfElements == 0)
        {
            return null;
        }

        using var low = indices.min();
        using var high = indices.max();
        var (least, most) = (ToLong(low), ToLong(high));
        return least >= 0 && most < rows ? null : $"takes indexes from 0 to {rows - 1} (num_embeddings); it was given {(least < 0 ? least : most)}";
    }

    private static long ToLong(Tensor scalar)
    {
        using var wide = scalar.to_type(ScalarType.Int64);
        return wide.item<long>();
    }
}
