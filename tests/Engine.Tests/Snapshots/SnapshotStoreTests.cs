using System.Security.Cryptography;
using Microsoft.Extensions.Logging.Abstractions;
using Sconce.Engine.Snapshots;
using Sconce.Engine.Storage;

namespace Sconce.Engine.Tests.Snapshots;

/// <summary>The store on the system's disk.</summary>
public sealed class SnapshotStoreTests : IDisposable
{
    private static readonly SnapshotFacts Facts = new(7, 42, "request");

    private readonly StoreChild.Scratch _scratch = new(inMemory: true);

    public void Dispose() => _scratch.Dispose();

    [Fact]
    public void What_was_saved_is_there_with_all_that_was_said_of_it_also_after_the_store_is_opened_again()
    {
        var name = "no\npath/../\u2028\"name\" ünïcode";
        SnapshotInfo info;
        using (var store = Open())
        {
            info = store.Save(name, SnapshotLedger.Parts(42), Facts, 1);
            Assert.Equal((name, 1, Facts, 64), (info.Module, info.Sequence, info.Facts, info.Digest.Length));
            Assert.Equal(SnapshotLedger.Parts(42).Sum(part => SnapshotLedger.Bytes(part).Length), info.Bytes);
            Assert.Equal(info, store.Get(info.Id));
        }

        using var again = Open();
        var read = again.Get(info.Id);
        Assert.Equal(info with { Parts = [] }, read with { Parts = [] });
        Assert.Equal(info.Parts, read.Parts);
        Assert.Equal([name], again.Modules());
        using var content = again.OpenRead(info.Id);
        SnapshotLedger.AssertContent(content);
        Assert.Throws<KeyNotFoundException>(() => content.Open("other"));
        Assert.Throws<EngineException>(() => again.Get("snap-000000000000000000000000"));
    }

