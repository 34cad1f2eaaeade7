using Sconce.Benchmarks.Harness;
using Sconce.Benchmarks.Report;
using Sconce.Benchmarks.Sides;

namespace Sconce.Benchmarks.Scenarios;

/// <summary>Forward of Identity on 3 KB against the bare echo of exactly as many bytes each way.</summary>
internal sealed class IdentityScenario(int outstanding) : Scenario
{
    /// <summary>Elements of the input: 3 KB of float32.</summary>
    public const int Elements = 768;

    private const string Bare = "bare";
    private const string Identity = "identity";
    private const string Stub = "identity_stub";
    private const string How = "Forward of Identity on 3 KB through Sconce.Client, over a bare echo of exactly as many bytes each way; the stub rows are the generated code alone.";

    public override string Title => $"Identity and bare echo, {outstanding} outstanding";

    public override IReadOnlyList<string> RowNames =>
        [.. Rows.Names(Bare, outstanding), .. Rows.Names(Identity, outstanding), .. Rows.Names(Stub, outstanding), P50Ratio, RateRatio];

    private string P50Ratio => outstanding == 1 ? "identity_p50_over_bare" : $"identity_p50_over_bare_c{outstanding}";

    private string RateRatio => $"identity_rps_over_bare_c{outstanding}";

    public override async Task<IReadOnlyList<Row>> RunAsync(Bench bench, Pace pace, Action<double> progress)
    {
        var (request, response) = await bench.Sconce.IdentitySizesAsync(Elements);
        var comparison = await Comparison.RunAsync(
            [
                Side.Calls(Bare, bench.Bare.Exchange(request, response), outstanding),
                Side.Calls(Identity, bench.Sconce.Identity(Elements), outstanding),
                Side.Calls(Stub, bench.Sconce.IdentityByStub(Elements), outstanding),
            ],
            pace.Rounds, pace.Block, pace.WarmUp, progress);
        return
        [
            Row.Of(P50Ratio, comparison.Ratio(Identity, Bare, block => block.P50), "ratio", outstanding == 1 ? new Target(1.4, AtMost: true) : null) with { Note = outstanding == 1 ? How : null },
            Row.Of(RateRatio, comparison.Ratio(Identity, Bare, block => block.Rate), "ratio", outstanding == 32 ? new Target(0.5, AtMost: false) : null) with { Note = outstanding == 32 ? How : null },
            .. Rows.Of(comparison, Bare, Bare, outstanding),
            .. Rows.Of(comparison, Identity, Identity, outstanding),
            .. Rows.Of(comparison, Stub, Stub, outstanding),
        ];
    }
}
