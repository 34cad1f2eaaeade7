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
    private CancellationToken _taken;
    private bool _isKept;
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

        return ReceiveAsync(new StateFraming(lengths), upload, canOverlap: false);
    }

    /// <summary>Goes on with an upload that another stream may have begun: its chunks may begin before where that ended, with the same bytes.</summary>
    /// <param name="upload">What has come.</param>
    /// <param name="framing">Where it ended.</param>
    /// <param name="taken">Fires when yet another stream goes on with it.</param>
    public async Task<ulong> ReceiveAsync(StateUpload upload, StateFraming framing, CancellationToken taken)
    {
        _isKept = true;
        using var end = EndWhen(taken);
        return await ReceiveAsync(framing, upload, canOverlap: true).ConfigureAwait(false);
    }

    /// <summary>Reads what is sent again of an upload that has ended, or only its end, and compares the digest where one is declared.</summary>
    /// <param name="most">Bytes of the upload.</param>
    /// <param name="digest">XXH3 of them.</param>
    /// <param name="taken">Fires when another stream asks for the answer.</param>
    public async Task SkipAsync(long most, ulong digest, CancellationToken taken)
    {
        using var stop = EndWhen(taken);
        var skipped = 0L;
        while (await NextAsync().ConfigureAwait(false) is { } message)
        {
            if (chunkOf(message) is { } chunk && (skipped += chunk.Data.Length) <= most)
            {
                CheckRate(chunk.Data.Length);
            }
            else if (endOf(message) is { } end && await NextAsync().ConfigureAwait(false) is null)
            {
                StateFraming.CheckDigest(end.HasXxh3 ? end.Xxh3 : null, digest);
                return;
            }
            else
            {
                break;
            }
        }

        throw EngineException.Invalid("end", "is not all that was left to send: this upload had come whole", "BAD_STREAM");
    }

    /// <summary>Reads the rest of an upload that has been answered already, keeps nothing of it and returns the digest of its bytes.</summary>
    public Task<ulong> DiscardAsync(IReadOnlyList<long> lengths) => ReceiveAsync(new StateFraming(lengths), null, canOverlap: false);

    public void Dispose() => _silence.Dispose();

    private async Task<ulong> ReceiveAsync(StateFraming framing, StateUpload? upload, bool canOverlap)
    {
        var sink = upload is null ? null : new ChunkSink(framing, upload);
        while (await NextAsync(canOverlap ? null : sink).ConfigureAwait(false) is { } message)
        {
            if (chunkOf(message) is { } chunk)
            {
                if (sink?.Took() is > 0 and var taken)
                {
                    CheckRate(taken);
                    continue;
                }

                var known = canOverlap ? Known(framing, upload!, chunk) : 0;
                CheckRate(chunk.Data.Length);
                if (known == 0 || known < chunk.Data.Length)
                {
                    // Beyond what was known all comes once.
                    canOverlap = false;
                    framing.Accept(chunk.Entry, chunk.Offset + (ulong)known, chunk.Data.Span[known..]);
                    upload?.Write((int)chunk.Entry, (long)chunk.Offset + known, chunk.Data.Span[known..]);
                }
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

    private CancellationTokenRegistration EndWhen(CancellationToken taken)
    {
        _taken = taken;
        return taken.UnsafeRegister(static silence => ((CancellationTokenSource)silence!).Cancel(), _silence);
    }

    private static int Known(StateFraming framing, StateUpload upload, V1.StateChunk chunk)
    {
        var known = framing.Overlap(chunk.Entry, chunk.Offset, chunk.Data.Length);
        return known == 0 || upload.Holds((int)chunk.Entry, (long)chunk.Offset, chunk.Data.Span[..known]) ? known
            : throw EngineException.Invalid("chunk.data", $"differs at tensor {chunk.Entry} offset {chunk.Offset} from what came under this upload_id before; begin another upload", "BAD_STREAM");
    }

    private string Remains => _isKept ? $"what came is kept for {options.UploadTtl.TotalSeconds:0.###} s under its upload_id" : "nothing is kept";

    private async Task<T?> NextAsync(ChunkSink? sink = null)
    {
        sink?.Use();
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
            throw _taken.IsCancellationRequested ? new EngineException(EngineError.Aborted, "UPLOAD_TAKEN_OVER", "another stream goes on with this upload")
                : drain.IsDraining ? DrainSignal.Refusal() : new EngineException(
                EngineError.DeadlineExceeded, "STREAM_IDLE",
                $"nothing came for {options.StreamIdleTimeout.TotalSeconds:0.###} s, after {_received} bytes; {Remains}. stream_idle_timeout on the server sets the limit");
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
                $"{_received} bytes came in {_waited.TotalSeconds:0.#} s, less than {options.StreamMinBytesPerSecond} bytes per second; {Remains}. stream_min_bytes_per_second on the server sets the limit");
        }
    }
}
