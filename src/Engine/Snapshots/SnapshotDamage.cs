namespace Sconce.Engine.Snapshots;

/// <summary>What is said of a snapshot that is not as it was written.</summary>
internal static class SnapshotDamage
{
    /// <summary>A part has other bytes than were written.</summary>
    public static EngineException Digest(string id, string part, string written, string found) => Part(id, part, $"has SHA-256 {found}; {written} was written");

    /// <summary>A part has another length than was written.</summary>
    public static EngineException Length(string id, string part, long written, long found) => Part(id, part, $"has {found:N0} bytes; {written:N0} were written");

    /// <summary>A part is gone, or the device cannot read it.</summary>
    public static EngineException Lost(string id, string part, Exception exception) => Part(id, part, $"cannot be read: {exception.Message}", exception);

    /// <summary>A part is damaged.</summary>
    public static EngineException Part(string id, string part, string what, Exception? exception = null) =>
        new(EngineError.DataLoss, "SNAPSHOT_DAMAGED", $"the snapshot {id} is damaged: its part {part} {what}. ListSnapshots shows the others", exception)
        {
            Resource = new ResourceRef("snapshot", id),
        };
}
