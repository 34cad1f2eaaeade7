using Sconce.Engine.Catalog;

namespace Sconce.Engine.Modules;

/// <summary>Writes the spec that builds a tree again.</summary>
internal static class ModuleSpecs
{
    public static ModuleSpec Of(ModuleNode root)
    {
        var paths = new Dictionary<ModuleNode, string>(ReferenceEqualityComparer.Instance);
        return Write(root, "");

        ModuleSpec Write(ModuleNode node, string path) => new(node.Origin.Type.Name)
        {
            Args = node.Origin.Args.Given,
            Wiring = node.Origin.Wiring,
            Children = [.. node.Origin.Given.Select(child => Child(child.Key, child.Value, ModuleTree.Join(path, child.Key)))],
        };

        ChildSpec Child(string name, ModuleNode node, string path)
        {
            if (!paths.TryAdd(node, path))
            {
                return new ChildSpec(name, null, paths[node]);
            }

            return new ChildSpec(name, Write(node, path));
        }
    }
}
