namespace Sconce.Engine.Storage;

/// <summary>What a failure of the disk means.</summary>
internal static class DiskFailure
{
    /// <summary>EAGAIN, also known as EWOULDBLOCK: another holds the lock.</summary>
    public const int WouldBlock = 11;

    /// <summary>EIO: the device failed.</summary>
    public const int InputOutput = 5;

    /// <summary>EEXIST.</summary>
    public const int Exists = 17;

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

    /// <summary>Whether a name is taken.</summary>
    public static bool IsTaken(Exception exception) => exception is IOException { HResult: Exists };

    /// <summary>Whether what was to be read is lost: the file is gone or the device cannot read it. Anything else (no rights, no file handles left) can pass.</summary>
    public static bool IsLoss(Exception exception) => exception is FileNotFoundException or DirectoryNotFoundException or IOException { HResult: InputOutput };
}
