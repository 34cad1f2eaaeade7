using System.Collections.Concurrent;

namespace Sconce.Engine.Execution;

/// <summary>The open sessions.</summary>
public sealed class SessionTable
{
    private const int MaxLabel = 128;

    private readonly ConcurrentDictionary<string, Session> _sessions = new(StringComparer.Ordinal);
    private readonly Lock _opening = new();
    private readonly EngineOptions _options;
    private readonly TimeProvider _time;

    internal SessionTable(EngineOptions options, TimeProvider time) => (_options, _time) = (options, time);

    /// <summary>Number of open sessions.</summary>
    public int Count => _sessions.Count;

    /// <summary>Opens a session.</summary>
    /// <param name="label">For logs and listings, at most 128 printable characters; may be empty.</param>
    /// <exception cref="EngineException">The label is bad, or too many sessions are open.</exception>
    public Session Open(string label)
    {
        ArgumentNullException.ThrowIfNull(label);
        if (label.Length > MaxLabel || label.Any(char.IsControl))
        {
            throw EngineException.Invalid("label", $"is {EngineException.Quote(label)}; it must have at most {MaxLabel} characters, none of them control characters");
        }

        lock (_opening)
        {
            if (_sessions.Count >= _options.MaxSessions)
            {
                throw EngineException.Exhausted("another session", new QuotaRef("max_sessions", 1, _sessions.Count, _options.MaxSessions));
            }

            var session = new Session(this, Ids.New("s"), label, _time.GetUtcNow());
            _sessions[session.Id] = session;
            return session;
        }
    }

    /// <summary>The session with an id, or null for the empty id.</summary>
    /// <param name="id">The id.</param>
    /// <param name="field">Where it stands in the request.</param>
    internal Session? Find(string id, string field = "session")
    {
        if (id.Length == 0)
        {
            return null;
        }

        if (_sessions.TryGetValue(id, out var session))
        {
            return session;
        }

        Ids.Check(id, field);
        throw NotFound(id);
    }

    internal static EngineException NotFound(string id) => EngineException.NotFound("session", id, "it may have ended; OpenSession opens one");

    internal void Remove(string id) => _sessions.TryRemove(id, out _);

    internal void EndAll()
    {
        foreach (var session in _sessions.Values)
        {
            session.Dispose();
        }
    }
}
