using Sconce.Engine.Catalog;
using Sconce.Engine.Tensors;
using TorchSharp.Modules;

namespace Sconce.Engine.Modules;

/// <summary>Writes the spec that builds a tree again, with all that was registered on it; values are the state dict's matter.</summary>
internal sealed class ModuleSpecs
{
    private readonly Dictionary<ModuleNode, string> _paths = new(ReferenceEqualityComparer.Instance);

    public static ModuleSpec Of(ModuleNode root)
    {
        var nodes = ModuleTree.Walk(root).ToList();
        return new ModuleSpecs().Write(root, "") with
        {
            Parameters = [.. Parameters(nodes)],
            Buffers = [.. nodes.SelectMany(at => at.Node.BufferSlots.Where(slot => at.Node.Additions.BoundBuffers.Contains(slot.Name)).Select(slot => Buffer(at.Path, slot)))],
            ExtraStates = [.. nodes.Where(at => at.Node.ExtraState is not null).Select(at => at.Path)],
        };
    }

    private ModuleSpec Write(ModuleNode node, string path)
    {
        _paths.TryAdd(node, path);
        List<ChildSpec> given = [.. node.GivenChildren.Select(child => node.Origin.Type.Children == ChildRule.Any || node.Children.Any(own => own.Value == child.Value && own.Key == child.Key)
            ? Child(child.Key, child.Value, ModuleTree.Join(path, child.Key))

            // A template, which is no part of the tree.
            : new ChildSpec(child.Key, new ModuleSpecs().Write(child.Value, "")))];
        List<ChildSpec> added = [];
        if (node.Origin.Type.Children != ChildRule.Any && ModuleTree.Walk(node).Any(at => at.Node.Additions.Children.Count > 0 || IsKnownElsewhere(at.Node, path)))
        {
            added = [.. node.Children.Select(child => Child(child.Key, child.Value, ModuleTree.Join(path, child.Key)))];
        }

        foreach (var (below, part) in ModuleTree.Walk(node).Skip(1))
        {
            _paths.TryAdd(part, ModuleTree.Join(path, below));
        }

        return new(node.Origin.Type.Name) { Args = node.Origin.Args.Given, Wiring = node.Origin.Wiring, Children = given, Added = added };
    }

    private bool IsKnownElsewhere(ModuleNode node, string path) =>
        path.Length > 0 && _paths.TryGetValue(node, out var known) && known != path && !known.StartsWith(path + ".", StringComparison.Ordinal);

    private ChildSpec Child(string name, ModuleNode node, string path) =>
        _paths.TryGetValue(node, out var known) && known != path ? new ChildSpec(name, null, known) : new ChildSpec(name, Write(node, path));

    // A parameter of several names is the one that its module's constructor makes, or else the first that was registered.
    private static IEnumerable<RegisteredSpec> Parameters(List<(string Path, ModuleNode Node)> nodes)
    {
        var names = new Dictionary<Parameter, string>(ReferenceEqualityComparer.Instance);
        foreach (var (path, node) in nodes)
        {
            foreach (var (name, parameter) in node.Parameters.Where(p => !node.Additions.Bound.Contains(p.Name)))
            {
                names.TryAdd(parameter, ModuleTree.Join(path, name));
            }
        }

        foreach (var (path, node) in nodes)
        {
            foreach (var (name, parameter, _) in node.Slots.Where(slot => node.Additions.Bound.Contains(slot.Name)))
            {
                var share = parameter is null || names.TryAdd(parameter, ModuleTree.Join(path, name)) ? "" : names[parameter];
                yield return new RegisteredSpec(path, name, parameter?.dtype.ToElementType() ?? ElementType.None, parameter?.shape ?? [], share);
            }
        }
    }

    private static RegisteredSpec Buffer(string path, BufferSlot slot) =>
        new(path, slot.Name, slot.Tensor?.dtype.ToElementType() ?? ElementType.None, slot.Tensor?.shape ?? [], Persistent: slot.Persistent);
}
