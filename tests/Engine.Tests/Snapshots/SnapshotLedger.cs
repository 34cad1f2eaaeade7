using System.Text;
using Microsoft.Extensions.Logging.Abstractions;
using Sconce.Engine.Snapshots;
using Sconce.Engine.Storage;

namespace Sconce.Engine.Tests.Snapshots;

/// <summary>Uses a store and keeps count of what was acknowledged, so that what a crash leaves can be judged.</summary>
internal sealed class SnapshotLedger
{
    public const string Root = "/data/snapshots";

    /// <summary>Content of each snapshot that was or may have been saved; by its seed, which is its step.</summary>
    private readonly Dictionary<long, string> _modules = [];
    private readonly HashSet<string> _must = new(StringComparer.Ordinal);
    private readonly HashSet<string> _may = new(StringComparer.Ordinal);
    private readonly HashSet<string> _mustNot = new(StringComparer.Ordinal);
    private readonly HashSet<string> _bad = new(StringComparer.Ordinal);
    private readonly HashSet<string> _quarantining = new(StringComparer.Ordinal);
    private long _seed;
    private long? _saving;
    private List<string> _pruning = [];

    public static SnapshotStore Open(IDisk disk) => SnapshotStore.Open(Root, TimeProvider.System, NullLogger.Instance, disk);

    /// <summary>The same store on another face of its disk.</summary>
    public static SnapshotStore Reopen(SnapshotStore store, IDisk disk)
    {
        store.Dispose();
        return Open(disk);
    }

    /// <summary>Parts of a few bytes and of some thousand, of which every byte depends on the seed.</summary>
    public static IReadOnlyList<SnapshotPart> Parts(long seed) =>
    [
        new("module.json", stream => stream.Write(Encoding.UTF8.GetBytes($"seed {seed}"))),
        new("model.safetensors", stream =>
        {
            var bytes = new byte[5000 + (int)(seed % 7)];
            new Random((int)seed).NextBytes(bytes);
            stream.Write(bytes.AsSpan(0, 1234));
            stream.Write(bytes.AsSpan(1234));
        }),
    ];

    public static byte[] Bytes(SnapshotPart part)
    {
        using var stream = new MemoryStream();
        part.Write(stream);
        return stream.ToArray();
    }

    /// <summary>Whether the content is that which was saved with this step.</summary>
    public static void AssertContent(SnapshotContent content)
    {
        foreach (var part in Parts(content.Info.Facts.Step))
        {
            using var read = new MemoryStream();
            using var stream = content.Open(part.Name);
            stream.CopyTo(read);
            Assert.Equal(Bytes(part), read.ToArray());
        }
    }

    /// <summary>No file but those of whole snapshots, and the lock's.</summary>
    public static void AssertClean(IDisk disk, string root = Root)
    {
        Assert.All(disk.List(root), entry => Assert.True(SnapshotNames.IsId(entry.Name) || entry.Name is "quarantine" or "lock", $"stray {entry.Name}"));
        var names = disk.List(Path.Combine(root, "quarantine")).Select(entry => entry.Name).ToHashSet();
        Assert.All(names, name => Assert.Contains(name.EndsWith(".txt", StringComparison.Ordinal) ? name[..^4] : name + ".txt", names));
    }

    public SnapshotInfo Save(SnapshotStore store, string module, int keepLast = 9)
    {
        var seed = ++_seed;
        _modules[seed] = module;
        var pruned = store.List(module).Select(snapshot => snapshot.Id).SkipLast(keepLast - 1).ToList();
        (_saving, _pruning) = (seed, pruned);
        _must.ExceptWith(pruned);
        var info = store.Save(module, Parts(seed), new(seed, seed, "request"), keepLast);
        (_saving, _pruning) = (null, []);
        _must.Add(info.Id);
        _mustNot.UnionWith(pruned);
        return info;
    }

    public void Delete(SnapshotStore store, string id)
    {
        _must.Remove(id);
        _may.Add(id);
        store.Delete(id);
        _may.Remove(id);
        _mustNot.Add(id);
    }

    /// <summary>Damages a snapshot behind the store's back.</summary>
    public void Damage(FaultDisk disk, string id, string part = "model.safetensors")
    {
        var path = $"{Root}/{id}/{part}";
        var bytes = disk.Files($"{Root}/{id}").Single(file => file.Path == path).Bytes;
        bytes[^3] ^= 1;
        disk.Replace(path, bytes);
        _must.Remove(id);
        _bad.Add(id);
    }

    public void LatestGood(SnapshotStore store, string module, string expected)
    {
        _quarantining.UnionWith(_bad);
        using var content = store.LatestGood(module);
        Assert.Equal(expected, content!.Info.Id);
        AssertContent(content);
    }

    public void Quarantine(SnapshotStore store, string id)
    {
        _must.Remove(id);
        _quarantining.Add(id);
        store.Quarantine(id, "a test says so");
        _mustNot.Add(id);
    }

    /// <summary>Opens the store on what a crash left and judges it.</summary>
    /// <returns>The ids that are listed.</returns>
    public IReadOnlyList<string> Check(FaultDisk disk)
    {
        using var store = Open(disk);
        return Check(disk, store);
    }

    /// <summary>As after a crash in the middle of the last call, which failed on a disk that failed on.</summary>
    public void CheckAfterFailure(FaultDisk disk)
    {
        // The save is done by then, what it should have pruned is not.
        _may.UnionWith(_mustNot);
        _mustNot.Clear();
        Check(disk);
    }

    public IReadOnlyList<string> Check(FaultDisk disk, SnapshotStore store)
    {
        AssertClean(disk);
        var listed = store.List();
        var ids = listed.Select(snapshot => snapshot.Id).ToList();
        foreach (var snapshot in listed.Where(snapshot => !_bad.Contains(snapshot.Id)))
        {
            using var content = store.OpenRead(snapshot.Id);
            AssertContent(content);
            Assert.Equal(_modules[snapshot.Facts.Step], snapshot.Module);
        }

        Assert.Subset(ids.ToHashSet(), _must);
        Assert.Empty(_mustNot.Intersect(ids));
        var unknown = listed.Where(snapshot => !_must.Contains(snapshot.Id) && !_may.Contains(snapshot.Id) && !_bad.Contains(snapshot.Id)
            && !_quarantining.Contains(snapshot.Id) && !_pruning.Contains(snapshot.Id)).ToList();
        Assert.All(unknown, snapshot => Assert.Equal(_saving, snapshot.Facts.Step));
        Assert.True(unknown.Count <= 1);

        // An old one goes only once the new one is there for good.
        Assert.True(unknown.Count == 1 || _pruning.All(ids.Contains), "a snapshot was pruned before the one that takes its place was durable");
        var kept = disk.List($"{Root}/quarantine").Where(entry => entry.IsDirectory).Select(entry => entry.Name).ToList();
        Assert.All(_quarantining, id => Assert.True(ids.Contains(id) != kept.Contains(id), $"{id} is neither listed nor in quarantine, or both"));
        Assert.All(kept, id => Assert.Contains(id, _quarantining.Union(_bad)));
        Assert.All(_bad, id => Assert.True(ids.Contains(id) || kept.Contains(id), $"the damaged {id} was deleted"));
        return ids;
    }
}
