namespace Sconce.Engine.Snapshots;

/// <summary>What a failure of the disk means, and what is said of it.</summary>
internal static class DiskFailure
{
    /// <summary>EAGAIN, also known as EWOULDBLOCK: another holds the lock.</summary>
    public const int WouldBlock = 11;

    /// <summary>EIO: the device failed.</summary>
    public const int InputOutput = 5;

    /// <summary>ENOSPC.</summary>
    public const int NoSpace = 28;

    /// <summary>EROFS.</summary>
    public const int ReadOnly = 30;

    /// <summary>EDQUOT.</summary>
    public const int QuotaExceeded = 122;

    /// <summary>Whether an exception is a disk's.</summary>
    public static bool Is(Exception exception) => exception is IOException or UnauthorizedAccessException;

    /// <summary>Whether the disk has no room left, for anybody or for this user.</summary>
    public static bool IsFull(Exception exception) => exception is IOException { HResult: NoSpace or QuotaExceeded };

    /// <summary>Whether what was to be read is lost: the file is gone or the device cannot read it. Anything else (no rights, no file handles left) can pass.</summary>
    public static bool IsLoss(Exception exception) => exception is FileNotFoundException or DirectoryNotFoundException or IOException { HResult: InputOutput };

    /// <summary>Nothing was written, as far as anybody will see.</summary>
    /// <param name="exception">The disk's failure.</param>
    /// <param name="directory">The store's directory.</param>
    /// <param name="what">What was to be done, e.g. <c>the snapshot of module "m" was not saved</c>.</param>
    public static EngineException Write(Exception exception, string directory, string what) => IsFull(exception)
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
