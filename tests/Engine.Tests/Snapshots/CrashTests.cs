using Sconce.Engine.Snapshots;

namespace Sconce.Engine.Tests.Snapshots;

/// <summary>The power is cut, or the process killed, before every single operation; what may then be on the disk is opened and judged.</summary>
public class CrashTests
{
    private const int Sample = 96;

    private static readonly Dictionary<string, (Action<SnapshotLedger, SnapshotStore, FaultDisk> Before, Action<SnapshotLedger, SnapshotStore> Act)> Scenarios = new()
    {
        ["first save"] = ((_, _, _) => { }, (ledger, store) => ledger.Save(store, "m")),
        ["save"] = (Two, (ledger, store) => ledger.Save(store, "m")),
        ["two saves"] = (Two, (ledger, store) =>
        {
            ledger.Save(store, "m");
            ledger.Save(store, "n");
        }
        ),
        ["save that prunes"] = (Two, (ledger, store) => ledger.Save(store, "m", keepLast: 1)),
        ["delete"] = (Two, (ledger, store) => ledger.Delete(store, store.List("m")[0].Id)),
        ["delete the last"] = ((ledger, store, _) => ledger.Save(store, "m"), (ledger, store) => ledger.Delete(store, store.List("m")[0].Id)),
        ["quarantine"] = (Two, (ledger, store) => ledger.Quarantine(store, store.List("m")[1].Id)),
        ["latest good below a damaged one"] = (
            (ledger, store, disk) =>
            {
                Two(ledger, store, disk);
                ledger.Damage(disk, store.List("m")[1].Id);
            },
            (ledger, store) => ledger.LatestGood(store, "m", store.List("m")[0].Id)),
    };

    public static TheoryData<string> Names => [.. Scenarios.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public void A_power_cut_at_any_operation_loses_nothing_acknowledged_and_shows_nothing_torn(string name)
    {
        var images = 0;
        ForEachCrash(name, (ledger, disk, at) =>
        {
            foreach (var image in disk.AfterPowerCut(new Random(at), Sample))
            {
                images++;
                ledger.Check(image);
            }
        });
        Assert.True(images > 3, $"{images}");
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void A_kill_at_any_operation_and_then_a_power_cut_at_any_operation_of_the_start_after_it(string name)
    {
        ForEachCrash(name, (ledger, disk, at) =>
        {
            // What was listed after the kill may have been used: it is there after the power cut too.
            var killed = disk.AfterKill();
            var listed = ledger.Check(killed);
            var operations = killed.Operations.Count;
            for (var cut = 0; cut <= operations; cut++)
            {
                var starting = disk.AfterKill();
                var hasStarted = CutAt(starting, cut, () => SnapshotLedger.Open(starting));
                Assert.Equal(cut == operations, hasStarted);
                foreach (var image in starting.AfterPowerCut(new Random(at * 100 + cut), Sample / 4))
                {
                    var found = ledger.Check(image);
                    if (hasStarted)
                    {
                        Assert.Equal(listed.Order(), found.Order());
                    }
                }
            }
        });
    }

    [Fact]
    public void A_power_cut_while_the_store_is_made_leaves_what_the_next_start_uses()
    {
        for (var at = 0; ; at++)
        {
            var disk = new FaultDisk();
            var hasStarted = CutAt(disk, at, () => SnapshotLedger.Open(disk).Dispose());
            foreach (var image in disk.AfterPowerCut(new Random(at), Sample))
            {
                var ledger = new SnapshotLedger();
                ledger.Check(image);
                using var store = SnapshotLedger.Open(image);
                ledger.Save(store, "m");
                ledger.Check(image, store);
            }

            if (hasStarted)
            {
                break;
            }
        }
    }

    /// <summary>The matrix is worth what the model is worth: a store that forgets one flush must not pass it.</summary>
    [Theory]
    [InlineData("flush ", "save")]
    [InlineData("flushdir /data/snapshots/tmp-", "save")]
    [InlineData("flushdir /data/snapshots", "save")]
    [InlineData("flushdir /data/snapshots", "delete")]
    [InlineData("flushdir /data/snapshots", "save that prunes")]
    [InlineData("flushdir /data/snapshots", "quarantine")]
    public void A_store_that_forgot_a_flush_would_be_caught(string forgotten, string name)
    {
        var (before, act) = Scenarios[name];
        Assert.ThrowsAny<Xunit.Sdk.XunitException>(() =>
        {
            for (var at = 0; ; at++)
            {
                var (ledger, disk) = (new SnapshotLedger(), new FaultDisk());
                var store = SnapshotLedger.Open(disk);
                before(ledger, store, disk);
                var hasEnded = CutAt(disk, disk.Operations.Count + at, () => act(ledger, SnapshotLedger.Reopen(store, new ForgetfulDisk(disk, forgotten))));
                foreach (var image in disk.AfterPowerCut(new Random(at), Sample))
                {
                    ledger.Check(image);
                }

                if (hasEnded)
                {
                    break;
                }
            }
        });
    }

    private static void Two(SnapshotLedger ledger, SnapshotStore store, FaultDisk disk)
    {
        ledger.Save(store, "m");
        ledger.Save(store, "m");
    }

    private static void ForEachCrash(string name, Action<SnapshotLedger, FaultDisk, int> check)
    {
        var (before, act) = Scenarios[name];
        for (var at = 0; ; at++)
        {
            var (ledger, disk) = (new SnapshotLedger(), new FaultDisk());
            var store = SnapshotLedger.Open(disk);
            before(ledger, store, disk);
            var hasEnded = CutAt(disk, disk.Operations.Count + at, () => act(ledger, store));
            check(ledger, disk, at);
            if (hasEnded)
            {
                Assert.True(at > 4, $"{at} operations");
                break;
            }
        }
    }

    /// <summary>Whether it ended before the power was cut.</summary>
    private static bool CutAt(FaultDisk disk, int operation, Action act)
    {
        disk.Inject = (index, _) => index >= operation ? Fault.PowerCut : null;
        try
        {
            act();
            return true;
        }
        catch (PowerCutException)
        {
            return false;
        }
    }
}
