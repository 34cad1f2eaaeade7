using System.Globalization;
using Microsoft.Extensions.Logging.Abstractions;
using Sconce.Engine.Snapshots;
using Sconce.Engine.Storage;

namespace Sconce.Engine.Tests.Snapshots;

/// <summary>A process that saves, prunes and deletes in two modules at once is killed (SIGKILL) at a random instant, again and again in the same directory.</summary>
public class KillTests(ITestOutputHelper output)
{
    private const int Keep = 3;

    // Two directories at a time: starting a process is most of the time, and half of that is waiting.
    private const int Lanes = 2;

    private static readonly int Kills = int.Parse(Environment.GetEnvironmentVariable("SCONCE_KILLS") ?? "100", CultureInfo.InvariantCulture);

    [Fact]
    public async Task A_kill_at_any_instant_loses_nothing_acknowledged_shows_nothing_torn_and_leaves_no_stray()
    {
        var counts = await Task.WhenAll(Enumerable.Range(0, Lanes).Select(lane => Task.Factory.StartNew(
            () => Lane(lane, (Kills + Lanes - 1 - lane) / Lanes), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default)));
        output.WriteLine($"{Kills} kills, {counts.Sum(count => count.Acknowledged):N0} saves acknowledged, {counts.Sum(count => count.Unacknowledged)} durable but not acknowledged, "
            + $"{counts.Sum(count => count.Strays)} strays removed");
        Assert.True(counts.Sum(count => count.Acknowledged) >= Kills, "hardly anything was saved");
    }

    private static Counts Lane(int lane, int kills)
    {
        using var scratch = new StoreChild.Scratch(inMemory: true);
        var counts = new Counts();
        var modules = new Dictionary<string, Expected> { ["a"] = new(), ["b"] = new() };
        for (var kill = 0; kill < kills; kill++)
        {
            var random = new Random((lane * 100_000) + kill);
            using (var child = StoreChild.Start("loop", scratch.Path, $"{random.Next(1, 1000)}"))
            {
                // Killed a random part of one save's time after a random line: at any instant, however fast or slow the machine is.
                var lines = random.Next(1, 12);
                long last = 0, took = 0;
                while (lines-- > 0 && child.StandardOutput.ReadLine() is { } line)
                {
                    Note(modules, line, counts);
                    var now = TimeProvider.System.GetTimestamp();
                    (took, last) = (last == 0 ? 1 : now - last, now);
                }

                var until = TimeProvider.System.GetTimestamp() + (long)(random.NextDouble() * 2 * Math.Min(took, TimeProvider.System.TimestampFrequency / 20));
                while (TimeProvider.System.GetTimestamp() < until)
                {
                }

                child.Kill();
                while (child.StandardOutput.ReadLine() is { } line)
                {
                    Note(modules, line, counts);
                }

                child.WaitForExit();
                Assert.True(child.ExitCode == 137, $"it ended by itself: {child.ExitCode} {child.StandardError.ReadToEnd()}");
            }

            counts.Strays += Directory.GetDirectories(scratch.Path, "tmp-*").Length + Directory.GetDirectories(scratch.Path, "del-*").Length;
            using var store = SnapshotStore.Open(scratch.Path, TimeProvider.System, NullLogger.Instance);
            Assert.Empty(store.Quarantined);
            SnapshotLedger.AssertClean(SystemDisk.Instance, scratch.Path);
            foreach (var (module, expected) in modules)
            {
                Check(store, module, expected, counts);
            }
        }

        return counts;
    }

    private static void Note(Dictionary<string, Expected> modules, string line, Counts counts)
    {
        var (what, module, id) = line.Split(' ') is [var first, var second, var third] ? (first, modules[second], third) : throw new FormatException(line);
        switch (what)
        {
            case "saved":
                counts.Acknowledged++;
                module.Acknowledged = [.. module.Acknowledged.TakeLast(Keep - 1), id];
                break;
            case "deleting":
                module.Acknowledged.Remove(id);
                module.Deleting = id;
                break;
            case "deleted":
                module.Deleted.Add(id);
                module.Deleting = null;
                break;
            default:
                throw new FormatException(line);
        }
    }

    private static void Check(SnapshotStore store, string module, Expected expected, Counts counts)
    {
        var listed = store.List(module);
        var ids = listed.Select(snapshot => snapshot.Id).ToList();
        Assert.Empty(ids.Intersect(expected.Deleted));

        // One may be durable whose acknowledgement was cut off; it counts among those that are kept. Those that must be there are the newest acknowledged ones, in their order.
        var unknown = ids.Where(id => !expected.Acknowledged.Contains(id) && id != expected.Deleting).ToList();
        Assert.True(unknown.Count <= 1, string.Join(' ', unknown));
        counts.Unacknowledged += unknown.Count;
        var newest = expected.Acknowledged.TakeLast(Keep - unknown.Count).ToList();
        Assert.Subset(ids.ToHashSet(), newest.ToHashSet());
        Assert.Equal(ids.Where(newest.Contains), newest);
        foreach (var snapshot in listed)
        {
            using var content = store.OpenRead(snapshot.Id);
            foreach (var part in snapshot.Parts)
            {
                using var stream = content.Open(part.Name);
                var bytes = new byte[stream.Length];
                stream.ReadExactly(bytes);
                Assert.False(bytes.AsSpan().ContainsAnyExcept((byte)snapshot.Facts.Step));
            }
        }

        expected.Acknowledged = ids;
        expected.Deleting = null;
    }

    private sealed class Expected
    {
        public List<string> Acknowledged { get; set; } = [];

        public HashSet<string> Deleted { get; } = [];

        public string? Deleting { get; set; }
    }

    private sealed class Counts
    {
        public int Acknowledged { get; set; }

        public int Unacknowledged { get; set; }

        public int Strays { get; set; }
    }
}
