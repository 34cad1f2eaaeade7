using Sconce.Engine.Storage;

namespace Sconce.Engine.Tests.Snapshots;

/// <summary>A disk that calls some flushes a success without doing them, as a store would have it that forgot them.</summary>
internal sealed class ForgetfulDisk(FaultDisk disk, string forgotten) : IDisk
{
    public bool DirectoryExists(string path) => disk.DirectoryExists(path);

    public void CreateDirectory(string path) => disk.CreateDirectory(path);

    public IReadOnlyList<DiskEntry> List(string path) => disk.List(path);

    public IDiskWriter Create(string path, bool isPrivate = true) => new Writer(disk.Create(path, isPrivate), IsForgotten($"flush {path}"));

    public IDiskReader Open(string path) => disk.Open(path);

    public void FlushDirectory(string path)
    {
        if (!IsForgotten($"flushdir {path}"))
        {
            disk.FlushDirectory(path);
        }
    }

    public void Rename(string from, string to) => disk.Rename(from, to);

    public void Replace(string from, string to) => disk.Replace(from, to);

    public void DeleteFile(string path) => disk.DeleteFile(path);

    public void DeleteDirectory(string path) => disk.DeleteDirectory(path);

    public IDisposable? Lock(string path) => disk.Lock(path);

    // The whole of a path, or a beginning that says so by how it ends.
    private bool IsForgotten(string operation) => forgotten[^1] is '-' or ' ' ? operation.StartsWith(forgotten, StringComparison.Ordinal) : operation == forgotten;

    private sealed class Writer(IDiskWriter file, bool isForgetful) : IDiskWriter
    {
        public void Write(ReadOnlySpan<byte> bytes) => file.Write(bytes);

        public void Flush()
        {
            if (!isForgetful)
            {
                file.Flush();
            }
        }

        public void Dispose() => file.Dispose();
    }
}
