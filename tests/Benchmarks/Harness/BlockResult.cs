namespace Sconce.Benchmarks.Harness;

/// <summary>What one block of calls measured.</summary>
/// <param name="P50">Median time of a call, in microseconds.</param>
/// <param name="P99">99th percentile of the time of a call, in microseconds.</param>
/// <param name="Rate">Calls per second over the whole block.</param>
/// <param name="Calls">Calls made.</param>
internal readonly record struct BlockResult(double P50, double P99, double Rate, int Calls)
{
    /// <summary>Wall time of the block divided by its calls, in microseconds: what a pipeline costs per call.</summary>
    public double MeanTime => 1e6 / Rate;
}
