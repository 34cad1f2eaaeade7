using Sconce.Benchmarks.Harness;

namespace Sconce.Benchmarks.Report;

/// <summary>One row of the table: a figure, or a claim where it has a target.</summary>
/// <param name="Name">Stable name, in lower case with underscores.</param>
/// <param name="Value">Median over the blocks.</param>
/// <param name="Unit">"us", "1/s", "ratio", "bytes", "MiB/s".</param>
/// <param name="Target">What a claim must reach; null for a figure.</param>
internal sealed record Row(string Name, double Value, string Unit, Target? Target = null)
{
    /// <summary>First and third quartile over the blocks, where there were several.</summary>
    public (double Low, double High)? Quartiles { get; init; }

    /// <summary>How a claim was measured.</summary>
    public string? Note { get; init; }

    /// <summary>Whether a claim holds; null for a figure.</summary>
    public bool? Ok => Target?.Holds(Value);

    /// <summary>A row from many blocks.</summary>
    public static Row Of(string name, Spread spread, string unit, Target? target = null) =>
        new(name, spread.Median, unit, target) { Quartiles = (spread.Low, spread.High) };
}

/// <summary>What a claim must reach.</summary>
/// <param name="Value">The limit.</param>
/// <param name="AtMost">Whether the value must be at most the limit, else at least.</param>
internal sealed record Target(double Value, bool AtMost)
{
    /// <summary>The comparison as people write it.</summary>
    public string Op => AtMost ? "<=" : ">=";

    /// <summary>Whether a value reaches it.</summary>
    public bool Holds(double value) => AtMost ? value <= Value : value >= Value;
}
