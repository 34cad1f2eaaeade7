using Sconce.Benchmarks.Harness;
using Sconce.Benchmarks.Report;

namespace Sconce.Benchmarks.Scenarios;

/// <summary>The three figures of a kind of call.</summary>
internal static class Rows
{
    /// <summary>Names of the rows that <see cref="Of"/> makes.</summary>
    public static string[] Names(string call, int outstanding) => [$"{call}_p50_c{outstanding}", $"{call}_p99_c{outstanding}", $"{call}_rps_c{outstanding}"];

    /// <summary>p50, p99 and calls per second of one side.</summary>
    public static Row[] Of(Comparison comparison, string side, string call, int outstanding)
    {
        var names = Names(call, outstanding);
        return
        [
            Row.Of(names[0], comparison.Of(side, block => block.P50), "us"),
            Row.Of(names[1], comparison.Of(side, block => block.P99), "us"),
            Row.Of(names[2], comparison.Of(side, block => block.Rate), "1/s"),
        ];
    }
}
