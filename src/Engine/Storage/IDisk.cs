namespace Sconce.Engine.Storage;

/// <summary>
/// All that the engine does to a disk whose failures matter: the system's, or one that a test stops, fills and breaks. Failures are <see cref="IOException"/>, whose
/// <see cref="Exception.HResult"/> is the system's error number, and <see cref="UnauthorizedAccessException"/>.
/// </summary>
internal interface IDisk
{
    /// <summary>Whether there is a directory.</summary>
    bool DirectoryExists(string path);

    /// <summary>Makes a directory that only this user may enter; one that is there stays as it is.</summary>
    void CreateDirectory(string path);

    /// <summary>What is in a directory, in no order.</summary>
    IReadOnlyList<DiskEntry> List(string path);

    /// <summary>Makes a file. Fails where there is one.</summary>
    /// <param name="path">Its path.</param>
    /// <param name="isPrivate">Whether only this user may read it; else the process's umask says who may.</param>
    IDiskWriter Create(string path, bool isPrivate = true);

    /// <summary>Opens a file. What was opened stays readable when the file is renamed or deleted.</summary>
    IDiskReader Open(string path);

    /// <summary>Makes what was created, renamed and deleted in a directory durable. A failure means that nobody knows what is.</summary>
    void FlushDirectory(string path);

    /// <summary>Renames a file or directory at once: whoever looks sees one name or the other. Fails where the new name is taken, whoever took it when.</summary>
    void Rename(string from, string to);

    /// <summary>Renames a file at once; one that has the new name goes, and at no instant there is none.</summary>
    void Replace(string from, string to);

    /// <summary>Deletes a file, or a link.</summary>
    void DeleteFile(string path);

    /// <summary>Deletes an empty directory.</summary>
    void DeleteDirectory(string path);

    /// <summary>Takes a lock that ends with the process, however that ends.</summary>
    /// <param name="path">The lock's file, made where it is missing.</param>
    /// <returns>The lock until it is disposed; null where another holds it.</returns>
    IDisposable? Lock(string path);
}

/// <summary>Something in a directory.</summary>
/// <param name="Name">Its name, without the directory.</param>
/// <param name="IsDirectory">Whether it is a directory; a link to one is not.</param>
internal readonly record struct DiskEntry(string Name, bool IsDirectory);

/// <summary>A new file.</summary>
internal interface IDiskWriter : IDisposable
{
    /// <summary>Appends bytes: all of them, or it fails.</summary>
    void Write(ReadOnlySpan<byte> bytes);

    /// <summary>Makes what was written durable. After a failure the system may have dropped it and call the next flush a success: only a new file will do then.</summary>
    void Flush();
}

/// <summary>A file that is open for reading.</summary>
internal interface IDiskReader : IDisposable
{
    /// <summary>Its length in bytes.</summary>
    long Length { get; }

    /// <summary>Reads at an offset; safe from several threads.</summary>
    /// <returns>How many bytes were read: fewer than asked only at the end of the file.</returns>
    int Read(Span<byte> buffer, long offset);
}
