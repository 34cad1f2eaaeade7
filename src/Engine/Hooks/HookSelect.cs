using static TorchSharp.torch;

namespace Sconce.Engine.Hooks;

/// <summary>Views one dimension of size parts x n as two.</summary>
/// <param name="Dim">The dimension; negative counts from the end.</param>
/// <param name="Parts">How many parts.</param>
public sealed record HookSplit(int Dim, uint Parts);

/// <summary>Selects along one dimension: exactly one of an index, a range and a list.</summary>
/// <param name="Dim">The dimension, after the split; negative counts from the end.</param>
public sealed record HookDim(int Dim)
{
    /// <summary>One index; its dimension is dropped.</summary>
    public long? Index { get; init; }

    /// <summary>A range, as Python's start:stop:step.</summary>
    public (long? Start, long? Stop, long Step)? Slice { get; init; }

    /// <summary>Several indexes.</summary>
    public IReadOnlyList<long>? Indexes { get; init; }
}

/// <summary>A part of a tensor, and how to put a changed part back. Everything here is recorded by autograd.</summary>
/// <param name="Split">First views one dimension as two; null for not.</param>
/// <param name="Dims">Then selects along these.</param>
public sealed record HookSelect(HookSplit? Split, IReadOnlyList<HookDim> Dims)
{
    /// <summary>The part of a tensor.</summary>
    /// <param name="value">The tensor.</param>
    /// <exception cref="EngineException">The tensor has no such part.</exception>
    internal Tensor Take(Tensor value)
    {
        var view = SplitView(value);
        foreach (var (dim, select) in Ordered(view))
        {
            view = TakeOne(view, dim, select);
        }

        return view;
    }

    /// <summary>The whole tensor with its part replaced; the tensor itself stays as it is.</summary>
    /// <param name="value">The tensor.</param>
    /// <param name="part">The new part, of the old one's shape.</param>
    internal Tensor Put(Tensor value, Tensor part)
    {
        var view = SplitView(value);
        return PutFrom(view, Ordered(view), 0, part).reshape(value.shape);
    }

    private static Tensor PutFrom(Tensor whole, IReadOnlyList<(int Dim, HookDim Select)> dims, int at, Tensor part)
    {
        if (at == dims.Count)
        {
            return part;
        }

        var (dim, select) = dims[at];
        var inner = PutFrom(TakeOne(whole, dim, select), dims, at + 1, part);
        if (select.Index is { } index)
        {
            return whole.select_scatter(inner, dim, Wrap(index, whole.shape[dim], dim));
        }

        if (select.Slice is { } slice)
        {
            var (start, stop, step) = Range(slice, whole.shape[dim]);
            return stop == start ? whole : whole.slice_scatter(inner, dim, start, stop, step);
        }

        using var places = Places(select, whole, dim);
        return whole.index_copy(dim, places, inner);
    }

    private static Tensor TakeOne(Tensor whole, int dim, HookDim select)
    {
        if (select.Index is { } index)
        {
            return whole.select(dim, Wrap(index, whole.shape[dim], dim));
        }

        if (select.Slice is { } slice)
        {
            var (start, stop, step) = Range(slice, whole.shape[dim]);
            return whole.slice(dim, start, stop, step);
        }

        using var places = Places(select, whole, dim);
        return whole.index_select(dim, places);
    }

    private static Tensor Places(HookDim select, Tensor whole, int dim)
    {
        var size = whole.shape[dim];
        var places = select.Indexes!.Select(index => Wrap(index, size, dim)).ToArray();
        return places.Distinct().Count() == places.Length
            ? tensor(places, device: whole.device)
            : throw Fails($"selects an index of dimension {dim} twice");
    }

    private static long Wrap(long index, long size, int dim) => index >= -size && index < size
        ? (index < 0 ? index + size : index)
        : throw Fails($"selects index {index} of dimension {dim}, which has {size}");

    // As Python's slice.indices, for steps above zero. Every step beyond the size is the same one, which libtorch's arithmetic does not overflow at.
    private static (long Start, long Stop, long Step) Range((long? Start, long? Stop, long Step) slice, long size)
    {
        var start = Clip(slice.Start ?? 0);
        return (start, Math.Max(start, Clip(slice.Stop ?? size)), Math.Min(slice.Step, size + 1));

        long Clip(long index) => Math.Clamp(index < 0 ? index + size : index, 0, size);
    }

    private Tensor SplitView(Tensor value)
    {
        if (Split is null)
        {
            return value;
        }

        var rank = value.Dimensions;
        var dim = Split.Dim < 0 ? Split.Dim + rank : Split.Dim;
        if (dim < 0 || dim >= rank)
        {
            throw Fails($"splits dimension {Split.Dim} of a tensor that has {rank}");
        }

        var size = value.shape[dim];
        return size % Split.Parts == 0
            ? value.unflatten(dim, [Split.Parts, size / Split.Parts])
            : throw Fails($"splits dimension {Split.Dim}, which has size {size}, into {Split.Parts} equal parts");
    }

    // From the last dimension to the first, so that an index that drops its dimension leaves the numbers of those to come as they are.
    private List<(int Dim, HookDim Select)> Ordered(Tensor view)
    {
        var rank = (int)view.Dimensions;
        var ordered = Dims.Select(select => (Dim: select.Dim < 0 ? select.Dim + rank : select.Dim, Select: select)).OrderByDescending(at => at.Dim).ToList();
        for (var i = 0; i < ordered.Count; i++)
        {
            if (ordered[i].Dim < 0 || ordered[i].Dim >= rank)
            {
                throw Fails($"selects along dimension {ordered[i].Select.Dim} of a tensor that has {rank}{(Split is null ? "" : " after the split")}");
            }

            if (i > 0 && ordered[i].Dim == ordered[i - 1].Dim)
            {
                throw Fails($"selects along dimension {ordered[i].Dim} twice");
            }
        }

        return ordered;
    }

    private static EngineException Fails(string message) => EngineException.Invalid("select", message, "SHAPE_MISMATCH");
}
