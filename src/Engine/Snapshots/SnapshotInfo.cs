namespace Sconce.Engine.Snapshots;

/// <summary>A snapshot that is on disk, whole.</summary>
/// <param name="Id">Its id, made by the host.</param>
/// <param name="Module">The name of the module.</param>
/// <param name="Sequence">Its place among the module's snapshots: a later one has a higher number. Numbers are not reused while a later snapshot is there.</param>
/// <param name="Created">When the save began, by the host's clock.</param>
/// <param name="Facts">What the module was when it was taken.</param>
/// <param name="Parts">Its files, in the order in which they were written.</param>
/// <param name="Digest">SHA-256 of the manifest, which holds the digests of all parts: 64 lower-case hexadecimal digits.</param>
public sealed record SnapshotInfo(
    string Id, string Module, long Sequence, DateTimeOffset Created, SnapshotFacts Facts, IReadOnlyList<SnapshotPartInfo> Parts, string Digest)
{
    /// <summary>The bytes of all parts.</summary>
    public long Bytes => Parts.Sum(part => part.Bytes);
}

/// <summary>What a module was when a snapshot was taken.</summary>
/// <param name="Generation">Its generation.</param>
/// <param name="Step">The optimizer steps it had made.</param>
/// <param name="Reason">Why the snapshot was taken, e.g. <c>request</c>, <c>steps</c>, <c>drain</c>.</param>
public sealed record SnapshotFacts(long Generation, long Step, string Reason);

/// <summary>One file of a snapshot.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Bytes">Its length.</param>
/// <param name="Sha256">
/// Its digest, 64 lower-case hexadecimal digits: SHA-256 of the file, as <c>sha256sum</c> prints it; where that is longer than 4 MiB, of the SHA-256s of its pieces of 4 MiB
/// one after another, as <c>split -b 4M --filter='sha256sum | cut -c-64 | xxd -r -p' FILE | sha256sum</c> prints it.
/// </param>
public sealed record SnapshotPartInfo(string Name, long Bytes, string Sha256);

/// <summary>One file that is to be in a snapshot.</summary>
/// <param name="Name">Its name, of lower-case letters, digits, <c>.</c>, <c>_</c> and <c>-</c>.</param>
/// <param name="Write">Writes its content, front to back. Called once, on the thread that saves; the stream is gone afterwards.</param>
internal sealed record SnapshotPart(string Name, Action<Stream> Write);

/// <summary>A snapshot that was found damaged and set aside.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Module">The module's name; null where the damage is in the manifest, which holds it.</param>
/// <param name="Why">What was found.</param>
public sealed record QuarantinedSnapshot(string Id, string? Module, string Why);
