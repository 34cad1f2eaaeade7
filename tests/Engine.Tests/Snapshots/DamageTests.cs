using System.Security.Cryptography;
using System.Text;
using Sconce.Engine.Snapshots;

namespace Sconce.Engine.Tests.Snapshots;

/// <summary>Bytes that change and files that are cut short: found, named, set aside, and the snapshot before it used.</summary>
public class DamageTests
{
    private const int Page = 4096;

    private static readonly byte[] Large = Content();

    [Fact]
    public void A_flipped_bit_in_any_byte_of_the_manifest_is_found_when_the_store_is_opened()
    {
        var (disk, before, id) = Saved();
        var path = $"{SnapshotLedger.Root}/{id}/manifest.json";
        var whole = disk.Files($"{SnapshotLedger.Root}/{id}").Single(file => file.Path == path).Bytes;
        var random = new Random(1);
        for (var at = 0; at < whole.Length; at++)
        {
            AssertFound(disk, path, Flip(whole, at, random.Next(8)), before, id, "manifest.json");
        }
    }

    [Fact]
    public void A_flipped_bit_anywhere_in_a_part_is_found_before_the_part_is_given_out()
    {
        var (disk, before, id) = Saved();
        var random = new Random(2);
        foreach (var (path, whole) in Parts(disk, id))
        {
            // Every byte of a short one; of a long one the ends, the borders of pages, and a sample.
            var positions = whole.Length < 100 ? Enumerable.Range(0, whole.Length)
                : new[] { 0, whole.Length - 1 }.Concat(Enumerable.Range(1, whole.Length / Page).SelectMany(page => new[] { (page * Page) - 1, page * Page }))
                    .Concat(Enumerable.Range(0, 100).Select(_ => random.Next(whole.Length)));
            foreach (var at in positions.Distinct())
            {
                AssertFound(disk, path, Flip(whole, at, random.Next(8)), before, id, Path.GetFileName(path));
            }
        }
    }

    [Fact]
    public void A_file_cut_at_any_page_or_grown_is_found_when_the_store_is_opened()
    {
        var (disk, before, id) = Saved();
        foreach (var (path, whole) in disk.Files($"{SnapshotLedger.Root}/{id}").ToList())
        {
            var lengths = Enumerable.Range(0, (whole.Length / Page) + 1).Select(page => page * Page).Append(1).Append(whole.Length - 1).Where(length => length >= 0 && length < whole.Length);
            foreach (var cut in lengths.Select(length => whole[..length]).Append([.. whole, 0]).Append([.. whole, .. new byte[Page]]))
            {
                AssertFound(disk, path, cut, before, id, Path.GetFileName(path), whenOpened: true);
            }
        }
    }

    [Fact]
    public void A_file_that_is_gone_is_found_when_the_store_is_opened()
    {
        var (disk, before, id) = Saved();
        foreach (var (path, _) in disk.Files($"{SnapshotLedger.Root}/{id}").ToList())
        {
            var clone = disk.AfterKill();
            clone.DeleteFile(path);
            AssertSetAside(clone, before, id, Path.GetFileName(path), whenOpened: true);
        }
    }

    [Fact]
    public void Both_digests_and_both_lengths_are_told()
    {
        var (disk, _, id) = Saved();
        using var store = SnapshotLedger.Open(disk);
        var part = store.Get(id).Parts.Single(part => part.Name == "large");
        Assert.Equal((Large.Length, Convert.ToHexStringLower(SHA256.HashData(Large))), (part.Bytes, part.Sha256));
        var changed = Flip(Large, 77, 3);
        disk.Replace($"{SnapshotLedger.Root}/{id}/large", changed);
        var exception = Assert.Throws<EngineException>(() => store.OpenRead(id));
        Assert.Equal((EngineError.DataLoss, "SNAPSHOT_DAMAGED", id), (exception.Error, exception.Reason, exception.Resource!.Name));
        Assert.All(new[] { id, "large", part.Sha256, Convert.ToHexStringLower(SHA256.HashData(changed)) }, text => Assert.Contains(text, exception.Message, StringComparison.Ordinal));

        disk.Replace($"{SnapshotLedger.Root}/{id}/large", Large[..5000]);
        exception = Assert.Throws<EngineException>(() => store.Verify(id));
        Assert.All(new[] { id, "large", "5,000", $"{Large.Length:N0}" }, text => Assert.Contains(text, exception.Message, StringComparison.Ordinal));
        Assert.Contains(id, store.List().Select(snapshot => snapshot.Id));
    }

    [Fact]
    public void A_manifest_of_another_snapshot_or_one_changed_since_the_store_was_opened_is_not_taken()
    {
        var (disk, before, id) = Saved();
        var files = disk.Files(SnapshotLedger.Root).ToDictionary(file => file.Path, file => file.Bytes);
        using (var store = SnapshotLedger.Open(disk))
        {
            // Whole in itself, and of the same module.
            disk.Replace($"{SnapshotLedger.Root}/{id}/manifest.json", files[$"{SnapshotLedger.Root}/{before}/manifest.json"]);
            Assert.Equal("SNAPSHOT_DAMAGED", Assert.Throws<EngineException>(() => store.OpenRead(id)).Reason);
        }

        AssertSetAside(disk, before, id, "manifest.json", whenOpened: true);
    }

