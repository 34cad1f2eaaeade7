using Sconce.Engine.Catalog;
using Sconce.Engine.Tensors;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>A root module and what belongs to the whole: its train policy and the spec it can be built from again.</summary>
public sealed class ModuleTree : IDisposable
{
    internal ModuleTree(ModuleNode root)
    {
        Root = root;
        Policy = new TrainPolicyState(root);
        LookForScripts();
    }

    /// <summary>The name under which a state dict holds a module's extra state, as PyTorch's.</summary>
    public const string ExtraStateKey = "_extra_state";

    // Identity: TorchSharp overrides equality of tensors by value.
    internal static readonly IEqualityComparer<Tensor> Same = ReferenceEqualityComparer.Instance;

    /// <summary>The root.</summary>
    public ModuleNode Root { get; }

    /// <summary>What <c>train(True)</c> must leave alone.</summary>
    public TrainPolicyState Policy { get; }

    /// <summary>The first TorchScript module in it, as of <see cref="LookForScripts"/>; null for none.</summary>
    internal Weights.Script.ScriptNode? Script { get; private set; }

    /// <summary>A spec that builds the same tree.</summary>
    public ModuleSpec Spec => ModuleSpecs.Of(Root);

    /// <summary>Bytes of parameters and buffers, shared ones once.</summary>
    public long Bytes => BytesOf(Root);

    /// <summary>Finds <see cref="Script"/> anew, after modules were added or removed.</summary>
    internal void LookForScripts() => Script = Walk(Root).Select(at => at.Node).OfType<Weights.Script.ScriptNode>().FirstOrDefault();

    /// <summary>The submodule at a path.</summary>
    /// <param name="path">Dotted path; empty is the root.</param>
    /// <exception cref="EngineException">There is none.</exception>
    public ModuleNode Find(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        return Find(Root, path) ?? throw EngineException.NotFound("submodule", path, $"paths are those of DescribeModule, e.g. {Examples()}");
    }

    /// <summary>The submodules from a root on, itself first, each once under its first path (PyTorch's <c>named_modules</c>).</summary>
    /// <param name="root">Where to begin.</param>
    public static IEnumerable<(string Path, ModuleNode Node)> Walk(ModuleNode root)
    {
        var seen = new HashSet<ModuleNode>(ReferenceEqualityComparer.Instance);
        var stack = new Stack<(string, ModuleNode)>();
        stack.Push(("", root));
        while (stack.TryPop(out var at))
        {
            var (path, node) = at;
            if (!seen.Add(node))
            {
                continue;
            }

            yield return at;
            var children = node.Children;
            for (var i = children.Count - 1; i >= 0; i--)
            {
                stack.Push((Join(path, children[i].Key), children[i].Value));
            }
        }
    }

    /// <summary>Every path of every submodule, the shared ones under all their names: as many as max_submodules at most.</summary>
    /// <param name="root">Where to begin.</param>
    internal static IEnumerable<(string Path, ModuleNode Node)> AllPaths(ModuleNode root)
    {
        var stack = new Stack<(string, ModuleNode)>();
        stack.Push(("", root));
        while (stack.TryPop(out var at))
        {
            yield return at;
            var (path, node) = at;
            for (var i = node.Children.Count - 1; i >= 0; i--)
            {
                stack.Push((Join(path, node.Children[i].Key), node.Children[i].Value));
            }
        }
    }

    /// <summary>The submodules in the order of <c>nn.Module.apply</c>: children before their parent, each visit under its path.</summary>
    /// <param name="root">Where to begin.</param>
    /// <remarks>As in PyTorch, a shared module is visited again under each of its parents, but once among siblings.</remarks>
    public static IEnumerable<(string Path, ModuleNode Node)> WalkChildrenFirst(ModuleNode root)
    {
        ArgumentNullException.ThrowIfNull(root);
        return Visit("", root);

        static IEnumerable<(string Path, ModuleNode Node)> Visit(string path, ModuleNode node) =>
            node.Children.DistinctBy(child => child.Value).SelectMany(child => Visit(Join(path, child.Key), child.Value)).Append((path, node));
    }

