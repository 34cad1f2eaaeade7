using System.Threading.Channels;

namespace Sconce.Engine.Hooks;

/// <summary>One event of a watch. Whoever reads it disposes it.</summary>
/// <param name="Capture">What was captured; null where nothing was.</param>
/// <param name="Detached">A hook that was detached; null where none was.</param>
/// <param name="Dropped">Captures lost since the event before.</param>
public sealed record HookEvent(HookCapture? Capture, HookFailure? Detached, ulong Dropped) : IDisposable
{
    /// <inheritdoc/>
    public void Dispose() => Capture?.Dispose();
}

/// <summary>One who watches hooks. Its buffer is bounded: what does not fit is dropped whole and counted, and whoever captures never waits.</summary>
public sealed class HookWatcher : IDisposable
{
    private readonly Channel<HookEvent> _events;
    private readonly HookTable _table;
    private readonly int _buffer;
    private ulong _dropped;

    internal HookWatcher(HookTable table, string hook, int buffer)
    {
        (_table, Hook, _buffer) = (table, hook, buffer);
        // Continuations elsewhere: those who publish are lanes.
        _events = Channel.CreateBounded<HookEvent>(new BoundedChannelOptions(buffer) { SingleReader = true, AllowSynchronousContinuations = false });
    }

    /// <summary>The hook that is watched; empty for all of the module.</summary>
    public string Hook { get; }

    /// <summary>The events; it ends when the hook is removed, and fails when the module is deleted.</summary>
    public ChannelReader<HookEvent> Events => _events.Reader;

    /// <summary>Captures lost that no event has told of yet.</summary>
    public ulong Dropped => Interlocked.Read(ref _dropped);

    /// <summary>Stops watching.</summary>
    public void Dispose()
    {
        _table.Unwatch(this);
        _events.Writer.TryComplete();
        while (_events.Reader.TryRead(out var left))
        {
            left.Dispose();
        }
    }

    internal bool Sees(string hook) => Hook.Length == 0 || Hook == hook;

    internal void Offer(Func<HookCapture> make)
    {
        HookCapture? capture = null;
        try
        {
            // Nobody captures for a buffer that is full.
            if (_events.Reader.Count < _buffer && TryOffer(capture = make(), null))
            {
                return;
            }
        }
        catch (EngineException exception) when (exception.Error == EngineError.ResourceExhausted)
        {
            // Short of memory: a capture lost, like one that found no room.
        }

        capture?.Dispose();
        Interlocked.Increment(ref _dropped);
    }

    internal void Tell(HookFailure detached) => TryOffer(null, detached);

    internal void End(Exception? error) => _events.Writer.TryComplete(error);

    private bool TryOffer(HookCapture? capture, HookFailure? detached)
    {
        var dropped = Interlocked.Exchange(ref _dropped, 0);
        if (_events.Writer.TryWrite(new HookEvent(capture, detached, dropped)))
        {
            return true;
        }

        Interlocked.Add(ref _dropped, dropped);
        return false;
    }
}
