using static TorchSharp.torch;

namespace Sconce.Engine.Execution;

/// <summary>
/// The live graphs of one module. A graph goes when it is used, released or expired, when its session ends, and when its module changes; for some time
/// its id is remembered, so that a Backward that comes too late is told why.
/// </summary>
internal sealed class GraphTable(string module, EngineOptions options, TimeProvider time)
{
    private const int MaxRemembered = 1024;

    private readonly Lock _lock = new();
    private readonly Dictionary<string, LiveGraph> _graphs = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Past> _past = new(StringComparer.Ordinal);
    private readonly Queue<(string Id, DateTimeOffset Until)> _pastOrder = new();

    public int Count
    {
        get
        {
            lock (_lock)
            {
                return _graphs.Count;
            }
        }
    }

    /// <summary>Refuses a call that would record one graph too many, before it runs.</summary>
    public void CheckRoom()
    {
        var count = Count;
        if (count >= options.MaxGraphsPerModule)
        {
            throw EngineException.Exhausted($"another live graph of module {EngineException.Quote(module)}",
                new QuotaRef("max_graphs_per_module", 1, count, options.MaxGraphsPerModule));
        }
    }

    public void Add(LiveGraph graph)
    {
        lock (_lock)
        {
            if (graph.Owner is { } owner && !owner.TryOwn(graph))
            {
                throw SessionTable.NotFound(owner.Id);
            }

            _graphs.Add(graph.Info.Id, graph);
        }
    }

    /// <summary>Takes a graph for a Backward; it must be given back by <see cref="Return"/>.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="generation">The module's generation now.</param>
    public LiveGraph Take(string id, ulong generation)
    {
        lock (_lock)
        {
            if (_graphs.TryGetValue(id, out var graph) && graph.Info.Expires > time.GetUtcNow())
            {
                graph.InUse = true;
                return graph;
            }

            if (graph is null && _past.TryGetValue(id, out var past))
            {
                throw past.Used
                    ? EngineException.Precondition("GRAPH_USED",
                        $"the graph {EngineException.Quote(id)} was used by an earlier Backward, which freed it; pass retain_graph there to use it again", new ResourceRef("graph", id))
                    : Invalidated(id, past.Generation, generation);
            }
        }

        throw NotFound(id);
    }

    /// <summary>Gives back what <see cref="Take"/> gave.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="used">Whether it can be used no more.</param>
    public void Return(LiveGraph graph, bool used)
    {
        lock (_lock)
        {
            graph.InUse = false;
            if (used && _graphs.Remove(graph.Info.Id))
            {
                Remember(graph, used: true);
                graph.Doomed = true;
            }

            if (!graph.Doomed)
            {
                return;
            }
        }

        graph.Free();
    }

    /// <summary>Frees a graph that its caller needs no more.</summary>
    public void Release(string id)
    {
        LiveGraph? graph;
        lock (_lock)
        {
            if (!_graphs.TryGetValue(id, out graph) || graph.Info.Expires <= time.GetUtcNow())
            {
                throw NotFound(id);
            }
        }

        Drop(graph);
    }

    /// <summary>Frees a graph, after the Backward that is running through it.</summary>
    public void Drop(LiveGraph graph)
    {
        lock (_lock)
        {
            if (!_graphs.Remove(graph.Info.Id))
            {
                return;
            }

            if (graph.InUse)
            {
                graph.Doomed = true;
                return;
            }
        }

        graph.Free();
    }

    /// <summary>Frees every graph: the module has changed, and their gradients would not be those of what it is now.</summary>
    public void Invalidate()
    {
        foreach (var graph in RemoveAll(_ => true, remember: true))
        {
            graph.Free();
        }
    }

    /// <summary>Frees the graphs that a forward which moves these buffers would spoil.</summary>
    public void InvalidateSpoilt(IReadOnlyList<Tensor> moving)
    {
        foreach (var graph in RemoveAll(graph => graph.IsSpoiltBy(moving), remember: true))
        {
            graph.Free();
        }
    }

    /// <summary>Frees every graph: the module goes.</summary>
    public void Clear()
    {
        foreach (var graph in RemoveAll(_ => true, remember: false))
        {
            graph.Free();
        }
    }

    /// <summary>Frees what has expired, and forgets ids that were remembered long enough.</summary>
    public void Sweep()
    {
        var now = time.GetUtcNow();
        List<LiveGraph> expired;
        lock (_lock)
        {
            expired = [.. _graphs.Values.Where(graph => graph.Info.Expires <= now && !graph.InUse)];
            expired.ForEach(graph => _graphs.Remove(graph.Info.Id));
            while (_pastOrder.TryPeek(out var oldest) && oldest.Until <= now)
            {
                _past.Remove(_pastOrder.Dequeue().Id);
            }
        }

        expired.ForEach(graph => graph.Free());
    }

    /// <summary>The answer to a Backward through a graph that was recorded before a change of the module.</summary>
    public EngineException Invalidated(string id, ulong recorded, ulong now) =>
        EngineException.Precondition("GRAPH_INVALIDATED",
            $"the graph {EngineException.Quote(id)} was recorded at generation {recorded} of module {EngineException.Quote(module)}, which has changed since and is at generation {now}"
            + (recorded == now ? " (a forward in training mode has moved running statistics)" : "") + "; call Forward again with record_graph",
            new ResourceRef("graph", id));

    private static EngineException NotFound(string id)
    {
        Ids.Check(id, "graph");
        return EngineException.NotFound("graph", id, "it may have been released or have expired; Forward with record_graph makes one");
    }

    // None of them is in use: only calls that have the module to themselves change it.
    private List<LiveGraph> RemoveAll(Func<LiveGraph, bool> which, bool remember)
    {
        lock (_lock)
        {
            List<LiveGraph> removed = [.. _graphs.Values.Where(which)];
            foreach (var graph in removed)
            {
                _graphs.Remove(graph.Info.Id);
                if (remember)
                {
                    Remember(graph, used: false);
                }
            }

            return removed;
        }
    }

    private void Remember(LiveGraph graph, bool used)
    {
        if (_pastOrder.Count >= MaxRemembered)
        {
            _past.Remove(_pastOrder.Dequeue().Id);
        }

        _past[graph.Info.Id] = new Past(used, graph.Generation);
        _pastOrder.Enqueue((graph.Info.Id, time.GetUtcNow() + options.GraphTtl));
    }

    private readonly record struct Past(bool Used, ulong Generation);
}
