using Sconce.Benchmarks.Harness;
using Sconce.Benchmarks.Report;
using Sconce.Benchmarks.Sides;

namespace Sconce.Benchmarks.Scenarios;

/// <summary>The disk's part of a snapshot of 512 MiB against <c>dd</c> with fsync, both into one directory.</summary>
internal sealed class SnapshotScenario : Scenario
{
    private const double MiB = SnapshotWorkloads.Bytes >> 20;
    private const string Save = "snapshot_write_512mib";
    private const string Dd = "dd_write_512mib";

    public override string Title => "A snapshot of 512 MiB";

    public override IReadOnlyList<string> RowNames => ["snapshot_write_over_dd_fsync", Save, Dd];

    public override async Task<IReadOnlyList<Row>> RunAsync(Bench bench, Pace pace, Action<double> progress)
    {
        var comparison = await Comparison.RunAsync(
            [bench.Bare.Local(Dd, LocalWorkload.DdFsync, 1), bench.Bare.Local(Save, LocalWorkload.SaveSnapshot, 1)], pace.Rounds, pace.Block, pace.Block, progress);
        return
        [
            Row.Of("snapshot_write_over_dd_fsync", comparison.Ratio(Save, Dd, Speed), "ratio", new Target(0.8, AtMost: false)) with
            {
                Note = "speed of writing 128 float32 tensors as a snapshot until it is durable, SHA-256, rename and every fsync included, over that of dd if=/dev/zero bs=4M conv=fsync of as many bytes into the same directory (under TMPDIR).",
            },
            Row.Of(Save, comparison.Of(Save, Speed), "MiB/s"),
            Row.Of(Dd, comparison.Of(Dd, Speed), "MiB/s"),
        ];

        static double Speed(BlockResult block) => MiB / (block.P50 * 1e-6);
    }
}
