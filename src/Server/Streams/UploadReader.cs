using System.Diagnostics;
using Grpc.Core;
using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Server.Hosting;

namespace Sconce.Server.Streams;

/// <summary>Reads an upload (a header, chunks, an end) within the limits on silence and slowness: Kestrel sets no least rate for gRPC streams.</summary>
internal sealed class UploadReader<T>(
    IAsyncStreamReader<T> messages, Func<T, V1.StateChunk?> chunkOf, Func<T, V1.StateEnd?> endOf, SconceServerOptions options, DrainSignal drain, CancellationToken cancellationToken) : IDisposable
    where T : class
{
    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(5);

    private readonly CancellationTokenSource _silence = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, drain.Token);
    private TimeSpan _waited;
    private long _received;

    /// <summary>The first message.</summary>
    public async Task<T> ReadHeaderAsync() =>
        await NextAsync().ConfigureAwait(false) ?? throw EngineException.Invalid("header", "is missing: the stream ended before its first message", "BAD_STREAM");

    /// <summary>Reads the rest into <paramref name="upload"/> and returns the digest of its bytes.</summary>
    public Task<ulong> ReceiveAsync(StateUpload upload)
    {
        var lengths = new long[upload.Entries.Count];
        for (var i = 0; i < lengths.Length; i++)
        {
            lengths[i] = upload.ByteLength(i);
        }

        return ReceiveAsync(lengths, upload);
    }

    /// <summary>Reads the rest of an upload that has been answered already, keeps nothing of it and returns the digest of its bytes.</summary>
    public Task<ulong> DiscardAsync(IReadOnlyList<long> lengths) => ReceiveAsync(lengths, null);

    public void Dispose() => _silence.Dispose();

    private async Task<ulong> ReceiveAsync(IReadOnlyList<long> lengths, StateUpload? upload)
    {
        var framing = new StateFraming(lengths);
        while (await NextAsync().ConfigureAwait(false) is { } message)
        {
            if (chunkOf(message) is { } chunk)
            {
                framing.Accept(chunk.Entry, chunk.Offset, chunk.Data.Span);
                upload?.Write((int)chunk.Entry, (long)chunk.Offset, chunk.Data.Span);
                CheckRate(chunk.Data.Length);
            }
            else if (endOf(message) is { } end)
            {
                framing.End(end.HasXxh3 ? end.Xxh3 : null);
                return await NextAsync().ConfigureAwait(false) is null
                    ? framing.Digest
                    : throw EngineException.Invalid("end", "was not the last message of the stream", "BAD_STREAM");
            }
            else
            {
                throw EngineException.Invalid("part", "is neither a chunk nor an end; the header comes once, as the first message", "BAD_STREAM");
            }
        }

        throw framing.Truncated();
    }

    private async Task<T?> NextAsync()
    {
        var started = Stopwatch.GetTimestamp();
        _silence.CancelAfter(options.StreamIdleTimeout);
        try
        {
            var more = await messages.MoveNext(_silence.Token).ConfigureAwait(false);
            _waited += Stopwatch.GetElapsedTime(started);
            _silence.CancelAfter(Timeout.InfiniteTimeSpan);
            return more ? messages.Current : null;
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            // What is still being received has changed nothing yet, so a server that stops can refuse it.
            throw drain.IsDraining ? DrainSignal.Refusal() : new EngineException(
                EngineError.DeadlineExceeded, "STREAM_IDLE",
                $"nothing came for {options.StreamIdleTimeout.TotalSeconds:0.###} s, after {_received} bytes; nothing is kept. stream_idle_timeout on the server sets the limit");
        }
    }

    /// <summary>Counts only the time spent waiting for the caller, not the server's own.</summary>
    private void CheckRate(int bytes)
    {
        _received += bytes;
        var counted = (_waited - Grace).TotalSeconds;
        if (counted > 0 && _received < counted * options.StreamMinBytesPerSecond)
        {
            throw new EngineException(
                EngineError.DeadlineExceeded, "STREAM_SLOW",
                $"{_received} bytes came in {_waited.TotalSeconds:0.#} s, less than {options.StreamMinBytesPerSecond} bytes per second; nothing is kept. stream_min_bytes_per_second on the server sets the limit");
        }
    }
}
