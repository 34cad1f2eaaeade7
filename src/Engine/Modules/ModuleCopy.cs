using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary><c>copy.deepcopy</c> of modules.</summary>
public static class ModuleCopy
{
    /// <summary>Copies a subtree: structure, sharing, modes, requires_grad, dtypes and values; no gradients.</summary>
    /// <param name="tree">The tree to copy from.</param>
    /// <param name="path">The submodule to copy; empty is the whole. The train policy goes along with the whole.</param>
    /// <exception cref="EngineException">There is no such path.</exception>
    public static ModuleTree DeepCopy(ModuleTree tree, string path)
    {
        ArgumentNullException.ThrowIfNull(tree);
        var source = tree.Find(path);
        using var scope = NewDisposeScope();
        using var normal = inference_mode(false);
        var root = DeepCopy(source, new BuildContext(onMeta: false, initialise: false, new BuildLimits()).ForCopies());
        ModuleBuilder.Keep(root);
        var copy = new ModuleTree(root);
        copy.Policy.TakeFrom(tree.Policy, path);
        return copy;
    }

    /// <summary>Copies nodes into the caller's dispose scope.</summary>
    internal static ModuleNode DeepCopy(ModuleNode source, BuildContext context)
    {
        var made = new Dictionary<ModuleNode, ModuleNode>(ReferenceEqualityComparer.Instance);
        var root = Make(source);
        foreach (var ((_, from), (_, to)) in ModuleTree.Walk(source).Zip(ModuleTree.Walk(root)))
        {
            Fill(from, to);
        }

        return root;

        ModuleNode Make(ModuleNode node)
        {
            if (!made.TryGetValue(node, out var copy))
            {
                var given = node.Origin.Given.Select(child => KeyValuePair.Create(child.Key, Make(child.Value))).ToList();
                made[node] = copy = context.Create(node.Origin with { Given = given });
            }

            return copy;
        }
    }

    private static void Fill(ModuleNode from, ModuleNode to)
    {
        using var quiet = no_grad();
        to.TakeModeOf(from);
        foreach (var ((_, source), (_, target)) in from.Parameters.Zip(to.Parameters))
        {
            // Off first: a source of an integer dtype never requires grad, and a target that does could not take its data.
            target.requires_grad_(false);
            using var value = source.detach().clone();
            NativeSetData.SetData(target, value);
            target.requires_grad_(source.requires_grad);
        }

        foreach (var (source, target) in from.Buffers.Zip(to.Buffers))
        {
            using var value = source.Tensor.detach().clone();
            NativeSetData.SetData(target.Tensor, value);
        }
    }
}
