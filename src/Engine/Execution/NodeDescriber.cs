using Sconce.Engine.Hooks;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Execution;

/// <summary>Describes modules as they are now; runs on a lane, under the module's gate.</summary>
internal static class NodeDescriber
{
    /// <summary>Describes a node and what is below it.</summary>
    public static NodeDescription Describe(string name, string path, ModuleNode node, HookPlan hooks) =>
        new(name, path, node.TypeName, node.ExtraRepr, node.Training,
            [.. node.Parameters.Select(parameter => Describe(parameter, node.IsUninitialized(parameter.Name)))],
            [.. node.Buffers.Select(buffer => Describe(buffer, node.IsUninitialized(buffer.Name)))],
            [.. node.Children.Select(child => Describe(child.Key, ModuleTree.Join(path, child.Key), child.Value, hooks))],
            [.. hooks.Places.Where(place => place.Node == node).Select(place => place.Hook.Id).Distinct(StringComparer.Ordinal)]);

    private static TensorDescription Describe(NamedParameter named, bool uninitialized)
    {
        // Each read of .grad makes a new wrapper.
        using var gradient = named.Parameter.grad;
        return new(named.Name, named.Parameter.dtype.ToElementType(), uninitialized ? [] : named.Parameter.shape, named.Parameter.requires_grad, true, gradient is not null, uninitialized);
    }

    private static TensorDescription Describe(NamedBuffer named, bool uninitialized) =>
        new(named.Name, named.Tensor.dtype.ToElementType(), uninitialized ? [] : named.Tensor.shape, named.Tensor.requires_grad, named.Persistent, false, uninitialized);
}
