using System.Globalization;
using Microsoft.Extensions.Logging.Abstractions;
using Sconce.Engine.Snapshots;
using Sconce.Engine.Storage;

namespace Sconce.Engine.Tests.Snapshots;

/// <summary>Failures of the real system: a full file system, and system calls that fail.</summary>
public class RealFailureTests
{
    private const int Files = 3;

    [Fact]
    public void A_full_file_system_gets_a_clear_error_leaves_no_stray_and_small_snapshots_still_fit()
    {
        // In a name space of its own: no rights are needed, and nothing is left mounted whatever happens.
        if (!StoreChild.Can("unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"))
        {
            Assert.Skip("SKIPPED: this system lets no test mount a tmpfs (unshare -rm), so a full disk was only simulated");
        }

        using var scratch = new StoreChild.Scratch();
        const string Script = """
            mount -t tmpfs -o size=1m none "$1" || exit 90
            dotnet "$2" once "$1" 600000 || exit 91
            find "$1" -name 'tmp-*' -o -name 'del-*'
            dotnet "$2" once "$1" 20000
            """;
        using var process = StoreChild.Run("unshare", ["-rm", "sh", "-c", Script, "sh", scratch.Path, StoreChild.Program]);
        var (exitCode, lines, error) = StoreChild.Finish(process);
        Assert.True(exitCode == 0, error);
        Assert.Equal(4, lines.Length);
        Assert.StartsWith("failed ResourceExhausted DISK_FULL", lines[0], StringComparison.Ordinal);
        Assert.Contains(scratch.Path, lines[0], StringComparison.Ordinal);
        Assert.All(lines[1..], line => Assert.StartsWith("saved a snap-", line, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("fsync", "EIO", "SNAPSHOT_WRITE_FAILED")]
    [InlineData("fsync", "ENOSPC", "DISK_FULL")]
    [InlineData("pwrite64", "EIO", "SNAPSHOT_WRITE_FAILED")]
    public void A_system_call_that_fails_fails_the_save_and_the_next_one_is_made_anew(string call, string error, string reason)
    {
        if (!StoreChild.Can("strace", "-f", "-e", $"inject={call}:error={error}:when=999", "true"))
        {
            Assert.Skip("SKIPPED: strace is not here or may not trace (apt-get install strace), so failing system calls were only simulated");
        }

        using var scratch = new StoreChild.Scratch(inMemory: true);
        using (SnapshotStore.Open(scratch.Path, TimeProvider.System, NullLogger.Instance))
        {
            // The child finds it made: the calls below are those of its start and its first save.
        }

        // Opening flushes two directories; a save its files, their directory, and the store's.
        var calls = call == "fsync" ? Enumerable.Range(3, Files + 2) : Enumerable.Range(1, Files);
        var saved = 0;
        foreach (var at in calls)
        {
            using var process = StoreChild.Run(
                "strace", ["-f", "-qq", "-o", "/dev/null", "-e", $"trace={call}", "-e", $"inject={call}:error={error}:when={at}", "dotnet", StoreChild.Program, "once", scratch.Path, "10"]);
            var (exitCode, lines, errors) = StoreChild.Finish(process);
            Assert.True(exitCode == 0 && lines.Length == 2, string.Create(CultureInfo.InvariantCulture, $"{call} {at}: {exitCode} {string.Join('\n', lines)} {errors}"));
            Assert.StartsWith("failed ", lines[0], StringComparison.Ordinal);
            Assert.Contains(reason, lines[0], StringComparison.Ordinal);
            Assert.StartsWith("saved a ", lines[1], StringComparison.Ordinal);
            saved++;
            using var store = SnapshotStore.Open(scratch.Path, TimeProvider.System, NullLogger.Instance);
            SnapshotLedger.AssertClean(SystemDisk.Instance, scratch.Path);
            Assert.Equal(Math.Min(saved, 3), store.List().Count);
            Assert.Equal(lines[1]["saved a ".Length..], store.List()[^1].Id);
            Assert.All(store.List(), snapshot => store.Verify(snapshot.Id));
        }
    }
}
