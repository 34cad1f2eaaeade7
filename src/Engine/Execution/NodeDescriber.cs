using Sconce.Engine.Hooks;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Execution;

/// <summary>Describes modules as they are now; runs on a lane, under the module's gate. What is there under two names is the same under the second.</summary>
internal sealed class NodeDescriber(HookPlan hooks)
{
    private readonly ILookup<ModuleNode, string> _hooks = hooks.Entries.SelectMany(entry => entry.Matches, (entry, match) => (match.Node, entry.Hook.Id)).ToLookup(at => at.Node, at => at.Id);
    private readonly Dictionary<ModuleNode, string> _nodes = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<Tensor, string> _tensors = new(ModuleTree.Same);

    /// <summary>Describes a node and what is below it.</summary>
    /// <param name="path">Its path.</param>
    /// <param name="node">The node.</param>
    /// <param name="hooks">The registered hooks; null for none.</param>
    public static NodeDescription Describe(string path, ModuleNode node, HookPlan? hooks = null) => new NodeDescriber(hooks ?? HookPlan.Empty).Node("", path, node);

    /// <summary>Describes one parameter.</summary>
    public static TensorDescription Describe(ParameterSlot slot)
    {
        if (slot.Parameter is not { } parameter)
        {
            return new(slot.Name, ElementType.None, [], false, true, false) { IsNone = true };
        }

        // Each read of .grad makes a new wrapper.
        using var gradient = parameter.grad;
        return new(slot.Name, parameter.dtype.ToElementType(), parameter.shape, parameter.requires_grad, true, gradient is not null) { Format = MemoryFormats.Of(parameter) };
    }

    /// <summary>Describes one buffer.</summary>
    public static TensorDescription Describe(BufferSlot slot) => slot.Tensor is not { } tensor
        ? new(slot.Name, ElementType.None, [], false, slot.Persistent, false) { IsNone = true }
        : new(slot.Name, tensor.dtype.ToElementType(), tensor.shape, tensor.requires_grad, slot.Persistent, false) { Format = MemoryFormats.Of(tensor) };

    private NodeDescription Node(string name, string path, ModuleNode node)
    {
        var alias = _nodes.TryAdd(node, path) ? "" : _nodes[node];
        return new(name, path, node.TypeName, node.ExtraRepr, node.Training,
            [.. node.Slots.Select(slot => Shaped(Describe(slot), node) with { AliasOf = AliasOf(slot.Parameter, path, slot.Name) })],
            [.. node.BufferSlots.Select(slot => Shaped(Describe(slot), node) with { AliasOf = AliasOf(slot.Tensor, path, slot.Name) })],
            [.. node.Children.Select(child => Node(child.Key, ModuleTree.Join(path, child.Key), child.Value))],
            [.. _hooks[node]])
        {
            AliasOf = alias,
            HeldMode = node.HeldMode,
            HeldRequiresGrad = node.HeldRequiresGrad,
            ExtraStateBytes = node.ExtraState?.numel(),
        };
    }

    // The tensors of a lazy module have no shape that means anything before its first forward.
    private static TensorDescription Shaped(TensorDescription description, ModuleNode node) =>
        node.IsUninitialized(description.Name) ? description with { Shape = [], Uninitialized = true } : description;

    private string AliasOf(Tensor? tensor, string path, string name) =>
        tensor is null || _tensors.TryAdd(tensor, ModuleTree.Join(path, name)) ? "" : _tensors[tensor];
}
