using System.Buffers;
using Sconce.Engine.Storage;

namespace Sconce.Engine.Snapshots;

/// <summary>
/// A snapshot's parts, open for reading, after every byte was compared with its digest. They stay readable until this is disposed, also when the snapshot is deleted
/// meanwhile.
/// </summary>
internal sealed class SnapshotContent : IDisposable
{
    // Two of them: one is read while the other is hashed.
    private const int BufferSize = 2 * PartDigest.Segment;

    private readonly Dictionary<string, IDiskReader> _files = new(StringComparer.Ordinal);

    private SnapshotContent(SnapshotInfo info) => Info = info;

    /// <summary>What the snapshot is.</summary>
    public SnapshotInfo Info { get; }

    /// <summary>Opens a snapshot and checks all of it. Reads every byte once, at the speed of SHA-256; what is read afterwards comes from the page cache, mostly.</summary>
    /// <exception cref="EngineException">DATA_LOSS: it is damaged; snapshot and part are named. FAILED_PRECONDITION: a file cannot be opened, which says nothing of its content.</exception>
    public static SnapshotContent Open(IDisk disk, string directory, SnapshotInfo info, CancellationToken cancellation)
    {
        var content = new SnapshotContent(info);
        try
        {
            using var digest = new PartDigest();
            foreach (var part in info.Parts)
            {
                var file = OpenPart(disk, directory, info.Id, part);
                content._files.Add(part.Name, file);
                var found = Guard(() => Digest(file, digest, part.Bytes, cancellation), directory, info.Id, part.Name);
                if (found != part.Sha256)
                {
                    throw SnapshotDamage.Digest(info.Id, part.Name, part.Sha256, found);
                }
            }

            return content;
        }
        catch
        {
            content.Dispose();
            throw;
        }
    }

    /// <summary>Opens a part's file and checks its length.</summary>
    /// <exception cref="EngineException">As for <see cref="Open(IDisk, string, SnapshotInfo, CancellationToken)"/>.</exception>
    public static IDiskReader OpenPart(IDisk disk, string directory, string id, SnapshotPartInfo part)
    {
        var file = Guard(() => disk.Open(Path.Combine(directory, part.Name)), directory, id, part.Name);
        try
        {
            var length = Guard(() => file.Length, directory, id, part.Name);
            return length == part.Bytes ? file : throw SnapshotDamage.Length(id, part.Name, part.Bytes, length);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Tells what is lost from what cannot be reached now: a snapshot is never set aside for want of file handles.</summary>
    public static T Guard<T>(Func<T> read, string directory, string id, string part)
    {
        try
        {
            return read();
        }
        catch (Exception exception) when (DiskFailure.Is(exception))
        {
            throw DiskFailure.IsLoss(exception) ? SnapshotDamage.Lost(id, part, exception) : SnapshotFailure.Read(exception, Path.Combine(directory, part));
        }
    }

    /// <summary>A part's bytes: a stream that can seek, for one thread; there may be several of one part.</summary>
    /// <param name="part">The part's name, one of those of <see cref="Info"/>.</param>
    /// <returns>A stream that ends with this, whether it is disposed or not. A device that fails now throws <see cref="IOException"/>.</returns>
    /// <exception cref="KeyNotFoundException">The snapshot has no such part.</exception>
    public Stream Open(string part) => new Reading(_files[part]);

    public void Dispose()
    {
        foreach (var file in _files.Values)
        {
            file.Dispose();
        }
    }

    private static unsafe string Digest(IDiskReader file, PartDigest digest, long length, CancellationToken cancellation)
    {
        var buffer = ArrayPool<byte>.Shared.Rent((int)Math.Min(2 * BufferSize, Math.Max(length, 1)));
        try
        {
            fixed (byte* start = buffer)
            {
                try
                {
                    var half = 0;
                    for (var offset = 0L; offset < length; half ^= BufferSize)
                    {
                        cancellation.ThrowIfCancellationRequested();
                        var bytes = buffer.AsSpan(half, (int)Math.Min(BufferSize, length - offset));
                        var read = file.Read(bytes, offset);
                        if (read < bytes.Length)
                        {
                            // It was cut short since its length was checked; the digest will differ.
                            break;
                        }

                        offset += read;
                        digest.Settle();
                        digest.Add(start + half, read);
                    }

                    return digest.Take();
                }
                finally
                {
                    digest.Drop();
                }
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    private sealed class Reading(IDiskReader file) : Stream
    {
        private long _position;

        public override bool CanRead => true;

        public override bool CanSeek => true;

        public override bool CanWrite => false;

        public override long Length { get; } = file.Length;

        public override long Position
        {
            get => _position;
            set => _position = value >= 0 ? value : throw new ArgumentOutOfRangeException(nameof(value), value, "a position is >= 0");
        }

        public override int Read(Span<byte> buffer)
        {
            var read = _position < Length ? file.Read(buffer, _position) : 0;
            _position += read;
            return read;
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override long Seek(long offset, SeekOrigin origin) =>
            Position = offset + origin switch { SeekOrigin.Begin => 0, SeekOrigin.Current => _position, _ => Length };

        public override void Flush()
        {
        }

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();
    }
}
