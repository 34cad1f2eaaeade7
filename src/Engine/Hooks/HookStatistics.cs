using Sconce.Engine.Modules;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.Hooks;

/// <summary>The figures that a reduction takes.</summary>
internal static class HookStatistics
{
    private const uint DefaultBins = 100;
    private const uint DefaultK = 10;

    /// <summary>Takes the figures of a tensor, in the order asked for.</summary>
    /// <param name="action">Which.</param>
    /// <param name="value">The tensor, detached.</param>
    /// <exception cref="EngineException">A figure cannot be taken of it.</exception>
    public static IReadOnlyList<(HookStatistic Statistic, Tensor Value, Tensor? Indexes)> Take(ReduceAction action, Tensor value)
    {
        if (value.is_complex())
        {
            throw Fails($"statistics are of real tensors; it met {CallFailure.Describe(value)}");
        }

        var dims = Dims(action, value);
        return [.. action.Statistics.Select(statistic => Take(statistic, action, value, dims))];
    }

    private static (HookStatistic Statistic, Tensor Value, Tensor? Indexes) Take(HookStatistic statistic, ReduceAction action, Tensor value, long[] dims)
    {
        switch (statistic)
        {
            case HookStatistic.Mean:
                return (statistic, Wide(value).mean(dims), null);
            case HookStatistic.Std:
                return (statistic, Std(Wide(value), dims), null);
            case HookStatistic.Norm:
                return (statistic, Wide(value).square().sum(dims).sqrt(), null);
            case HookStatistic.Min:
                return (statistic, Filled(value).amin(dims), null);
            case HookStatistic.Max:
                return (statistic, Filled(value).amax(dims), null);
            case HookStatistic.NanCount:
                return (statistic, Count(value, dims, static x => x.isnan()), null);
            case HookStatistic.InfCount:
                return (statistic, Count(value, dims, static x => x.isinf()), null);
            case HookStatistic.Histogram:
                return (statistic, Histogram(action, Wide(value)), null);
            default:
                var flat = Filled(value).flatten();
                var (values, indexes) = flat.topk((int)Math.Min(action.K == 0 ? DefaultK : action.K, flat.numel()));
                return (statistic, values, indexes);
        }
    }

    // The unbiased variance from deviations: libtorch's own over dimensions ends the process on some arguments.
    private static Tensor Std(Tensor x, long[] dims)
    {
        var count = dims.Aggregate(1L, (product, dim) => product * x.shape[dim]);
        var sum = (x - x.mean(dims, keepdim: true)).square().sum(dims);
        return (sum / (count - 1.0)).sqrt();
    }

    private static Tensor Count(Tensor value, long[] dims, Func<Tensor, Tensor> which) =>
        (value.is_floating_point() ? which(value) : zeros_like(value, ScalarType.Bool)).to(ScalarType.Int64).sum(dims);

    // As torch.histc: the last bin is closed, what is outside is not counted, and an empty range is that of the data.
    private static Tensor Histogram(ReduceAction action, Tensor x)
    {
        var bins = (long)(action.Bins == 0 ? DefaultBins : action.Bins);
        x = x.flatten();
        x = x.masked_select(x.isfinite());
        if (x.numel() == 0)
        {
            return zeros(bins, ScalarType.Int64);
        }

        var (least, most) = (action.HistogramMin ?? 0, action.HistogramMax ?? 0);
        if (least == most)
        {
            (least, most) = (x.min().ToDouble(), x.max().ToDouble());
        }

        if (least == most)
        {
            (least, most) = (least - 1, most + 1);
        }

        x = x.masked_select((x >= least).logical_and(x <= most));
        return bincount(Places(x, least, most, bins).floor().clamp(0, bins - 1).to(ScalarType.Int64), null, bins);
    }

    // In units of a bin.
    private static Tensor Places(Tensor x, double least, double most, long bins)
    {
        if (double.IsInfinity(most - least))
        {
            (x, least, most) = (x / 2, least / 2, most / 2);
        }

        var width = most - least;
        return width == 0 ? full_like(x, bins / 2.0) // One value, so large that there is none beside it.
            : double.IsFinite(bins / width) ? (x - least) * (bins / width)
            : (x - least) / width * bins;
    }

    private static long[] Dims(ReduceAction action, Tensor value)
    {
        var rank = value.Dimensions;
        if (action.Dims.Count == 0)
        {
            return [.. Enumerable.Range(0, (int)rank).Select(dim => (long)dim)];
        }

        var dims = action.Dims.Select(dim => dim < 0 ? dim + rank : dim).ToArray();
        return dims.All(dim => dim >= 0 && dim < rank) && dims.Distinct().Count() == dims.Length
            ? dims
            : throw Fails($"reduces dimensions [{string.Join(", ", action.Dims)}] of {CallFailure.Describe(value)}, which has {rank}; each must exist and be named once");
    }

    private static Tensor Wide(Tensor value) => value.to(ScalarType.Float64);

    private static Tensor Filled(Tensor value)
    {
        if (value.numel() == 0)
        {
            throw Fails($"min, max and topk need an element; it met {CallFailure.Describe(value)}");
        }

        return value.dtype == ScalarType.Bool ? value.to(ScalarType.Byte) : value;
    }

    private static EngineException Fails(string message) => new(EngineError.InvalidArgument, "HOOK_FAILED", message);
}
