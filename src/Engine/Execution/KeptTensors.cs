using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Execution;

/// <summary>A tensor kept on the host, without its content.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Type">Element type.</param>
/// <param name="Shape">Sizes of its dimensions.</param>
/// <param name="Bytes">Bytes charged for it.</param>
/// <param name="Session">The session that owns it; empty for none.</param>
/// <param name="Expires">When it goes unless it is used before.</param>
public sealed record KeptTensorInfo(string Id, ElementType Type, IReadOnlyList<long> Shape, long Bytes, string Session, DateTimeOffset Expires);

/// <summary>The tensors kept on the host. May be used from any thread.</summary>
public sealed class KeptTensors
{
    private readonly Dictionary<string, Entry> _entries = new(StringComparer.Ordinal);
    private readonly Lock _lock = new();
    private readonly EngineOptions _options;
    private readonly MemoryLedger _ledger;
    private readonly SessionTable _sessions;
    private readonly TimeProvider _time;

    internal KeptTensors(EngineOptions options, MemoryLedger ledger, SessionTable sessions, TimeProvider time) =>
        (_options, _ledger, _sessions, _time) = (options, ledger, sessions, time);

    /// <summary>Keeps a copy of a tensor.</summary>
    /// <param name="id">Id to keep it under; empty lets the host choose one.</param>
    /// <param name="payload">The tensor.</param>
    /// <param name="ttl">Time to live, restarted by each use; null takes the host's default.</param>
    /// <param name="session">The session that owns it; empty for none.</param>
    /// <param name="field">Where the tensor stands in the request, for errors.</param>
    /// <exception cref="EngineException">The tensor or id is malformed, the id is taken, the session unknown, or a budget full.</exception>
    public KeptTensorInfo Put(string id, in TensorPayload payload, TimeSpan? ttl, string session, string field = "tensor")
    {
        ArgumentNullException.ThrowIfNull(id);
        ArgumentNullException.ThrowIfNull(session);
        if (id.Length == 0)
        {
            id = Ids.New("t");
        }
        else
        {
            Ids.Check(id, "id");
        }

        var lifetime = TimeToLive.Check(ttl, _options.KeptTensorTtl, _options, "ttl");
        var owner = _sessions.Find(session);
        var path = new FieldPath("", field);
        var bytes = TensorLayout.ByteLength(payload.Type, payload.Shape, path);
        lock (_lock)
        {
            // Seen before the memory is charged and filled; decided below.
            CheckFree(id);
        }

        var charge = new MemoryCharge(_ledger, MemoryUse.KeptTensors, "the kept tensor", id, bytes);
        Entry? entry = null, expired = null;
        try
        {
            var tensor = TensorImport.Import(payload, path, mayShare: false).DetachFromDisposeScope();
            entry = new Entry(this, id, payload.Type, [.. payload.Shape], tensor, charge, owner, lifetime) { Expires = _time.GetUtcNow() + lifetime };
            lock (_lock)
            {
                CheckFree(id);
                expired = Place(entry);
                return entry.Describe();
            }
        }
        catch
        {
            entry?.Tensor.Dispose();
            charge.Dispose();
            throw;
        }
        finally
        {
            // One of that id that no sweep has come by since it expired.
            expired?.Free();
        }
    }

    /// <summary>Keeps a tensor that a hook captured, in place of what was kept under its id.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="tensor">The tensor; it stays the caller's, and its memory is shared.</param>
    /// <param name="ttl">Time to live; null takes the host's default.</param>
    /// <param name="session">The session that owns it; empty for none.</param>
    internal void Replace(string id, Tensor tensor, TimeSpan? ttl, string session)
    {
        var lifetime = TimeToLive.Check(ttl, _options.KeptTensorTtl, _options, "ttl");
        var owner = _sessions.Find(session);
        var charge = new MemoryCharge(_ledger, MemoryUse.KeptTensors, "the kept tensor", id, tensor.numel() * tensor.ElementSize);
        var entry = new Entry(this, id, tensor.dtype.ToElementType(), tensor.shape, tensor.alias().DetachFromDisposeScope(), charge, owner, lifetime) { Expires = _time.GetUtcNow() + lifetime };
        Entry? old = null;
        try
        {
            lock (_lock)
            {
                old = Place(entry);
            }
        }
        catch
        {
            entry.Tensor.Dispose();
            charge.Dispose();
            throw;
        }

        old?.Free();
    }

    /// <summary>A kept tensor with its content.</summary>
    /// <param name="id">Its id.</param>
    /// <exception cref="EngineException">There is none.</exception>
    public TensorExport Get(string id)
    {
        var tensor = Use(id, ElementType.None, new FieldPath("", ""), "id");
        try
        {
            TensorSize.CheckAnswer([tensor], _options.MaxAnswerBytes);
        }
        catch
        {
            tensor.Dispose();
            throw;
        }

        return TensorExport.Take(tensor);
    }