    /// <summary>Parameters with dotted names, a shared one once (PyTorch's <c>named_parameters</c>).</summary>
    /// <param name="root">Where to begin.</param>
    public static IReadOnlyList<NamedParameter> NamedParameters(ModuleNode root) =>
        [.. Walk(root).SelectMany(at => at.Node.Parameters.Select(p => new NamedParameter(Join(at.Path, p.Name), p.Parameter))).DistinctBy(p => p.Parameter, Same)];

    /// <summary>PyTorch's <c>state_dict</c>: its keys in its order, persistent buffers only, shared modules under all their names.</summary>
    /// <param name="root">Where to begin.</param>
    public static IReadOnlyList<StateEntry> State(ModuleNode root)
    {
        ArgumentNullException.ThrowIfNull(root);
        var entries = new List<StateEntry>();
        Add("", root);
        return entries;

        void Add(string path, ModuleNode node)
        {
            foreach (var (name, parameter) in node.Parameters)
            {
                entries.Add(new StateEntry(Join(path, name), parameter));
            }

            foreach (var buffer in node.Buffers)
            {
                if (buffer.Persistent)
                {
                    entries.Add(new StateEntry(Join(path, buffer.Name), buffer.Tensor));
                }
            }

            if (node.ExtraState is { } extra)
            {
                entries.Add(new StateEntry(Join(path, ExtraStateKey), extra) { IsExtraState = true });
            }

            foreach (var (name, child) in node.Children)
            {
                Add(Join(path, name), child);
            }
        }
    }

    /// <summary>Keys of the state dict that have no shape yet.</summary>
    internal static IReadOnlyList<string> Uninitialized(ModuleNode root) =>
    [
        .. AllPaths(root).Where(at => at.Node is LazyNode).SelectMany(at => at.Node.Parameters.Select(p => p.Name).Concat(at.Node.Buffers.Select(b => b.Name)).Where(at.Node.IsUninitialized).Select(name => Join(at.Path, name))),
    ];

    /// <summary>Bytes of parameters and buffers from a root on, shared ones once.</summary>
    /// <param name="root">Where to begin.</param>
    public static long BytesOf(ModuleNode root) =>
        Walk(root).SelectMany(at => TensorsOf(at.Node)).Distinct(Same).Sum(TensorSize.Of);

    /// <summary>All tensors that a node holds: parameters, buffers, extra state.</summary>
    internal static IEnumerable<Tensor> TensorsOf(ModuleNode node)
    {
        var held = node.Parameters.Select(p => (Tensor)p.Parameter).Concat(node.Buffers.Select(buffer => buffer.Tensor));
        return node.ExtraState is { } extra ? held.Append(extra) : held;
    }

    /// <summary>The tree as PyTorch prints it.</summary>
    /// <param name="root">Where to begin.</param>
    public static string Repr(ModuleNode root) => ModuleRepr.Of(root);

    /// <summary>Frees every tensor of the tree.</summary>
    public void Dispose()
    {
        foreach (var (_, node) in Walk(Root).ToList())
        {
            node.Dispose();
        }
    }

    internal static ModuleNode? Find(ModuleNode root, string path)
    {
        var node = root;
        foreach (var range in path.Length == 0 ? [] : path.Split('.'))
        {
            var child = node.Children.FirstOrDefault(c => c.Key == range).Value;
            if (child is null)
            {
                return null;
            }

            node = child;
        }

        return node;
    }

    /// <summary>The parameter of a dotted name; null where there is none.</summary>
    internal static Parameter? FindParameter(ModuleNode root, string name) =>
        Find(root, name[..Math.Max(name.LastIndexOf('.'), 0)])?.Parameters.FirstOrDefault(p => p.Name == name[(name.LastIndexOf('.') + 1)..])?.Parameter;

    internal static string Join(string path, string name) => path.Length == 0 ? name : $"{path}.{name}";

    private string Examples() =>
        string.Join(", ", Walk(Root).Skip(1).Take(3).Select(at => EngineException.Quote(at.Path)).DefaultIfEmpty("\"\" (the module has no submodules)"));
}
