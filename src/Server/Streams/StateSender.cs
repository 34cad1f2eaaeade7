using System.IO.Hashing;
using Google.Protobuf;
using Grpc.Core;
using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Engine.Weights.Safetensors;

namespace Sconce.Server.Streams;

/// <summary>Sends a snapshot as a list, chunks and an end. The chunks show the snapshot's own memory.</summary>
internal static class StateSender
{
    private const int DefaultChunk = 1 << 20;
    private const int MaxChunk = 16 << 20;

    public static int ChunkBytes(uint asked) => asked switch
    {
        0 => DefaultChunk,
        <= MaxChunk => (int)asked,
        _ => throw EngineException.Invalid("chunk_bytes", $"is {asked}; it must be <= {MaxChunk} (0 means {DefaultChunk})"),
    };

    /// <summary>
    /// Sends what comes first (the list of what follows), the chunks and the end; gives up on a caller that reads nothing for <paramref name="idle"/>, since the
    /// snapshot lives as long as this. With <paramref name="file"/> the chunks are those of a file.
    /// </summary>
    public static async Task SendAsync<T>(
        T first, StateSnapshot snapshot, int chunkBytes, TimeSpan idle, IServerStreamWriter<T> responses, Func<V1.StateChunk, T> chunk, Func<V1.StateEnd, T> end,
        CancellationToken cancellationToken, SafetensorsLayout? file = null)
    {
        using var stalled = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        await WriteAsync(first).ConfigureAwait(false);
        var hash = new XxHash3();
        var at = 0L;
        if (file is not null)
        {
            for (var left = file.Header; !left.IsEmpty; left = left[Math.Min(chunkBytes, left.Length)..])
            {
                await ChunkAsync(0, at, left[..Math.Min(chunkBytes, left.Length)]).ConfigureAwait(false);
            }
        }

        for (var i = 0; i < snapshot.Entries.Count; i++)
        {
            var entry = file is null ? i : file.Order[i];
            var length = snapshot.ByteLength(entry);
            for (long offset = 0; offset < length; offset += chunkBytes)
            {
                var piece = snapshot.Read(entry, offset, (int)Math.Min(chunkBytes, length - offset));
                await (file is null ? ChunkAsync((uint)entry, offset, piece) : ChunkAsync(0, at, piece)).ConfigureAwait(false);
            }
        }

        await WriteAsync(end(new V1.StateEnd { Xxh3 = hash.GetCurrentHashAsUInt64() })).ConfigureAwait(false);

        // Serialized before WriteAsync completes: the snapshot may go once the last write has.
        Task ChunkAsync(uint entry, long offset, ReadOnlyMemory<byte> piece)
        {
            hash.Append(piece.Span);
            at += piece.Length;
            return WriteAsync(chunk(new V1.StateChunk { Entry = entry, Offset = (ulong)offset, Data = UnsafeByteOperations.UnsafeWrap(piece) }));
        }

        async Task WriteAsync(T message)
        {
            stalled.CancelAfter(idle);
            await responses.WriteAsync(message, stalled.Token).ConfigureAwait(false);
            stalled.CancelAfter(Timeout.InfiniteTimeSpan);
        }
    }

    public static V1.StateManifest ToManifest(StateSnapshot snapshot, SafetensorsLayout? file = null) => new()
    {
        Generation = snapshot.Generation,
        TotalBytes = (ulong)(file?.FileBytes ?? snapshot.TotalBytes),
        Entries = { snapshot.Entries.Select(Mapping.TrainingMapping.ToEntry) },
    };
}
