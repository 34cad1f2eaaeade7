using Sconce.Benchmarks.Harness;
using Sconce.Benchmarks.Report;
using Sconce.Benchmarks.Sides;

namespace Sconce.Benchmarks.Scenarios;

/// <summary>A safetensors file of 512 MiB, loaded in the server's process, against a plain read of as many bytes.</summary>
internal sealed class FileScenario : Scenario
{
    private const double MiB = FileWorkloads.Bytes >> 20;
    private const string Load = "safetensors_load_512mib";
    private const string Read = "pagecache_read_512mib";

    public override string Title => "A file of 512 MiB";

    public override IReadOnlyList<string> RowNames => ["safetensors_load_over_pagecache_read", Load, Read];

    public override async Task<IReadOnlyList<Row>> RunAsync(Bench bench, Pace pace, Action<double> progress)
    {
        var comparison = await Comparison.RunAsync(
            [bench.Bare.Local(Read, LocalWorkload.ReadFile, 1), bench.Bare.Local(Load, LocalWorkload.LoadSafetensors, 1)], pace.Rounds, pace.Block, pace.Block, progress);
        return
        [
            Row.Of("safetensors_load_over_pagecache_read", comparison.Ratio(Load, Read, Speed), "ratio", new Target(0.6, AtMost: false)) with
            {
                Note = "speed of opening, checking and reading a file of 128 float32 tensors into tensors of their own, over that of plain reads of as many bytes into as many pieces of memory; the memory is new to both, and the system has the file in memory.",
            },
            Row.Of(Load, comparison.Of(Load, Speed), "MiB/s"),
            Row.Of(Read, comparison.Of(Read, Speed), "MiB/s"),
        ];

        static double Speed(BlockResult block) => MiB / (block.P50 * 1e-6);
    }
}
