using Sconce.Benchmarks.Harness;
using Sconce.Benchmarks.Report;
using Sconce.Benchmarks.Sides;

namespace Sconce.Benchmarks.Scenarios;

/// <summary>The managed memory that the server needs to receive a state dict of 1 GiB, which itself is in native memory: see <see cref="ManagedMemory"/>.</summary>
internal sealed class UploadMemoryScenario : Scenario
{
    private const long Bytes = 1L << 30;
    private const double Megabyte = 1e6;

    public override string Title => "Managed memory during an upload of 1 GiB";

    public override IReadOnlyList<string> RowNames => ["upload_1g_managed_mb", "upload_1g_idle_mb"];

    public override async Task<IReadOnlyList<Row>> RunAsync(Bench bench, Pace pace, Action<double> progress)
    {
        List<double> over = [], idle = [];
        await using var module = await bench.Sconce.LoadAsync((int)(Bytes / SconceSide.StateTensorBytes));
        var rounds = pace.Shorter.Rounds;
        for (var round = 0; round < rounds; round++)
        {
            var memory = await bench.Bare.MemoryDuringAsync(module.Load);
            over.Add((memory.PeakBytes - memory.IdleBytes) / Megabyte);
            idle.Add(memory.IdleBytes / Megabyte);
            progress((round + 1.0) / rounds);
        }

        return
        [
            Row.Of("upload_1g_managed_mb", Spread.Of(over), "MB", new Target(64, AtMost: true)) with
            {
                Note = "most that GC.GetTotalMemory says in the server process, asked each ms without collecting, while another process uploads 1 GiB by LoadStateDict, over what it says after a full collection before.",
            },
            Row.Of("upload_1g_idle_mb", Spread.Of(idle), "MB"),
        ];
    }
}
