namespace Sconce.Engine.Tests.Snapshots;

/// <summary>The order in which a save touches the disk, and what each failure of it gets.</summary>
public class FaultTests
{
    private const int Eio = 5;
    private const int Enospc = 28;
    private const int Emfile = 24;

    [Fact]
    public void Everything_is_flushed_before_the_name_that_makes_it_a_snapshot_and_that_before_it_is_acknowledged()
    {
        var (ledger, disk) = (new SnapshotLedger(), new FaultDisk());
        using var store = SnapshotLedger.Open(disk);
        var old = ledger.Save(store, "m").Id;
        disk.Operations.Clear();
        var id = ledger.Save(store, "m", keepLast: 1).Id;
        disk.Operations.Add("acknowledged");
        Assert.Equal(
            [
                "mkdir tmp",
                "create tmp/module.json", "write tmp/module.json", "flush tmp/module.json",
                "create tmp/model.safetensors", "write tmp/model.safetensors", "flush tmp/model.safetensors",
                "create tmp/manifest.json", "write tmp/manifest.json", "flush tmp/manifest.json",
                "flushdir tmp",
                "rename tmp new",
                "flushdir .",
                "rename old del",
                "flushdir .",
                "delete del/module.json", "delete del/model.safetensors", "delete del/manifest.json",
                "rmdir del",
                "acknowledged",
            ],
            disk.Operations.Select(operation => operation.Replace($"{SnapshotLedger.Root}/", "", StringComparison.Ordinal).Replace(SnapshotLedger.Root, ".", StringComparison.Ordinal)
                .Replace($"tmp-{id}", "tmp", StringComparison.Ordinal).Replace($"del-{old}", "del", StringComparison.Ordinal)
                .Replace(id, "new", StringComparison.Ordinal).Replace(old, "old", StringComparison.Ordinal)));
    }

    [Theory]
    [InlineData(Eio, "SNAPSHOT_WRITE_FAILED")]
    [InlineData(Enospc, "DISK_FULL")]
    public void Any_operation_of_a_save_that_fails_once_leaves_no_snapshot_no_stray_and_what_was_there(int error, string reason)
    {
        var failures = 0;
        for (var at = 0; ; at++)
        {
            var (ledger, disk) = (new SnapshotLedger(), new FaultDisk { ErrorNumber = error });
            using var store = SnapshotLedger.Open(disk);
            ledger.Save(store, "m");
            var (fail, saved) = (disk.Operations.Count + at, false);
            disk.Inject = (index, _) => index == fail ? at % 2 == 0 ? Fault.WriteHalf : Fault.Fail : null;
            try
            {
                ledger.Save(store, "m");
                saved = true;
            }
            catch (EngineException exception)
            {
                failures++;
                Assert.Equal(reason, exception.Reason);
                Assert.Contains(SnapshotLedger.Root, exception.Message, StringComparison.Ordinal);
            }

            ledger.Check(disk, store);
            Assert.Equal(saved ? 2 : 1, store.List().Count);
            foreach (var image in disk.AfterPowerCut(new Random(at), 16))
            {
                ledger.Check(image);
            }

            // The next one is made anew.
            disk.Inject = (_, _) => null;
            ledger.Save(store, "m");
            ledger.Check(disk, store);
            if (saved)
            {
                break;
            }
        }

        Assert.Equal(13, failures);
    }

    [Theory]
    [InlineData("save")]
    [InlineData("save that prunes")]
    [InlineData("delete")]
    [InlineData("quarantine")]
    public void A_disk_that_fails_for_good_at_any_operation_is_told_and_costs_nothing_acknowledged(string name)
    {
        for (var at = 0; ; at++)
        {
            var (ledger, disk) = (new SnapshotLedger(), new FaultDisk());
            var store = SnapshotLedger.Open(disk);
            ledger.Save(store, "m");
            ledger.Save(store, "m");
            var (fail, ended) = (disk.Operations.Count + at, false);
            disk.Inject = (index, _) => index >= fail ? Fault.Fail : null;
            try
            {
                var oldest = store.List()[0].Id;
                _ = name switch
                {
                    "save" => Do(() => ledger.Save(store, "m")),
                    "save that prunes" => Do(() => ledger.Save(store, "m", keepLast: 1)),
                    "delete" => Do(() => ledger.Delete(store, oldest)),
                    _ => Do(() => ledger.Quarantine(store, oldest)),
                };
                ended = disk.Operations.Count <= fail;
            }
            catch (EngineException exception)
            {
                Assert.Contains(exception.Reason, new[] { "SNAPSHOT_WRITE_FAILED", "DELETION_NOT_DURABLE" });
            }

            foreach (var image in disk.AfterPowerCut(new Random(at), 16).Append(disk.AfterKill()))
            {
                // What failed to be pruned may still be there.
                ledger.CheckAfterFailure(image);
            }

            if (ended)
            {
                break;
            }
        }

        static bool Do(Action act)
        {
            act();
            return true;
        }
    }

