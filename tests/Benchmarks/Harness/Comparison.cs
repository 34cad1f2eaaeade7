namespace Sconce.Benchmarks.Harness;

/// <summary>
/// Runs several sides in alternating blocks and keeps every block. A machine's speed drifts (other tenants, clocks), so each round runs
/// every side once, in rotating order, and a ratio is the median of the rounds' own ratios rather than the ratio of two medians.
/// </summary>
internal sealed class Comparison
{
    private readonly Dictionary<string, List<BlockResult>> _blocks;

    private Comparison(IEnumerable<Side> sides) => _blocks = sides.ToDictionary(side => side.Name, _ => new List<BlockResult>());

    /// <summary>Warms every side up, then runs <paramref name="rounds"/> rounds of one block each.</summary>
    public static async Task<Comparison> RunAsync(IReadOnlyList<Side> sides, int rounds, TimeSpan block, TimeSpan warmUp, Action<double> progress)
    {
        var comparison = new Comparison(sides);
        foreach (var side in sides)
        {
            await side.RunBlock(warmUp);
        }

        for (var round = 0; round < rounds; round++)
        {
            for (var i = 0; i < sides.Count; i++)
            {
                var side = sides[(i + round) % sides.Count];
                comparison._blocks[side.Name].Add(await side.RunBlock(block));
            }

            progress((round + 1.0) / rounds);
        }

        return comparison;
    }

    /// <summary>A figure of one side over its blocks.</summary>
    public Spread Of(string side, Func<BlockResult, double> figure) => Spread.Of(_blocks[side].Select(figure));

    /// <summary>The difference of a figure of two sides, taken round by round.</summary>
    public Spread Difference(string side, string less, Func<BlockResult, double> figure) =>
        Spread.Of(_blocks[side].Zip(_blocks[less], (a, b) => figure(a) - figure(b)));

    /// <summary>The ratio of a figure of two sides, taken round by round.</summary>
    public Spread Ratio(string side, string over, Func<BlockResult, double> figure) =>
        Spread.Of(_blocks[side].Zip(_blocks[over], (a, b) => figure(a) / figure(b)));
}
