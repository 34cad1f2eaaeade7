using System.Collections.Concurrent;

namespace Sconce.Engine.Execution;

/// <summary>The modules of a host by their names, and the names that are promised: to a module that is being made, or that is not gone for good yet.</summary>
internal sealed class ModuleTable(int most)
{
    private readonly ConcurrentDictionary<string, HostedModule> _modules = new(StringComparer.Ordinal);
    private readonly HashSet<string> _reserved = new(StringComparer.Ordinal);
    private readonly Lock _lock = new();

    public int Count => _modules.Count;

    /// <summary>The modules as they are now, in no order.</summary>
    public IEnumerable<HostedModule> All => _modules.Values;

    /// <summary>The module of a name; null where there is none.</summary>
    public HostedModule? Find(string name) => _modules.GetValueOrDefault(name);

    /// <summary>Promises a name to a module that is to be made.</summary>
    /// <exception cref="EngineException">It is taken, or there are as many modules as there may be.</exception>
    public void Reserve(string name)
    {
        lock (_lock)
        {
            if (_modules.ContainsKey(name) || _reserved.Contains(name))
            {
                throw EngineException.AlreadyExists("module", name);
            }

            var count = _modules.Count + _reserved.Count;
            if (count >= most)
            {
                throw EngineException.Exhausted("another module", new QuotaRef("max_modules", 1, count, most));
            }

            _reserved.Add(name);
        }
    }

    /// <summary>Nobody has the name any more.</summary>
    public void Unreserve(string name)
    {
        lock (_lock)
        {
            _reserved.Remove(name);
        }
    }

    /// <summary>Gives a module its name, which was promised to it or was another's.</summary>
    public HostedModule Publish(HostedModule module)
    {
        lock (_lock)
        {
            _reserved.Remove(module.Name);
            _modules[module.Name] = module;
        }

        return module;
    }

    /// <summary>Takes a module away. Its name stays reserved, until its snapshots are gone too: else those of the next module of that name would go with them.</summary>
    public void Forget(HostedModule module)
    {
        lock (_lock)
        {
            _reserved.Add(module.Name);
            _modules.TryRemove(module.Name, out _);
        }
    }

    public void Clear() => _modules.Clear();
}
