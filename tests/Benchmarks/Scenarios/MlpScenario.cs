using Sconce.Benchmarks.Harness;
using Sconce.Benchmarks.Report;
using Sconce.Benchmarks.Sides;

namespace Sconce.Benchmarks.Scenarios;

/// <summary>Forward of the MLP, remote at 1, 8 and 32 outstanding and in the server's own process.</summary>
internal sealed class MlpScenario(int batch) : Scenario
{
    private static readonly int[] Outstanding = [1, 8, 32];

    private string Remote => $"mlp_b{batch}";

    private string Local => $"mlp_b{batch}_inprocess";

    public override string Title => $"MLP 784-512-512-10, batch {batch}";

    public override IReadOnlyList<string> RowNames =>
        [.. Rows.Names(Local, 1), .. Outstanding.SelectMany(outstanding => Rows.Names(Remote, outstanding))];

    public override async Task<IReadOnlyList<Row>> RunAsync(Bench bench, Pace pace, Action<double> progress)
    {
        var local = bench.Bare.Local(Local, LocalWorkload.Forward, batch);
        var sides = Outstanding.Select(outstanding => Side.Calls($"{Remote}_c{outstanding}", bench.Sconce.Forward(batch), outstanding)).Prepend(local).ToList();
        var comparison = await Comparison.RunAsync(sides, pace.Shorter.Rounds, pace.Block, pace.WarmUp / 2, progress);
        return
        [
            .. Rows.Of(comparison, Local, Local, 1),
            .. Outstanding.SelectMany(outstanding => Rows.Of(comparison, $"{Remote}_c{outstanding}", Remote, outstanding)),
        ];
    }
}