    /// <summary>The kept tensors by id.</summary>
    /// <param name="session">Only those that this session owns; empty lists all.</param>
    /// <exception cref="EngineException">There is no such session.</exception>
    public IReadOnlyList<KeptTensorInfo> List(string session)
    {
        ArgumentNullException.ThrowIfNull(session);
        _ = _sessions.Find(session);
        var now = _time.GetUtcNow();
        lock (_lock)
        {
            return [.. _entries.Values.Where(entry => entry.Expires > now && (session.Length == 0 || entry.Owner?.Id == session))
                .Select(entry => entry.Describe()).OrderBy(info => info.Id, StringComparer.Ordinal)];
        }
    }

    /// <summary>Drops a kept tensor. Calls that were given it go on with it.</summary>
    /// <param name="id">Its id.</param>
    /// <exception cref="EngineException">There is none.</exception>
    public void Drop(string id)
    {
        ArgumentNullException.ThrowIfNull(id);
        Entry entry;
        lock (_lock)
        {
            entry = Find(id, new FieldPath("", ""), "id");
            _entries.Remove(id);
        }

        entry.Free();
    }

    /// <summary>A reference to a kept tensor for one call, which disposes it.</summary>
    internal Tensor Use(string id, ElementType expected, in FieldPath field) => Use(id, expected, field, "kept_id");

    private Tensor Use(string id, ElementType expected, in FieldPath field, string idField)
    {
        lock (_lock)
        {
            var entry = Find(id, field, idField);
            if (expected != ElementType.None && expected != entry.Type)
            {
                throw EngineException.Invalid(field.Child("dtype"), $"is {(expected.IsDefined() ? expected.Name() : (int)expected)}; the kept tensor {EngineException.Quote(id)} is {entry.Type.Name()}");
            }

            entry.Expires = _time.GetUtcNow() + entry.Lifetime;
            // Inside the lock, so that nothing frees the tensor first. The alias keeps the memory whatever happens to the entry.
            return entry.Tensor.alias();
        }
    }

    /// <summary>Frees what has expired.</summary>
    internal void Sweep()
    {
        var now = _time.GetUtcNow();
        List<Entry> expired;
        lock (_lock)
        {
            expired = [.. _entries.Values.Where(entry => entry.Expires <= now)];
            expired.ForEach(entry => _entries.Remove(entry.Id));
        }

        expired.ForEach(entry => entry.Free());
    }

    /// <summary>Frees everything.</summary>
    internal void Clear()
    {
        List<Entry> all;
        lock (_lock)
        {
            all = [.. _entries.Values];
            _entries.Clear();
        }

        all.ForEach(entry => entry.Free());
    }

    private Entry Find(string id, in FieldPath field, string idField)
    {
        if (_entries.TryGetValue(id, out var entry) && entry.Expires > _time.GetUtcNow())
        {
            return entry;
        }

        var parent = field.ToString();
        Ids.Check(id, parent.Length == 0 ? idField : $"{parent}.{idField}");
        throw EngineException.NotFound("tensor", id, "it may have been dropped or have expired; ListTensors lists those that are kept");
    }

    // In place of what was under its id, which is returned: free it outside the lock.
    private Entry? Place(Entry entry)
    {
        if (!_entries.ContainsKey(entry.Id) && _entries.Count >= _options.MaxKeptTensors)
        {
            throw EngineException.Exhausted("another kept tensor", new QuotaRef("max_kept_tensors", 1, _entries.Count, _options.MaxKeptTensors));
        }

        if (entry.Owner is { } owner && !owner.TryOwn(entry))
        {
            throw SessionTable.NotFound(owner.Id);
        }

        _entries.Remove(entry.Id, out var old);
        _entries.Add(entry.Id, entry);
        return old;
    }

    private void CheckFree(string id)
    {
        if (_entries.TryGetValue(id, out var entry) && entry.Expires > _time.GetUtcNow())
        {
            throw EngineException.AlreadyExists("tensor", id);
        }
    }

    private sealed class Entry(
        KeptTensors table, string id, ElementType type, IReadOnlyList<long> shape, Tensor tensor, MemoryCharge charge, Session? owner, TimeSpan lifetime) : ISessionOwned
    {
        public string Id => id;

        public ElementType Type => type;

        public Tensor Tensor => tensor;

        public Session? Owner => owner;

        public TimeSpan Lifetime => lifetime;

        public DateTimeOffset Expires { get; set; }

        public KeptTensorInfo Describe() => new(id, type, shape, charge.Bytes, owner?.Id ?? "", Expires);

        public void SessionEnded()
        {
            lock (table._lock)
            {
                if (table._entries.GetValueOrDefault(id) != this)
                {
                    return;
                }

                table._entries.Remove(id);
            }

            Free();
        }

        /// <summary>Frees it, once it is out of the table.</summary>
        public void Free()
        {
            owner?.Disown(this);
            tensor.Dispose();
            charge.Dispose();
        }
    }
}
