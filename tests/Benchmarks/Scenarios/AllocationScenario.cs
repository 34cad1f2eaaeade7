using Sconce.Benchmarks.Harness;
using Sconce.Benchmarks.Report;
using Sconce.Benchmarks.Sides;

namespace Sconce.Benchmarks.Scenarios;

/// <summary>
/// Managed bytes that the server allocates for one small Forward, beyond what a bare call of the same size allocates.
/// How: <see cref="GC.GetTotalAllocatedBytes"/> (precise) of the server process before and after some thousand calls of one side, one
/// outstanding, divided by the calls; blocks of the two sides alternate, and the difference is taken round by round. What runs beside the
/// calls (timers, logging) is counted on both sides alike.
/// </summary>
internal sealed class AllocationScenario : Scenario
{
    private const int CallsPerBlock = 1000;

    public override string Title => "Managed allocation per call on the server";

    public override IReadOnlyList<string> RowNames => ["server_alloc_bytes_per_forward", "identity_server_alloc", "bare_server_alloc"];

    public override async Task<IReadOnlyList<Row>> RunAsync(Bench bench, Pace pace, Action<double> progress)
    {
        var (request, response) = await bench.Sconce.IdentitySizesAsync(IdentityScenario.Elements);
        var bare = bench.Bare.Exchange(request, response);
        var identity = bench.Sconce.IdentityByStub(IdentityScenario.Elements);
        List<double> bareBytes = [], identityBytes = [];
        for (var round = -1; round < pace.Rounds; round++)
        {
            var ofBare = await MeasureAsync(bench, bare);
            var ofIdentity = await MeasureAsync(bench, identity);
            if (round >= 0) // the first round warms up
            {
                bareBytes.Add(ofBare);
                identityBytes.Add(ofIdentity);
            }

            progress((round + 1.0) / pace.Rounds);
        }

        return
        [
            Row.Of("server_alloc_bytes_per_forward", Spread.Of(identityBytes.Zip(bareBytes, (a, b) => a - b)), "bytes", new Target(6144, AtMost: true)) with
            {
                Note = $"GC.GetTotalAllocatedBytes of the server process around {CallsPerBlock:N0} calls of Identity, less the same around as many bare calls.",
            },
            Row.Of("identity_server_alloc", Spread.Of(identityBytes), "bytes"),
            Row.Of("bare_server_alloc", Spread.Of(bareBytes), "bytes"),
        ];
    }

    private static async Task<double> MeasureAsync(Bench bench, Func<Task> call)
    {
        var before = await bench.Bare.StatsAsync();
        for (var i = 0; i < CallsPerBlock; i++)
        {
            await call();
        }

        var after = await bench.Bare.StatsAsync();
        return (after.AllocatedBytes - before.AllocatedBytes) / (double)CallsPerBlock;
    }
}
