namespace Sconce.Engine.Execution;

/// <summary>Something that a session owns, and that goes when it ends.</summary>
internal interface ISessionOwned
{
    /// <summary>Frees it: its session has ended.</summary>
    void SessionEnded();
}

/// <summary>An open session: disposing it frees the kept tensors and live graphs that it owns.</summary>
public sealed class Session : IDisposable
{
    private readonly SessionTable _table;
    private readonly Lock _lock = new();
    private HashSet<ISessionOwned>? _owned = new(ReferenceEqualityComparer.Instance);

    internal Session(SessionTable table, string id, string label, DateTimeOffset opened) =>
        (_table, Id, Label, Opened) = (table, id, label, opened);

    /// <summary>Its id.</summary>
    public string Id { get; }

    /// <summary>The caller's label for logs and listings.</summary>
    public string Label { get; }

    /// <summary>When it was opened.</summary>
    public DateTimeOffset Opened { get; }

    /// <summary>Ends the session.</summary>
    public void Dispose()
    {
        HashSet<ISessionOwned>? owned;
        lock (_lock)
        {
            (owned, _owned) = (_owned, null);
        }

        if (owned is null)
        {
            return;
        }

        _table.Remove(Id);
        foreach (var item in owned)
        {
            item.SessionEnded();
        }
    }

    /// <summary>Makes the session own something; false where it has ended.</summary>
    internal bool TryOwn(ISessionOwned item)
    {
        lock (_lock)
        {
            return _owned?.Add(item) ?? false;
        }
    }

    /// <summary>Lets go of something that is freed already.</summary>
    internal void Disown(ISessionOwned item)
    {
        lock (_lock)
        {
            _owned?.Remove(item);
        }
    }
}
