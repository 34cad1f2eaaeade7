namespace Sconce.Benchmarks.Harness;

/// <summary>The middle of many blocks, and how far they lie apart.</summary>
/// <param name="Median">Half of the blocks lie above.</param>
/// <param name="Low">First quartile.</param>
/// <param name="High">Third quartile.</param>
internal readonly record struct Spread(double Median, double Low, double High)
{
    /// <summary>Sums up one figure per block.</summary>
    public static Spread Of(IEnumerable<double> values)
    {
        var sorted = values.Order().ToArray();
        return new Spread(Quantile(sorted, 0.50), Quantile(sorted, 0.25), Quantile(sorted, 0.75));
    }

    /// <summary>The same figure in another unit.</summary>
    public Spread Times(double factor) => new(Median * factor, Low * factor, High * factor);

    private static double Quantile(double[] sorted, double q)
    {
        var at = q * (sorted.Length - 1);
        var below = (int)at;
        var above = Math.Min(below + 1, sorted.Length - 1);
        return sorted[below] + ((sorted[above] - sorted[below]) * (at - below));
    }
}
