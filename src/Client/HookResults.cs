using Sconce.V1;

namespace Sconce.Client;

/// <summary>A figure that a hook took, or one for each element that is left after the reduction.</summary>
/// <param name="Statistic">Which.</param>
/// <param name="Value">float64 for means, deviations and norms, int64 for counts, else the dtype of what was measured.</param>
/// <param name="Indexes">For the largest elements: where they are, int64; else null.</param>
public sealed record HookFigure(Statistic Statistic, TensorData Value, TensorData? Indexes);

/// <summary>What a hook copied or measured in one visit.</summary>
public sealed class HookObservation
{
    internal HookObservation(HookCapture capture)
    {
        Hook = capture.Hook;
        Path = capture.Path;
        Site = capture.Site;
        TensorIndex = (int)capture.TensorIndex;
        Name = capture.Name;
        Call = (long)capture.Call;
        Tensor = capture.Tensor is null ? TensorData.None : TensorData.From(capture.Tensor);
        Figures = [.. capture.Statistics.Select(one => new HookFigure(one.Statistic, TensorData.From(one.Value), one.Indexes is null ? null : TensorData.From(one.Indexes)))];
    }

    /// <summary>The hook's id.</summary>
    public string Hook { get; }

    /// <summary>Path of the submodule, as it was called.</summary>
    public string Path { get; }

    /// <summary>The site.</summary>
    public HookSite Site { get; }

    /// <summary>Which tensor of the site.</summary>
    public int TensorIndex { get; }

    /// <summary>The parameter's name or the state-dict key; else empty.</summary>
    public string Name { get; }

    /// <summary>The visit of this hook to this submodule, counted from 0.</summary>
    public long Call { get; }

    /// <summary>The copy; <see cref="TensorData.None"/> where figures were taken instead.</summary>
    public TensorData Tensor { get; }

    /// <summary>The figures, in the order asked for.</summary>
    public IReadOnlyList<HookFigure> Figures { get; }

    /// <summary>A figure over all elements.</summary>
    /// <param name="statistic">Which.</param>
    /// <exception cref="InvalidOperationException">It was not taken, or is no single number.</exception>
    public double Figure(Statistic statistic)
    {
        var value = Figures.FirstOrDefault(figure => figure.Statistic == statistic)?.Value
            ?? throw new InvalidOperationException($"{statistic} was not taken: there are {string.Join(", ", Figures.Select(figure => figure.Statistic))}.");
        return value.Length == 1
            ? Number(value)
            : throw new InvalidOperationException($"{statistic} is {value}, not one number: read it from Figures.");
    }

    private static double Number(TensorData value) => value.DType switch
    {
        DataType.Float64 => value.As<double>().Span[0],
        DataType.Float32 => value.As<float>().Span[0],
        DataType.Float16 => (double)value.As<Half>().Span[0],
        DataType.Bfloat16 => (float)value.As<BFloat16>().Span[0],
        DataType.Int64 => value.As<long>().Span[0],
        DataType.Int32 => value.As<int>().Span[0],
        DataType.Int16 => value.As<short>().Span[0],
        DataType.Int8 => value.As<sbyte>().Span[0],
        DataType.Uint8 => value.As<byte>().Span[0],
        _ => throw new InvalidOperationException($"{value} is no number."),
    };
}

/// <summary>What the hooks of one call have to say.</summary>
public sealed class HookResults
{
    private HookResults(HookReport report)
    {
        Captures = [.. report.Captures.Select(capture => new HookObservation(capture))];
        Detached = report.Detached;
        StoppedBy = report.StoppedBy;
    }

    /// <summary>Nothing.</summary>
    public static HookResults Empty { get; } = new(new HookReport());

    /// <summary>What was captured, in the order it happened.</summary>
    public IReadOnlyList<HookObservation> Captures { get; }

    /// <summary>Registered hooks that the call detached because they failed. Where they would not fit the answer, the last entry says how many more there are.</summary>
    public IReadOnlyList<HookFailure> Detached { get; }

    /// <summary>Id of the hook that stopped the call; empty where none did.</summary>
    public string StoppedBy { get; }

    /// <summary>The one tensor that a hook captured.</summary>
    /// <param name="hook">The hook's id; one of a call without an id has its index, "0", "1", ….</param>
    /// <exception cref="KeyNotFoundException">It captured none.</exception>
    /// <exception cref="InvalidOperationException">It captured several: see <see cref="Captures"/>.</exception>
    public TensorData this[string hook]
    {
        get
        {
            var mine = Captures.Where(capture => capture.Hook == hook && !capture.Tensor.IsNone).ToList();
            return mine.Count switch
            {
                1 => mine[0].Tensor,
                0 => throw new KeyNotFoundException(
                    $"The hook '{hook}' captured no tensor for this answer; there are captures of {(Captures.Count == 0 ? "none" : string.Join(", ", Captures.Select(capture => capture.Hook).Distinct()))}."),
                _ => throw new InvalidOperationException($"The hook '{hook}' captured {mine.Count} tensors: read them from Captures."),
            };
        }
    }

    internal static HookResults From(HookReport? report) => report is null ? Empty : new(report);
}

/// <summary>One event of a watch.</summary>
/// <param name="Capture">What was captured; null where nothing was.</param>
/// <param name="Detached">A hook that was detached because it failed; null where none was.</param>
/// <param name="Dropped">Captures lost since the event before, because this reader was too slow.</param>
public sealed record HookEvent(HookObservation? Capture, HookFailure? Detached, long Dropped);