    [Fact]
    public void Only_the_servers_user_may_read_it()
    {
        using var store = Open("a/b");
        store.Save("m", SnapshotLedger.Parts(1), Facts, 1);
        foreach (var path in Directory.EnumerateFileSystemEntries(_scratch.Path, "*", SearchOption.AllDirectories))
        {
            var own = UnixFileMode.UserRead | UnixFileMode.UserWrite | (Directory.Exists(path) ? UnixFileMode.UserExecute : 0);
            Assert.Equal(own, new FileInfo(path).UnixFileMode);
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData((1 << 20) - 1)]
    [InlineData(1 << 20)]
    [InlineData((4 << 20) - 1)]
    [InlineData(4 << 20)]
    [InlineData((4 << 20) + 1)]
    [InlineData(8 << 20)]
    [InlineData((41 << 20) + 12345)]
    [InlineData(1, true)]
    [InlineData((4 << 20) + 1, true)]
    [InlineData((41 << 20) + 12345, true)]
    public void Pieces_of_any_length_are_written_in_order(int length, bool mayLast = false)
    {
        var bytes = GC.AllocateUninitializedArray<byte>(length, pinned: true);
        new Random(length).NextBytes(bytes);
        using var store = Open();
        var info = store.Save("m", [new("part", stream =>
        {
            var random = new Random(length + 1);
            for (var at = 0; at < length;)
            {
                var count = Math.Min(length - at, random.Next(4) switch { 0 => 1, 1 => random.Next(5000), 2 => random.Next(1 << 20), _ => random.Next(1 << 24) });
                if (mayLast && random.Next(2) == 0)
                {
                    ((WriteOnlyStream)stream).WriteLasting(bytes.AsSpan(at, count));
                }
                else
                {
                    stream.Write(bytes, at, count);
                }

                at += count;
            }

            Assert.Equal(length, stream.Position);
        })], Facts, 1);
        var digests = bytes.Chunk(4 << 20).Select(SHA256.HashData).ToList();
        var digest = digests.Count < 2 ? SHA256.HashData(bytes) : SHA256.HashData([.. digests.SelectMany(one => one)]);
        Assert.Equal(Convert.ToHexStringLower(digest), info.Parts[0].Sha256);
        using var content = store.OpenRead(info.Id);
        using var stream = content.Open("part");
        var read = new byte[length];
        stream.ReadExactly(read);
        Assert.Equal(0, stream.Read(new byte[9]));
        Assert.True(bytes.AsSpan().SequenceEqual(read));
        stream.Seek(-Math.Min(length, 10), SeekOrigin.End);
        stream.ReadExactly(read, 0, Math.Min(length, 10));
        Assert.True(bytes.AsSpan(Math.Max(0, length - 10)).SequenceEqual(read.AsSpan(0, Math.Min(length, 10))));
    }

    [Fact]
    public void The_last_are_kept_of_each_module_and_sequences_go_on()
    {
        using (var store = Open())
        {
            var ids = Enumerable.Range(0, 5).Select(_ => store.Save("m", SnapshotLedger.Parts(1), Facts, 2).Id).ToList();
            store.Save("n", SnapshotLedger.Parts(1), Facts, 2);
            Assert.Equal(ids[3..], store.List("m").Select(snapshot => snapshot.Id));
            Assert.Equal(["m", "n"], store.Modules());
            store.Delete(ids[3]);
            Assert.Throws<EngineException>(() => store.Delete(ids[3]));
            Assert.Throws<EngineException>(() => store.OpenRead(ids[3]));
            Assert.Equal("INVALID_ARGUMENT", Assert.Throws<EngineException>(() => store.Save("m", SnapshotLedger.Parts(1), Facts, 0)).Reason);
        }

        using var again = Open();
        Assert.Equal(6, again.Save("m", SnapshotLedger.Parts(1), Facts, 2).Sequence);
        Assert.Equal(2, again.DeleteAll("m"));
        Assert.Equal(["n"], again.Modules());
        Assert.Null(again.LatestGood("m"));
    }

    [Theory]
    [InlineData("")]
    [InlineData(".")]
    [InlineData("..")]
    [InlineData("../x")]
    [InlineData("a/b")]
    [InlineData("A")]
    [InlineData("manifest.json")]
    [InlineData("a\n")]
    public void A_part_whose_name_will_not_do_for_a_file_is_refused(string name)
    {
        using var store = Open();
        Assert.Throws<ArgumentException>(() => store.Save("m", [new(name, _ => { })], Facts, 1));
        Assert.Throws<ArgumentException>(() => store.Save("m", [new("a", _ => { }), new("a", _ => { })], Facts, 1));
        Assert.Throws<ArgumentException>(() => store.Save("m", [], Facts, 1));
        SnapshotLedger.AssertClean(SystemDisk.Instance, _scratch.Path);
    }

    [Fact]
    public void A_reader_goes_on_while_its_snapshot_is_deleted()
    {
        using var store = Open();
        var info = store.Save("m", SnapshotLedger.Parts(42), Facts, 1);
        using var content = store.OpenRead(info.Id);
        store.Delete(info.Id);
        Assert.False(Directory.Exists(Path.Combine(_scratch.Path, info.Id)));
        store.Dispose();
        SnapshotLedger.AssertContent(content);
    }

    [Fact]
    public async Task Saves_of_one_module_wait_for_one_another_and_those_of_others_do_not()
    {
        using var store = Open();
        using var inside = new ManualResetEventSlim();
        using var go = new ManualResetEventSlim();
        var first = Run(() => store.Save("m", [new("a", _ =>
        {
            inside.Set();
            go.Wait();
        })], Facts, 9));
        inside.Wait();
        var second = Run(() => store.Save("m", SnapshotLedger.Parts(42), Facts, 9));
        var other = store.Save("n", SnapshotLedger.Parts(42), Facts, 9);
        using var source = new CancellationTokenSource();
        var third = Run(() => store.Save("m", SnapshotLedger.Parts(42), Facts, 9, source.Token));
        await source.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => third);
        Assert.Equal([other.Id], store.List().Select(snapshot => snapshot.Id));

        // Closing waits for what runs, and nothing begins any more.
        var closing = Run(() =>
        {
            store.Dispose();
            return 0;
        });
        go.Set();
        var saved = await Task.WhenAll(first, second);
        Assert.Equal([1, 2], saved.Select(info => info.Sequence));
        await closing;
        Assert.Throws<ObjectDisposedException>(() => store.Save("m", SnapshotLedger.Parts(42), Facts, 9));
        using var again = Open();
        Assert.Equal(3, again.List().Count);

        static Task<T> Run<T>(Func<T> act) => Task.Factory.StartNew(act, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
    }

    [Fact]
    public async Task Saves_come_in_the_order_of_their_places_whichever_thread_comes_first()
    {
        using var store = Open();
        var (first, left, last) = (store.TakePlace("m"), store.TakePlace("m"), store.TakePlace("m"));
        var later = Task.Run(() => store.Save(last, SnapshotLedger.Parts(3), Facts, 9));

        // Left before its turn: those behind it wait for the first one still.
        left.Dispose();
        Assert.False(last.Turn.IsCompleted);
        Assert.Equal(1, store.Save(first, SnapshotLedger.Parts(1), Facts, 9).Sequence);
        Assert.False(last.Turn.IsCompleted);
        first.Dispose();
        first.Dispose();
        Assert.Equal(2, (await later).Sequence);
        last.Dispose();
        Assert.Equal(3, store.Save("m", SnapshotLedger.Parts(1), Facts, 9).Sequence);
    }

    [Fact]
    public void Many_threads_save_delete_and_read_at_once()
    {
        using var store = Open();
        Parallel.For(0, 8, new ParallelOptions { MaxDegreeOfParallelism = 8 }, thread =>
        {
            for (var i = 1; i < 12; i++)
            {
                store.Save($"m{thread % 3}", SnapshotLedger.Parts(i), Facts with { Step = i }, 2);
                using var content = store.LatestGood($"m{(thread + 1) % 3}");
                if (content is not null)
                {
                    SnapshotLedger.AssertContent(content);
                }

                if (i % 4 == 0)
                {
                    store.DeleteAll($"m{(thread + 2) % 3}");
                }
            }
        });
        Assert.Empty(store.Quarantined);
        Assert.All(store.List(), snapshot => store.Verify(snapshot.Id));
        SnapshotLedger.AssertClean(SystemDisk.Instance, _scratch.Path);
    }

    [Fact]
    public void A_second_process_is_told_which_directory_is_in_use()
    {
        using var child = StoreChild.Start("hold", _scratch.Path);
        Assert.Equal("open", child.StandardOutput.ReadLine());
        var exception = Assert.Throws<EngineException>(Open);
        Assert.Equal((EngineError.FailedPrecondition, "DATA_DIRECTORY_IN_USE"), (exception.Error, exception.Reason));
        Assert.Contains(_scratch.Path, exception.Message, StringComparison.Ordinal);
        Assert.Equal(0, StoreChild.Finish(child).ExitCode);
        using var store = Open();
        Assert.Equal("DATA_DIRECTORY_IN_USE", Assert.Throws<EngineException>(Open).Reason);
    }

    [Fact]
    public void What_is_not_the_stores_stays_and_what_a_killed_process_left_goes()
    {
        var stray = Path.Combine(_scratch.Path, SnapshotNames.Temporary(SnapshotNames.NewId()));
        Directory.CreateDirectory(Path.Combine(stray, "deeper"));
        File.WriteAllText(Path.Combine(stray, "deeper", "file"), "x");
        var outside = Directory.CreateDirectory(Path.Combine(_scratch.Path, "lost+found")).FullName;
        File.WriteAllText(Path.Combine(outside, "file"), "x");
        File.CreateSymbolicLink(Path.Combine(stray, "link"), outside);
        File.WriteAllText(Path.Combine(_scratch.Path, "tmp-notes"), "x");
        Open().Dispose();
        Assert.False(Directory.Exists(stray));
        Assert.True(File.Exists(Path.Combine(outside, "file")));
        Assert.True(File.Exists(Path.Combine(_scratch.Path, "tmp-notes")));
    }

    [Fact]
    public void A_quarantined_one_that_is_put_back_damaged_goes_there_again()
    {
        string id;
        using (var store = Open())
        {
            id = store.Save("m", SnapshotLedger.Parts(1), Facts, 1).Id;
            store.Quarantine(id, "first");
            Assert.Throws<EngineException>(() => store.Quarantine(id, "second"));
        }

        Assert.Equal(0, System.Diagnostics.Process.Start("cp", ["-r", Path.Combine(_scratch.Path, "quarantine", id), Path.Combine(_scratch.Path, id)]) is var copy && copy.WaitForExit(60_000) ? copy.ExitCode : -1);
        using var again = Open();
        again.Quarantine(id, "second");
        Assert.Equal([id, id + "-2", id + "-2.txt", id + ".txt"], Directory.GetFileSystemEntries(Path.Combine(_scratch.Path, "quarantine")).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        Assert.EndsWith("second\n", File.ReadAllText(Path.Combine(_scratch.Path, "quarantine", id + "-2.txt")), StringComparison.Ordinal);
    }

    [Fact]
    public void A_file_where_the_directory_should_be_is_named()
    {
        var path = Path.Combine(_scratch.Path, "file");
        File.WriteAllText(path, "x");
        var exception = Assert.Throws<EngineException>(() => Open("file"));
        Assert.Equal("DATA_DIRECTORY_UNUSABLE", exception.Reason);
        Assert.Contains(path, exception.Message, StringComparison.Ordinal);
    }

    private SnapshotStore Open() => Open(string.Empty);

    private SnapshotStore Open(string below) => SnapshotStore.Open(Path.Combine(_scratch.Path, below), TimeProvider.System, NullLogger.Instance);
}