    [Fact]
    public void A_failure_that_a_writer_swallows_fails_the_save_all_the_same()
    {
        var (ledger, disk) = (new SnapshotLedger(), new FaultDisk { ErrorNumber = Enospc });
        using var store = SnapshotLedger.Open(disk);
        disk.Inject = (_, operation) => operation.StartsWith("write", StringComparison.Ordinal) ? Fault.WriteHalf : null;
        var exception = Assert.Throws<EngineException>(() => store.Save("m", [new("a", stream =>
        {
            try
            {
                stream.Write(new byte[2 << 20]);
            }
            catch (IOException)
            {
                // As a careless writer would.
            }
        })], new(1, 1, "request"), 1));
        Assert.Equal((EngineError.ResourceExhausted, "DISK_FULL"), (exception.Error, exception.Reason));
        ledger.Check(disk, store);
    }

    [Fact]
    public void A_writer_that_throws_leaves_nothing_and_its_exception_is_the_one_that_is_seen()
    {
        var (ledger, disk) = (new SnapshotLedger(), new FaultDisk());
        using var store = SnapshotLedger.Open(disk);
        Assert.Throws<TimeZoneNotFoundException>(() => store.Save("m", [.. SnapshotLedger.Parts(1), new("z", _ => throw new TimeZoneNotFoundException())], new(1, 1, "request"), 1));
        using var source = new CancellationTokenSource();
        Assert.ThrowsAny<OperationCanceledException>(() => store.Save("m", [.. SnapshotLedger.Parts(1), new("z", _ => source.Cancel())], new(1, 1, "request"), 1, source.Token));
        ledger.Check(disk, store);
        Assert.Empty(store.List());
    }

    [Fact]
    public void What_cannot_be_opened_now_is_not_taken_for_damaged()
    {
        var (ledger, disk) = (new SnapshotLedger(), new FaultDisk());
        using var store = SnapshotLedger.Open(disk);
        ledger.Save(store, "m");
        var id = ledger.Save(store, "m").Id;
        disk.InjectRead = path => path.Contains(id, StringComparison.Ordinal) ? Emfile : 0;
        Assert.Equal("SNAPSHOT_UNREADABLE", Assert.Throws<EngineException>(() => store.LatestGood("m")).Reason);
        disk.InjectRead = _ => 0;
        ledger.LatestGood(store, "m", id);
        Assert.Empty(store.Quarantined);
    }

    [Fact]
    public void What_the_device_cannot_read_is_damaged_and_the_one_before_it_is_used()
    {
        var (ledger, disk) = (new SnapshotLedger(), new FaultDisk());
        using var store = SnapshotLedger.Open(disk);
        var before = ledger.Save(store, "m").Id;
        var id = ledger.Save(store, "m").Id;
        disk.InjectRead = path => path.Contains($"{id}/model", StringComparison.Ordinal) ? Eio : 0;
        using var content = store.LatestGood("m");
        Assert.Equal(before, content!.Info.Id);
        Assert.Equal((id, "m"), (store.Quarantined.Single().Id, store.Quarantined.Single().Module));
        Assert.True(disk.Exists($"{SnapshotLedger.Root}/quarantine/{id}"));
    }

    [Fact]
    public void A_damaged_one_that_cannot_be_moved_is_still_not_used()
    {
        var (ledger, disk) = (new SnapshotLedger(), new FaultDisk());
        using var store = SnapshotLedger.Open(disk);
        var before = ledger.Save(store, "m").Id;
        var id = ledger.Save(store, "m").Id;
        ledger.Damage(disk, id);
        disk.Inject = (_, _) => Fault.Fail;
        using var content = store.LatestGood("m");
        Assert.Equal(before, content!.Info.Id);
        Assert.Equal([before], store.List().Select(snapshot => snapshot.Id));
    }

    [Fact]
    public void A_full_disk_lets_the_store_open_and_make_room()
    {
        var (ledger, disk) = (new SnapshotLedger(), new FaultDisk { ErrorNumber = Enospc });
        string id;
        using (var store = SnapshotLedger.Open(disk))
        {
            id = ledger.Save(store, "m").Id;
        }

        disk.Inject = (_, operation) => operation.StartsWith("mkdir", StringComparison.Ordinal) ? Fault.Fail : null;
        using var full = SnapshotLedger.Open(disk);
        Assert.Equal("DISK_FULL", Assert.Throws<EngineException>(() => ledger.Save(full, "m")).Reason);
        ledger.Delete(full, id);
        Assert.Empty(full.List());
    }

    [Fact]
    public void A_directory_that_cannot_be_written_is_named()
    {
        var disk = new FaultDisk { ErrorNumber = 30 };
        SnapshotLedger.Open(disk).Dispose();
        disk.Inject = (_, operation) => operation.StartsWith("mkdir", StringComparison.Ordinal) ? Fault.Fail : null;
        var exception = Assert.Throws<EngineException>(() => SnapshotLedger.Open(disk));
        Assert.Equal("DATA_DIRECTORY_UNUSABLE", exception.Reason);
        Assert.Contains(SnapshotLedger.Root, exception.Message, StringComparison.Ordinal);

        // The lock is given back.
        disk.Inject = (_, _) => null;
        SnapshotLedger.Open(disk).Dispose();
    }
}
