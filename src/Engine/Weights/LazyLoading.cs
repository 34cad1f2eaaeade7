using Sconce.Engine.Execution;
using Sconce.Engine.Modules;

namespace Sconce.Engine.Weights;

/// <summary>Lazy modules without a shape in a load: as in PyTorch they take the shapes of what is loaded.</summary>
internal sealed class LazyLoading
{
    private readonly List<(LazyNode Node, long Size, bool IsWhole)> _shaped = [];
    private readonly Dictionary<string, long[]> _shapes = new(StringComparer.Ordinal);
    private readonly Dictionary<string, string> _refused = new(StringComparer.Ordinal);

    public LazyLoading(ModuleNode subtree, IReadOnlyList<StateEntryInfo> entries)
    {
        // A shared one has keys under each of its names.
        var lazies = ModuleTree.AllPaths(subtree).Where(at => at.Node is LazyNode { IsShapeless: true }).GroupBy(at => (LazyNode)at.Node, at => at.Path).ToList();
        if (lazies.Count == 0)
        {
            return;
        }

        var given = entries.GroupBy(entry => entry.Key, StringComparer.Ordinal).ToDictionary(group => group.Key, group => (long[])[.. group.First().Shape], StringComparer.Ordinal);
        foreach (var lazy in lazies)
        {
            var node = lazy.Key;
            var names = node.Parameters.Select(p => p.Name).Concat(node.Buffers.Select(b => b.Name)).Where(node.IsUninitialized).ToList();
            var known = lazy.SelectMany(path => names.Select(name => (Name: name, Key: ModuleTree.Join(path, name)))).Where(name => given.ContainsKey(name.Key)).ToList();
            if (known.Count == 0)
            {
                continue;
            }

            if (known.Select(name => node.SizeFor(name.Name, given[name.Key])).FirstOrDefault(size => size is not null) is not { } size)
            {
                Refuse("does not say the size of its lazy module: load it together with the weight, or call Forward once");
                continue;
            }

            try
            {
                foreach (var (name, shape) in node.ShapesFor(size))
                {
                    foreach (var path in lazy)
                    {
                        _shapes[ModuleTree.Join(path, name)] = shape;
                    }
                }

                _shaped.Add((node, size, names.All(name => known.Exists(one => one.Name == name))));
            }
            catch (EngineException exception)
            {
                Refuse($"has shape [{string.Join(", ", given[known[0].Key])}], which its lazy module cannot have: {exception.Fields[0].Description}");
            }

            void Refuse(string why)
            {
                foreach (var (_, key) in known)
                {
                    _refused[key] = why;
                }
            }
        }
    }

    /// <summary>Why a key cannot be loaded; null where it can.</summary>
    public string? Refuses(string key) => _refused.GetValueOrDefault(key);

    /// <summary>The shape that a key's tensor will have; null where that is the one it has.</summary>
    public long[]? ShapeOf(string key) => _shapes.GetValueOrDefault(key);

    /// <summary>Gives the modules their shapes; all of them or, where one fails, none. Initial values are drawn where not everything is loaded.</summary>
    public void Materialize()
    {
        try
        {
            foreach (var (node, size, isWhole) in _shaped)
            {
                node.Materialize(size, initialise: !isWhole);
            }
        }
        catch
        {
            Undo();
            throw;
        }
    }

    /// <summary>Takes the shapes back.</summary>
    public void Undo() => _shaped.ForEach(shaped => shaped.Node.Undo());
}
