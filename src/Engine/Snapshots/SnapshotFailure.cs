using Sconce.Engine.Storage;

namespace Sconce.Engine.Snapshots;

/// <summary>What is said of a failure of the store's disk.</summary>
internal static class SnapshotFailure
{
    /// <summary>Nothing was written, as far as anybody will see.</summary>
    /// <param name="exception">The disk's failure.</param>
    /// <param name="directory">The store's directory.</param>
    /// <param name="what">What was to be done, e.g. <c>the snapshot of module "m" was not saved</c>.</param>
    public static EngineException Write(Exception exception, string directory, string what) => DiskFailure.IsFull(exception)
        ? new EngineException(EngineError.ResourceExhausted, "DISK_FULL",
            $"{what}: the disk of {directory} is full; delete snapshots, keep fewer of each module, or give it more room. Earlier snapshots are untouched", exception)
        : new EngineException(EngineError.FailedPrecondition, "SNAPSHOT_WRITE_FAILED",
            $"{what}: {directory} cannot be written ({exception.Message}); the server's operator must see to that disk. Earlier snapshots are untouched", exception);

    /// <summary>A file that cannot be read now, though nothing says that it is lost.</summary>
    /// <param name="exception">The disk's failure.</param>
    /// <param name="path">The file.</param>
    public static EngineException Read(Exception exception, string path) =>
        new(EngineError.FailedPrecondition, "SNAPSHOT_UNREADABLE", $"{path} cannot be read ({exception.Message}); the server's operator must give the server access to it", exception);
}
