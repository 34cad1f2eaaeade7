using System.Diagnostics;
using Microsoft.Extensions.Logging.Abstractions;
using Sconce.Benchmarks.Harness;
using Sconce.Benchmarks.Report;
using Sconce.Benchmarks.Sides;
using Sconce.Engine.Snapshots;

namespace Sconce.Benchmarks.Scenarios;

/// <summary>
/// A durable snapshot of 512 MiB, hashed while it is written, against <c>dd conv=fsync</c> of as many zeros into the same directory. In this process: only the disk and one
/// more core matter. dd's own figure is taken, which counts neither its start nor its end.
/// </summary>
internal sealed class SnapshotScenario : Scenario
{
    private const int MiB = 512;
    private const string Ratio = "snapshot_write_over_dd_fsync";
    private const string Write = "snapshot_write_512mib";
    private const string Verify = "snapshot_verify_512mib";
    private const string Dd = "dd_fsync_512mib";

    public override string Title => "A snapshot of 512 MiB";

    public override IReadOnlyList<string> RowNames => [Ratio, Write, Verify, Dd];

    public override Task<IReadOnlyList<Row>> RunAsync(Bench bench, Pace pace, Action<double> progress) => Task.Run(() => Run(pace, progress));

    private static IReadOnlyList<Row> Run(Pace pace, Action<double> progress)
    {
        // In pieces as large as those in which tensors are written, and not zeros, which a disk might not write.
        var piece = new byte[64 << 20];
        new Random(1).NextBytes(piece);
        var part = new SnapshotPart("tensors", stream =>
        {
            for (var i = 0; i < MiB / 64; i++)
            {
                stream.Write(piece);
            }
        });
        var directory = Directory.CreateTempSubdirectory("sconce-bench-").FullName;
        List<double> writes = [], verifies = [], dds = [];
        try
        {
            using var store = SnapshotStore.Open(Path.Combine(directory, "snapshots"), TimeProvider.System, NullLogger.Instance);
            for (var round = -1; round < pace.Rounds; round++)
            {
                // Whoever writes second meets what the first one left to the disk: turn by turn.
                double dd = 0, write = 0;
                string id = string.Empty;
                foreach (var isDd in round % 2 == 0 ? new[] { true, false } : [false, true])
                {
                    if (isDd)
                    {
                        dd = Speed(RunDd(Path.Combine(directory, "zeros")));
                    }
                    else
                    {
                        var began = Stopwatch.GetTimestamp();
                        id = store.Save("m", [part], new(0, 0, "bench"), 1).Id;
                        write = Speed(Stopwatch.GetElapsedTime(began).TotalSeconds);
                    }
                }

                var verifying = Stopwatch.GetTimestamp();
                store.Verify(id);
                if (round >= 0) // the first round warms up, and grows the file system where that is yet to be done
                {
                    writes.Add(write);
                    dds.Add(dd);
                    verifies.Add(Speed(Stopwatch.GetElapsedTime(verifying).TotalSeconds));
                }

                store.Delete(id);
                progress((round + 1.0) / pace.Rounds);
            }
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }

        return
        [
            Row.Of(Ratio, Spread.Of(writes.Zip(dds, (write, dd) => write / dd)), "ratio", new Target(0.8, AtMost: false)) with
            {
                Note = $"speed of saving one snapshot of {MiB} MiB, from the call to its acknowledgement, over that of dd if=/dev/zero bs=4M conv=fsync into the same directory.",
            },
            Row.Of(Write, Spread.Of(writes), "MiB/s"),
            Row.Of(Verify, Spread.Of(verifies), "MiB/s"),
            Row.Of(Dd, Spread.Of(dds), "MiB/s"),
        ];

        static double Speed(double seconds) => MiB / seconds;
    }

    // As `dd` prints it: "536870912 bytes (537 MB, 512 MiB) copied, 0.2334 s, 2.3 GB/s".
    private static double RunDd(string path)
    {
        var start = new ProcessStartInfo("dd", ["if=/dev/zero", $"of={path}", "bs=4M", $"count={MiB / 4}", "conv=fsync"]) { RedirectStandardError = true };
        start.Environment["LC_ALL"] = "C";
        using var process = Process.Start(start)!;
        var said = process.StandardError.ReadToEnd();
        process.WaitForExit();
        File.Delete(path);
        var words = said.Split(' ');
        var unit = Array.IndexOf(words, "s,");
        return process.ExitCode == 0 && unit > 0 ? double.Parse(words[unit - 1], System.Globalization.CultureInfo.InvariantCulture) : throw new IOException($"dd failed: {said}");
    }
}
