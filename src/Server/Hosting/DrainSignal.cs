using Sconce.Engine;

namespace Sconce.Server.Hosting;

/// <summary>Tells open streams and new calls that the server is stopping.</summary>
internal sealed class DrainSignal : IDisposable
{
    private readonly CancellationTokenSource _draining = new();

    private readonly CancellationTokenSource _closing = new();

    /// <summary>Fires when draining begins.</summary>
    public CancellationToken Token => _draining.Token;

    /// <summary>Fires when what is still open is to be cut: streams that have no end of their own, such as a watch of the health.</summary>
    public CancellationToken Closing => _closing.Token;

    public bool IsDraining => _draining.IsCancellationRequested;

    public void Begin() => _draining.Cancel();

    /// <summary>Leaves a moment for last answers to be written, and the status of the health to be seen.</summary>
    public void Close() => _closing.CancelAfter(TimeSpan.FromMilliseconds(500));

    /// <summary>What a caller gets meanwhile. Another server, or this one after its restart, can take the call.</summary>
    public static EngineException Refusal() =>
        new(EngineError.Unavailable, "DRAINING", "the server is stopping; retry once it is back") { RetryAfter = TimeSpan.FromSeconds(1) };

    public void Dispose()
    {
        _draining.Dispose();
        _closing.Dispose();
    }
}
