using Sconce.Engine.Catalog;
using Sconce.Engine.Tensors;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>Reads one spec into nodes, children before their parent.</summary>
internal sealed class SpecReader(BuildContext context, ElementType floatType)
{
    // What has been built, by path from the root. A parent is built after its children, so no share can make a cycle.
    private readonly Dictionary<string, ModuleNode> _built = [];

    public ModuleNode Read(ModuleSpec spec, string path, string field, int depth)
    {
        if (depth > context.Limits.MaxDepth)
        {
            throw EngineException.Invalid(field, $"modules are nested more than {context.Limits.MaxDepth} deep; raise max_spec_depth, or nest less", "SPEC_TOO_DEEP");
        }

        if (spec.Type.Length == 0)
        {
            throw EngineException.Invalid($"{field}.type", "no type was given; expected PyTorch's name, e.g. \"Linear\"", "BAD_SPEC");
        }

        var type = context.PlugIns.Find(spec.Type) ?? ModuleCatalog.Module(spec.Type, $"{field}.type", context.PlugIns.Names);
        var args = ArgumentBinder.Bind(type.Arguments, spec.Args, type.Name, $"{field}.args");
        if (spec.Wiring is not null && type.Name != "Graph")
        {
            throw EngineException.Invalid($"{field}.wiring", $"{type.Name} takes no wiring; only \"Graph\" does", "BAD_SPEC");
        }

        var children = ReadChildren(spec, type, path, field, depth);
        var node = context.Create(new NodeOrigin(type, args, floatType, children, spec.Wiring));
        _built[path] = node;
        if (spec.Added.Count > 0)
        {
            for (var i = 0; i < spec.Added.Count; i++)
            {
                var (name, below, share) = spec.Added[i];
                var at = $"{field}.added[{i}]";
                node.SetChild(name, below is null ? Shared(share!, at) : Read(below, ModuleTree.Join(path, name), at, depth + 1));
            }

            node.Rewire();
        }

        return node;
    }

    /// <summary>Registers what a spec says was registered on the tree that it was written from.</summary>
    public void Register(ModuleNode root, ModuleSpec spec)
    {
        foreach (var (path, name, type, shape, share, _) in spec.Parameters)
        {
            var node = ModuleTree.Find(root, path)!;
            node.SetParameter(name, share.Length > 0 ? ModuleTree.FindParameter(root, share) : type == ElementType.None ? null : new Parameter(Zeros(type, shape), type.IsFloatingPoint() || type.IsComplex()));
        }

        foreach (var (path, name, type, shape, _, persistent) in spec.Buffers)
        {
            var node = ModuleTree.Find(root, path)!;
            var own = node.BufferSlots.FirstOrDefault(slot => slot.Name == name)?.Tensor;
            node.SetBuffer(name, own ?? (type == ElementType.None ? null : Zeros(type, shape)), persistent);
        }

        foreach (var path in spec.ExtraStates)
        {
            ModuleTree.Find(root, path)!.ExtraState = Zeros(ElementType.UInt8, [0]);
        }
    }

    private Tensor Zeros(ElementType type, IReadOnlyList<long> shape) => zeros([.. shape], dtype: type.ToScalarType(), device: context.OnMeta ? META : CPU);

    /// <summary>Reads the children alone of a spec that a type stands for. They nest as deep as the type needs, on top of what the caller nests.</summary>
    public List<KeyValuePair<string, ModuleNode>> ReadParts(ModuleSpec spec) => ReadChildren(spec, ModuleCatalog.Module(spec.Type, "type"), "", "spec", int.MinValue);

    private List<KeyValuePair<string, ModuleNode>> ReadChildren(ModuleSpec spec, ModuleType type, string path, string field, int depth)
    {
        CheckNames(spec, type, field);
        var children = new List<KeyValuePair<string, ModuleNode>>(spec.Children.Count);
        for (var i = 0; i < spec.Children.Count; i++)
        {
            var child = spec.Children[i];
            var name = NameOf(child, i);
            var childPath = ModuleTree.Join(path, name);
            var childField = $"{field}.children[{i}]";
            ModuleNode node;
            if (child.Spec is not null && child.Share is null)
            {
                node = Read(child.Spec, childPath, $"{childField}.spec", depth + 1);
            }
            else if (child.Share is not null && child.Spec is null)
            {
                node = Shared(child.Share, $"{childField}.share");
                _built[childPath] = node;
            }
            else
            {
                throw EngineException.Invalid(childField, "exactly one of spec and share must be given", "BAD_SPEC");
            }

            children.Add(new(name, node));
        }

        return children;
    }

    private static void CheckNames(ModuleSpec spec, ModuleType type, string field)
    {
        if (spec.Children.Count > 0 && type.Children == ChildRule.None)
        {
            throw EngineException.Invalid($"{field}.children", $"{type.Name} takes no children", "BAD_SPEC");
        }

        var names = new HashSet<string>();
        for (var i = 0; i < spec.Children.Count; i++)
        {
            var name = NameOf(spec.Children[i], i);
            var at = $"{field}.children[{i}].name";
            if (AttributeNames.Problem(name, "child") is { } problem)
            {
                throw EngineException.Invalid(at, problem, "BAD_NAME");
            }

            if (!names.Add(name))
            {
                throw EngineException.Invalid(at, $"{EngineException.Quote(name)} is the name of another child too; names are unique among siblings", "BAD_NAME");
            }

            if (type.Children == ChildRule.Named && type.ChildNames.All(known => InputName.Parse(known).Name != name))
            {
                throw EngineException.Invalid(at, $"{type.Name} has no child {EngineException.Quote(name)}; it takes {string.Join(", ", type.ChildNames)}", "BAD_NAME");
            }
        }

        foreach (var needed in type.ChildNames.Where(known => !known.EndsWith('?') && !names.Contains(known)))
        {
            throw EngineException.Invalid($"{field}.children", $"{type.Name} needs a child {EngineException.Quote(needed)}", "BAD_SPEC");
        }
    }

    private static string NameOf(ChildSpec child, int index) =>
        child.Name.Length == 0 ? index.ToString(System.Globalization.CultureInfo.InvariantCulture) : child.Name;

    private ModuleNode Shared(string path, string field)
    {
        // The longest built prefix, then down from it: a share may name a part that its type made by itself.
        for (var end = path.Length; end > 0; end = path.LastIndexOf('.', end - 1))
        {
            if (_built.TryGetValue(path[..end], out var node)
                && (end == path.Length ? node : ModuleTree.Find(node, path[(end + 1)..])) is { } found)
            {
                return found;
            }
        }

        throw EngineException.Invalid(field, $"no module {EngineException.Quote(path)} was built before this one; a share names one by its path from the root, and never one that contains it", "BAD_SPEC");
    }
}
