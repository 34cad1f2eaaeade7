using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Sconce.Engine.Snapshots;

/// <summary>
/// The manifest: what a snapshot is and what must be in its files. It is JSON, <c>{"sha256":"…","manifest":{…}}</c>, whose digest is that of the inner object's bytes as
/// they stand; the outer one is compared byte for byte. So whatever byte changes, it is found.
/// </summary>
internal static class SnapshotManifest
{
    /// <summary>The format that is written, and the newest that is read.</summary>
    public const int Format = 1;

    /// <summary>The longest manifest that is read, in bytes.</summary>
    public const int MaxBytes = 16 << 20;

    private const int DigestLength = 2 * SHA256.HashSizeInBytes;

    private static ReadOnlySpan<byte> Head => "{\"sha256\":\""u8;

    private static ReadOnlySpan<byte> Neck => "\",\"manifest\":"u8;

    private static ReadOnlySpan<byte> Tail => "}\n"u8;

    /// <summary>The manifest's bytes.</summary>
    /// <param name="info">The snapshot; its digest is made here.</param>
    /// <returns>The bytes, and the snapshot with its digest.</returns>
    public static (byte[] Bytes, SnapshotInfo Info) Write(SnapshotInfo info)
    {
        var content = JsonSerializer.SerializeToUtf8Bytes(
            new Content(Format, info.Id, info.Module, info.Sequence, info.Created, info.Facts.Generation, info.Facts.Step, info.Facts.Reason, info.Parts), ManifestJson.Default.Content);
        var digest = Convert.ToHexStringLower(SHA256.HashData(content));
        return ([.. Head, .. Encoding.ASCII.GetBytes(digest), .. Neck, .. content, .. Tail], info with { Digest = digest });
    }

    /// <summary>Reads a manifest.</summary>
    /// <param name="bytes">The file's content.</param>
    /// <param name="id">The snapshot's id: the name of its directory.</param>
    /// <exception cref="EngineException">DATA_LOSS: it is not as it was written. FAILED_PRECONDITION: a later version of Sconce wrote it.</exception>
    public static SnapshotInfo Read(ReadOnlySpan<byte> bytes, string id)
    {
        var start = Head.Length + DigestLength + Neck.Length;
        if (bytes.Length < start + Tail.Length || !bytes.StartsWith(Head) || !bytes[(Head.Length + DigestLength)..].StartsWith(Neck) || !bytes.EndsWith(Tail))
        {
            throw SnapshotDamage.Part(id, SnapshotNames.Manifest, $"is not a manifest ({bytes.Length:N0} bytes)");
        }

        var content = bytes[start..^Tail.Length];
        var written = Encoding.Latin1.GetString(bytes.Slice(Head.Length, DigestLength));
        var found = Convert.ToHexStringLower(SHA256.HashData(content));
        if (written != found)
        {
            throw SnapshotDamage.Digest(id, SnapshotNames.Manifest, written, found);
        }

        try
        {
            if (Parsed(JsonSerializer.Deserialize(content, ManifestJson.Default.Version)).Format is var format and not Format)
            {
                throw new EngineException(EngineError.FailedPrecondition, "SNAPSHOT_FORMAT_UNSUPPORTED",
                    $"the snapshot {id} has format {format}; this version of Sconce reads format {Format}: start the version that wrote it, or move the snapshot out of the directory");
            }

            var read = Parsed(JsonSerializer.Deserialize(content, ManifestJson.Default.Content));
            return read.Id == id && HasParts(read)
                ? new(id, read.Module, read.Sequence, read.Created, new(read.Generation, read.Step, read.Reason), read.Parts, found)
                : throw SnapshotDamage.Part(id, SnapshotNames.Manifest, $"is that of {EngineException.Quote(read.Id)}, or names no parts that can be");
        }
        catch (JsonException exception)
        {
            throw SnapshotDamage.Part(id, SnapshotNames.Manifest, $"has content that no version of Sconce writes ({exception.Message})");
        }
    }

    // JSON's null is no failure of the parser.
    private static T Parsed<T>(T? read)
        where T : class => read ?? throw new JsonException("null");

    private static bool HasParts(Content read) =>
        read.Parts.Count > 0
        && read.Parts.All(part => part is { Bytes: >= 0 } && SnapshotNames.IsPart(part.Name))
        && read.Parts.DistinctBy(part => part.Name, StringComparer.Ordinal).Count() == read.Parts.Count;

    /// <summary>The part that every format has.</summary>
    internal sealed record Version(int Format);

    /// <summary>Format 1.</summary>
    internal sealed record Content(
        int Format, string Id, string Module, long Sequence, DateTimeOffset Created, long Generation, long Step, string Reason, IReadOnlyList<SnapshotPartInfo> Parts);
}

/// <summary>How the manifest's content is written: made at build time, since a restart waits for it.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, WriteIndented = true, RespectNullableAnnotations = true, RespectRequiredConstructorParameters = true)]
[JsonSerializable(typeof(SnapshotManifest.Version))]
[JsonSerializable(typeof(SnapshotManifest.Content))]
internal sealed partial class ManifestJson : JsonSerializerContext;
