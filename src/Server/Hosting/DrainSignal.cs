using Sconce.Engine;

namespace Sconce.Server.Hosting;

/// <summary>Tells open streams and new calls that the server is stopping.</summary>
internal sealed class DrainSignal : IDisposable
{
    private static readonly TimeSpan StreamEnd = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan Step = TimeSpan.FromMilliseconds(50);

    private readonly CancellationTokenSource _draining = new();
    private readonly CancellationTokenSource _ending = new();
    private readonly CancellationTokenSource _closing = new();
    private int _streams;

    /// <summary>Fires when draining begins.</summary>
    public CancellationToken Token => _draining.Token;

    /// <summary>Fires when work in flight has ended: what goes on through the drain, a watch of the health, ends now.</summary>
    public CancellationToken Ending => _ending.Token;

    /// <summary>Fires when what is still open is to be cut: streams whose callers read nothing, and those that know of no drain (reflection).</summary>
    public CancellationToken Closing => _closing.Token;

    public bool IsDraining => _draining.IsCancellationRequested;

    /// <summary>Begins to drain.</summary>
    public void Begin() => _draining.Cancel();

    /// <summary>Counts a stream in, until the result is disposed.</summary>
    public StreamMark Open()
    {
        Interlocked.Increment(ref _streams);
        return new StreamMark(this);
    }

    /// <summary>Waits for streams to end by themselves, for a moment, and then cuts those that are left.</summary>
    public async Task CloseAsync()
    {
        await _ending.CancelAsync().ConfigureAwait(false);
        for (var waited = TimeSpan.Zero; Volatile.Read(ref _streams) > 0 && waited < StreamEnd; waited += Step)
        {
            await Task.Delay(Step).ConfigureAwait(false);
        }

        await _closing.CancelAsync().ConfigureAwait(false);

        // A handler's end is not yet its last frame on the wire, and Kestrel, once told to stop, closes connections under streams that the server ended.
        await Task.Delay(Step).ConfigureAwait(false);
    }

    /// <summary>What a caller gets meanwhile. Another server, or this one after its restart, can take the call.</summary>
    public static EngineException Refusal() =>
        new(EngineError.Unavailable, "DRAINING", "the server is stopping; retry once it is back") { RetryAfter = TimeSpan.FromSeconds(1) };

    public void Dispose()
    {
        _draining.Dispose();
        _ending.Dispose();
        _closing.Dispose();
    }

    /// <summary>An open stream.</summary>
    public readonly struct StreamMark(DrainSignal owner) : IDisposable
    {
        /// <inheritdoc/>
        public void Dispose() => Interlocked.Decrement(ref owner._streams);
    }
}
