using Sconce.Benchmarks.Harness;
using Sconce.Benchmarks.Report;
using Sconce.Benchmarks.Sides;

namespace Sconce.Benchmarks.Scenarios;

/// <summary>LoadStateDict of 256 MiB over TCP against a bare client stream of as many messages with as many bytes.</summary>
internal sealed class UploadScenario : Scenario
{
    private const int Chunk = 1 << 20; // the client's
    private const int MiB = 256;
    private const string Load = "load_state_dict_256mib";
    private const string Kept = "bare_kept_load_state_dict_256mib";
    private const string Bare = "bare_load_state_dict_256mib";

    public override string Title => "LoadStateDict of 256 MiB";

    public override IReadOnlyList<string> RowNames => ["load_state_dict_over_bare_stream", Load, Bare, "load_state_dict_over_kept_stream", Kept];

    public override async Task<IReadOnlyList<Row>> RunAsync(Bench bench, Pace pace, Action<double> progress)
    {
        await using var module = await bench.Sconce.LoadAsync(MiB * (1 << 20) / SconceSide.StateTensorBytes);
        var comparison = await Comparison.RunAsync(
            [Side.Calls(Bare, bench.BareStreams.Upload(MiB, Chunk), 1), Side.Calls(Load, module.Load, 1), Side.Calls(Kept, bench.BareStreams.Upload(MiB, Chunk, isKept: true), 1)],
            pace.Rounds, pace.Block, pace.WarmUp, progress);
        return
        [
            Row.Of("load_state_dict_over_bare_stream", comparison.Ratio(Load, Bare, Speed), "ratio", new Target(0.85, AtMost: false)) with
            {
                Note = "speed of a whole LoadStateDict through Sconce.Client (64 float32 tensors; received, digested on both ends, checked, swapped into the module, answered) over that of a bare "
                    + "client stream of as many 1 MiB messages with the same HTTP/2 windows and frames, which the server takes into one array each and throws away.",
            },
            Row.Of(Load, comparison.Of(Load, Speed), "MiB/s"),
            Row.Of(Bare, comparison.Of(Bare, Speed), "MiB/s"),
            Row.Of("load_state_dict_over_kept_stream", comparison.Ratio(Load, Kept, Speed), "ratio"),
            Row.Of(Kept, comparison.Of(Kept, Speed), "MiB/s"),
        ];

        static double Speed(BlockResult block) => MiB / (block.P50 * 1e-6);
    }
}
