using Sconce.Engine.Execution;
using Sconce.Engine.Modules;

namespace Sconce.Engine.Weights;

/// <summary>Lazy modules without a shape in a load: as in PyTorch they take the shapes of what is loaded.</summary>
internal sealed class LazyLoading
{
    private readonly List<(LazyNode Node, long Size)> _shaped = [];
    private readonly Dictionary<string, long[]> _shapes = new(StringComparer.Ordinal);
    private readonly Dictionary<string, string> _refused = new(StringComparer.Ordinal);

    public LazyLoading(ModuleNode subtree, IReadOnlyList<StateEntryInfo> entries)
    {
        var lazies = ModuleTree.Walk(subtree).Where(at => at.Node is LazyNode { IsShapeless: true }).Select(at => (at.Path, Node: (LazyNode)at.Node)).ToList();
        if (lazies.Count == 0)
        {
            return;
        }

        var given = entries.GroupBy(entry => entry.Key, StringComparer.Ordinal).ToDictionary(group => group.Key, group => (long[])[.. group.First().Shape], StringComparer.Ordinal);
        foreach (var (path, node) in lazies)
        {
            var names = node.Parameters.Select(p => p.Name).Concat(node.Buffers.Select(b => b.Name)).Where(node.IsUninitialized).Select(name => (Name: name, Key: ModuleTree.Join(path, name))).ToList();
            var known = names.Where(name => given.ContainsKey(name.Key)).ToList();
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
                    _shapes[ModuleTree.Join(path, name)] = shape;
                }

                _shaped.Add((node, size));
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

    /// <summary>Gives the modules their shapes.</summary>
    public void Materialize()
    {
        foreach (var (node, size) in _shaped)
        {
            node.Materialize(size);
        }
    }
}