    [Fact]
    public void A_manifest_that_names_files_elsewhere_is_not_followed()
    {
        var (disk, before, id) = Saved();
        using (var store = SnapshotLedger.Open(disk))
        {
            var info = store.Get(id);
            disk.Replace($"{SnapshotLedger.Root}/{id}/manifest.json", SnapshotManifest.Write(info with { Parts = [.. info.Parts, new($"../{before}/large", 1, new string('0', 64))] }).Bytes);
        }

        AssertSetAside(disk, before, id, "manifest.json", whenOpened: true);
    }

    [Fact]
    public void What_a_later_version_wrote_is_neither_used_nor_set_aside()
    {
        var (disk, _, id) = Saved();
        var path = $"{SnapshotLedger.Root}/{id}/manifest.json";
        var content = """{"format":2,"modules":{}}""";
        var digest = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(content)));
        disk.Replace(path, Encoding.UTF8.GetBytes($$"""{"sha256":"{{digest}}","manifest":{{content}}}""" + "\n"));
        var exception = Assert.Throws<EngineException>(() => SnapshotLedger.Open(disk));
        Assert.Equal("SNAPSHOT_FORMAT_UNSUPPORTED", exception.Reason);
        Assert.Contains(id, exception.Message, StringComparison.Ordinal);
        Assert.True(disk.Exists(path));
    }

    [Theory]
    [InlineData("null")]
    [InlineData("[]")]
    [InlineData("{}")]
    [InlineData("""{"format":1}""")]
    [InlineData("""{"format":"1"}""")]
    [InlineData("""{"format":1,"id":null,"module":null,"sequence":1,"created":"x","generation":0,"step":0,"reason":"","parts":[]}""")]
    [InlineData("""{"format":1,"id":"snap-0","module":"m","sequence":1,"created":"2026-01-01T00:00:00+00:00","generation":0,"step":0,"reason":"","parts":[null]}""")]
    [InlineData("""{"format":1,"id":"snap-0","module":"m","sequence":1,"created":"2026-01-01T00:00:00+00:00","generation":0,"step":0,"reason":"","parts":[{"name":"a","bytes":-1,"sha256":""}]}""")]
    [InlineData("not json")]
    [InlineData("")]
    public void A_manifest_with_a_right_digest_and_wrong_content_is_damaged(string content)
    {
        var digest = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(content)));
        var bytes = Encoding.UTF8.GetBytes($$"""{"sha256":"{{digest}}","manifest":{{content}}}""" + "\n");
        Assert.Equal(EngineError.DataLoss, Assert.Throws<EngineException>(() => SnapshotManifest.Read(bytes, "snap-0")).Error);
    }

    private static (FaultDisk Disk, string Before, string Id) Saved()
    {
        var disk = new FaultDisk();
        using var store = SnapshotLedger.Open(disk);
        IReadOnlyList<SnapshotPart> parts = [new("small", stream => stream.Write("sixteen bytes ok"u8)), new("empty", _ => { }), new("large", stream => stream.Write(Large))];
        return (disk, store.Save("m", parts, new(1, 1, "request"), 9).Id, store.Save("m", parts, new(2, 2, "request"), 9).Id);
    }

    private static List<(string Path, byte[] Bytes)> Parts(FaultDisk disk, string id) =>
        [.. disk.Files($"{SnapshotLedger.Root}/{id}").Where(file => !file.Path.EndsWith("manifest.json", StringComparison.Ordinal))];

    private static byte[] Flip(byte[] bytes, int at, int bit)
    {
        var flipped = (byte[])bytes.Clone();
        flipped[at] ^= (byte)(1 << bit);
        return flipped;
    }

    private static byte[] Content()
    {
        var bytes = new byte[(9 * Page) + 100];
        new Random(3).NextBytes(bytes);
        return bytes;
    }

    private static void AssertFound(FaultDisk disk, string path, byte[] damaged, string before, string id, string part, bool whenOpened = false)
    {
        var clone = disk.AfterKill();
        clone.Replace(path, damaged);
        AssertSetAside(clone, before, id, part, whenOpened || part == "manifest.json");
    }

    private static void AssertSetAside(FaultDisk disk, string before, string id, string part, bool whenOpened)
    {
        using var store = SnapshotLedger.Open(disk);
        Assert.Equal(whenOpened ? 1 : 2, store.List().Count);
        using var content = store.LatestGood("m");
        Assert.Equal(before, content!.Info.Id);
        var quarantined = Assert.Single(store.Quarantined);
        Assert.Equal(id, quarantined.Id);
        Assert.Contains($"part {part} ", quarantined.Why, StringComparison.Ordinal);
        var reason = disk.Files($"{SnapshotLedger.Root}/quarantine").Single(file => file.Path == $"{SnapshotLedger.Root}/quarantine/{id}.txt");
        Assert.Contains(quarantined.Why, Encoding.UTF8.GetString(reason.Bytes), StringComparison.Ordinal);
        SnapshotLedger.AssertClean(disk);
    }
}
