using System.Text.RegularExpressions;
using Sconce.Engine.Execution;

namespace Sconce.Engine.Snapshots;

/// <summary>The names of the store's files. None is made of a name that a caller chose.</summary>
internal static partial class SnapshotNames
{
    /// <summary>The file that makes a directory a snapshot.</summary>
    public const string Manifest = "manifest.json";

    /// <summary>The file that is locked while a process has the store.</summary>
    public const string Lock = "lock";

    /// <summary>The directory of what is kept and never loaded.</summary>
    public const string Quarantine = "quarantine";

    /// <summary>What a quarantined snapshot's reason adds to its name.</summary>
    public const string Reason = ".txt";

    private const string TemporaryPrefix = "tmp-";
    private const string DeletedPrefix = "del-";
    private const string PartForm = "^[a-z0-9][a-z0-9._-]{0,63}$";

    /// <summary>A new snapshot's id, which is also the name of its directory.</summary>
    public static string NewId() => Ids.New("snap");

    /// <summary>Whether a name is that of a snapshot.</summary>
    public static bool IsId(string name) => Id().IsMatch(name);

    /// <summary>The directory in which a snapshot is written.</summary>
    public static string Temporary(string id) => TemporaryPrefix + id;

    /// <summary>The directory of a snapshot that is deleted but for its files.</summary>
    public static string Deleted(string id) => DeletedPrefix + id;

    /// <summary>Whether a name is one of those two: what a process leaves behind that is killed.</summary>
    public static bool IsStray(string name) =>
        (name.StartsWith(TemporaryPrefix, StringComparison.Ordinal) && IsId(name[TemporaryPrefix.Length..]))
        || (name.StartsWith(DeletedPrefix, StringComparison.Ordinal) && IsId(name[DeletedPrefix.Length..]));

    /// <summary>Whether a part may have a name: it becomes the name of a file.</summary>
    public static bool IsPart(string name) => Part().IsMatch(name) && name != Manifest;

    /// <summary>Checks the parts of a snapshot that is to be saved.</summary>
    /// <exception cref="ArgumentException">A name is taken twice or none for a part.</exception>
    public static void CheckParts(IReadOnlyList<SnapshotPart> parts)
    {
        if (parts.Count == 0)
        {
            throw new ArgumentException("a snapshot needs at least one part", nameof(parts));
        }

        var names = new HashSet<string>(StringComparer.Ordinal);
        foreach (var part in parts)
        {
            if (!IsPart(part.Name) || !names.Add(part.Name))
            {
                throw new ArgumentException($"the part {EngineException.Quote(part.Name)} has a name that is taken, or does not match {PartForm}", nameof(parts));
            }
        }
    }

    [GeneratedRegex(@"\Asnap-[0-9a-f]{24}\z")]
    private static partial Regex Id();

    [GeneratedRegex(@"\A[a-z0-9][a-z0-9._-]{0,63}\z")]
    private static partial Regex Part();
}
