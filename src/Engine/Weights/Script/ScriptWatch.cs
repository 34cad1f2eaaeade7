using System.Collections.Concurrent;
using System.Diagnostics;

namespace Sconce.Engine.Weights.Script;

/// <summary>
/// Sees calls of TorchScript modules that outlive the operator's limit: a loop in native code cannot be stopped, and holds its lane and its module for ever, so the process must end for its supervisor.
/// </summary>
internal sealed class ScriptWatch : IDisposable
{
    private static readonly TimeSpan Least = TimeSpan.FromMilliseconds(10);
    private static readonly TimeSpan Most = TimeSpan.FromSeconds(1);

    private readonly ConcurrentDictionary<long, (long Start, string What)> _calls = new();
    private readonly TimeSpan _limit;
    private readonly ITimer _timer;
    private long _last;
    private int _told;

    /// <summary>Creates one that watches.</summary>
    /// <param name="limit">How long a call may run.</param>
    /// <param name="time">The clock of the timer; calls are timed by the machine's.</param>
    public ScriptWatch(TimeSpan limit, TimeProvider time)
    {
        _limit = limit;
        var period = limit / 4;
        period = period < Least ? Least : period > Most ? Most : period;
        _timer = time.CreateTimer(static watch => ((ScriptWatch)watch!).Look(), this, period, period);
    }

    /// <summary>Is told, once, of the first call that outlived the limit.</summary>
    public Action<string>? Overdue { get; set; }

    /// <summary>Begins a call.</summary>
    /// <param name="what">Names module and file.</param>
    /// <returns>Its number, for <see cref="End"/>.</returns>
    public long Begin(string what)
    {
        var number = Interlocked.Increment(ref _last);
        _calls[number] = (Stopwatch.GetTimestamp(), what);
        return number;
    }

    /// <summary>Ends a call.</summary>
    public void End(long number) => _ = _calls.TryRemove(number, out _);

    /// <inheritdoc/>
    public void Dispose() => _timer.Dispose();

    private void Look()
    {
        foreach (var (_, (start, what)) in _calls)
        {
            if (Stopwatch.GetElapsedTime(start) > _limit && Overdue is { } tell && Interlocked.Exchange(ref _told, 1) == 0)
            {
                tell(what);
            }
        }
    }
}
