using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary><c>copy.deepcopy</c> of modules.</summary>
public static class ModuleCopy
{
    /// <summary>Copies a subtree: structure, sharing, modes, requires_grad, dtypes, values and extra state; no gradients.</summary>
    /// <param name="tree">The tree to copy from.</param>
    /// <param name="path">The submodule to copy; empty is the whole. What the train policy says of it goes along.</param>
    /// <exception cref="EngineException">There is no such path.</exception>
    public static ModuleTree DeepCopy(ModuleTree tree, string path)
    {
        ArgumentNullException.ThrowIfNull(tree);
        var source = tree.Find(path);
        using var scope = NewDisposeScope();
        using var normal = inference_mode(false);
        var root = DeepCopy(source, BuildContext.ForCopies(onMeta: false));
        ModuleBuilder.Keep(root);
        var copy = new ModuleTree(root);
        copy.Policy.TakeFrom(tree.Policy, path);
        return copy;
    }

    /// <summary>Copies nodes into the caller's dispose scope.</summary>
    internal static ModuleNode DeepCopy(ModuleNode source, BuildContext context)
    {
        var made = new Dictionary<ModuleNode, ModuleNode>(ReferenceEqualityComparer.Instance);
        var root = Make(source, made, context);
        var pairs = ModuleTree.Walk(source).Zip(ModuleTree.Walk(root), (from, to) => (From: from.Node, To: to.Node)).ToList();
        Bind(pairs, context.OnMeta);
        if (!context.OnMeta)
        {
            pairs.ForEach(pair => Fill(pair.From, pair.To));
        }

        return root;
    }

    private static ModuleNode Make(ModuleNode node, Dictionary<ModuleNode, ModuleNode> made, BuildContext context)
    {
        if (made.TryGetValue(node, out var known))
        {
            return known;
        }

        var given = node.GivenChildren.Select(child => KeyValuePair.Create(child.Key, Make(child.Value, made, context))).ToList();
        var copy = context.Create(node.Origin with { Given = given });
        made[node] = copy;

        // A type makes the children that it was not given anew; where some were changed since, or are shared with what is copied already, each counts.
        if (ModuleTree.Walk(node).Any(at => at.Node.Additions.Any || (at.Node != node && made.ContainsKey(at.Node))))
        {
            foreach (var (name, child) in node.Children)
            {
                var target = Make(child, made, context);
                if (copy.Children.FirstOrDefault(existing => existing.Key == name).Value != target)
                {
                    copy.SetChild(name, target);
                }
            }

            copy.Additions.Children.UnionWith(node.Additions.Children);
            copy.Rewire();
        }

        foreach (var (from, to) in ModuleTree.Walk(node).Zip(ModuleTree.Walk(copy)))
        {
            made.TryAdd(from.Node, to.Node);
        }

        return copy;
    }

    // Registered parameters and buffers; a parameter under several names is one in the copy too.
    private static void Bind(List<(ModuleNode From, ModuleNode To)> pairs, bool onMeta)
    {
        var parameters = new Dictionary<Parameter, Parameter>(ReferenceEqualityComparer.Instance);
        foreach (var (from, to) in pairs)
        {
            foreach (var slot in from.Slots.Where(slot => slot.Parameter is not null && !from.Additions.Bound.Contains(slot.Name)))
            {
                parameters[slot.Parameter!] = to.Slots.First(other => other.Name == slot.Name).Parameter!;
            }
        }

        foreach (var (from, to) in pairs)
        {
            foreach (var slot in from.Slots.Where(slot => from.Additions.Bound.Contains(slot.Name)))
            {
                to.SetParameter(slot.Name, slot.Parameter is null ? null : CopyOf(slot.Parameter));
            }

            foreach (var slot in from.BufferSlots.Where(slot => from.Additions.BoundBuffers.Contains(slot.Name)))
            {
                // One of the node's own stays: its forward holds on to it.
                var own = from.Additions.Buffers.Contains(slot.Name) ? null : to.BufferSlots.First(other => other.Name == slot.Name).Tensor;
                to.SetBuffer(slot.Name, own ?? (slot.Tensor is null ? null : Like(slot.Tensor)), slot.Persistent);
            }
        }

        Parameter CopyOf(Parameter parameter)
        {
            if (!parameters.TryGetValue(parameter, out var copy))
            {
                parameters[parameter] = copy = new Parameter(Like(parameter), requires_grad: false);
            }

            return copy;
        }

        Tensor Like(Tensor tensor) => empty(tensor.shape, dtype: tensor.dtype, device: onMeta ? META : tensor.device);
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

        to.ExtraState = from.ExtraState?.clone();
    }
}
