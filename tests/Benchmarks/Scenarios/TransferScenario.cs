using Sconce.Benchmarks.Harness;
using Sconce.Benchmarks.Report;
using Sconce.Benchmarks.Sides;

namespace Sconce.Benchmarks.Scenarios;

/// <summary>64 MiB up (PutTensor) and down (GetTensor) against the bare side moving as many bytes.</summary>
internal sealed class TransferScenario : Scenario
{
    private const int Bytes = 64 << 20;
    private const double MiB = Bytes >> 20;

    public override string Title => "64 MiB up and down";

    public override IReadOnlyList<string> RowNames =>
        ["up_64mib", "down_64mib", "bare_up_64mib", "bare_down_64mib", "up_64mib_over_bare", "down_64mib_over_bare"];

    public override async Task<IReadOnlyList<Row>> RunAsync(Bench bench, Pace pace, Action<double> progress)
    {
        const int Small = 64;
        var comparison = await Comparison.RunAsync(
            [
                Side.Calls("bare_up_64mib", bench.Bare.Exchange(Bytes, Small), 1),
                Side.Calls("up_64mib", bench.Sconce.Put(Bytes), 1),
                Side.Calls("bare_down_64mib", bench.Bare.Exchange(Small, Bytes), 1),
                Side.Calls("down_64mib", await bench.Sconce.GetAsync(Bytes), 1),
            ],
            pace.Shorter.Rounds, pace.Block, pace.Block, progress);
        return
        [
            Row.Of("up_64mib_over_bare", comparison.Ratio("up_64mib", "bare_up_64mib", block => block.P50), "ratio"),
            Row.Of("down_64mib_over_bare", comparison.Ratio("down_64mib", "bare_down_64mib", block => block.P50), "ratio"),
            .. from side in new[] { "bare_up_64mib", "up_64mib", "bare_down_64mib", "down_64mib" }
               select Row.Of(side, comparison.Of(side, block => MiB / (block.P50 * 1e-6)), "MiB/s"),
        ];
    }
}
