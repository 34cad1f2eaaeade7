using System.Collections.Concurrent;
using System.Diagnostics;

namespace Sconce.Engine.Weights.Script;

/// <summary>
/// Sees calls of TorchScript modules, and backwards through them, that outlive the operator's limit: a loop in native code cannot be stopped, and holds its lane and its module for ever, so the process must end
/// for its supervisor.
/// </summary>
internal sealed class ScriptWatch : IDisposable
{
    private static readonly TimeSpan Least = TimeSpan.FromMilliseconds(10);
    private static readonly TimeSpan Most = TimeSpan.FromSeconds(1);

    private readonly ConcurrentDictionary<long, (long Start, string Doing, ScriptNode Node, string Path)> _calls = new();
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

    /// <summary>Calls that run now.</summary>
    public int Running => _calls.Count;

    /// <summary>Times something that a TorchScript module does, until what is returned is disposed.</summary>
    /// <param name="node">The module, or a part of it; null times nothing.</param>
    /// <param name="doing">What it does, for people: <c>forward</c>.</param>
    /// <param name="path">Where it is in the module that is hosted.</param>
    public static Timed Begin(ScriptNode? node, string doing, string path = "") => node?.File.Watch is { } watch ? new Timed(watch, watch.Add(node, doing, path)) : default;

    /// <inheritdoc/>
    public void Dispose() => _timer.Dispose();

    private long Add(ScriptNode node, string doing, string path)
    {
        var number = Interlocked.Increment(ref _last);
        _calls[number] = (Stopwatch.GetTimestamp(), doing, node, path);
        return number;
    }

    private void Look()
    {
        foreach (var (_, (start, doing, node, path)) in _calls)
        {
            if (Stopwatch.GetElapsedTime(start) > _limit && Overdue is { } tell && Interlocked.Exchange(ref _told, 1) == 0)
            {
                tell($"{doing} of {node.Display(path)} of {EngineException.Quote(node.Owner)}, the TorchScript file {EngineException.Quote(node.File.Name)},");
            }
        }
    }

    /// <summary>Something that is timed.</summary>
    public readonly struct Timed(ScriptWatch? watch, long number) : IDisposable
    {
        /// <summary>It has ended.</summary>
        public void Dispose() => _ = watch?._calls.TryRemove(number, out _);
    }
}
