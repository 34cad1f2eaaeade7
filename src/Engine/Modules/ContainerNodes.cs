using Sconce.Engine.Tensors;

namespace Sconce.Engine.Modules;

/// <summary><c>Sequential</c>: each child takes what the one before gave.</summary>
internal sealed class SequentialNode : ModuleNode
{
    private readonly Parts? _parts;

    /// <param name="origin">What it is made of.</param>
    /// <param name="parts">The children of a type that is a Sequential of its own making; null for those that the spec gives.</param>
    public SequentialNode(NodeOrigin origin, Parts? parts = null)
        : base(origin)
    {
        _parts = parts;
        Children = parts?.Children ?? origin.Given;
        Rewire();
    }

    private protected override bool CallsAdded => true;

    // Its inputs are those of its first child, so that a Sequential can begin with a module of several inputs' names.
    internal override void Rewire() => Inputs = _parts is null && Children.Count > 0 ? [.. Children[0].Value.Inputs] : Origin.Type.InputList;

    internal override bool ResetParameters() => _parts?.Initialise(this) ?? false;

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        if (Children.Count == 0)
        {
            return inputs[0];
        }

        var children = Children;
        var value = CallChild(children[0].Key, children[0].Value, inputs, context);
        for (var i = 1; i < children.Count; i++)
        {
            var next = CallChild(children[i].Key, children[i].Value, [value], context);

            // Frees the memory of an eval forward as it goes: the value was made here and nobody else can see it. (Under autograd the graph
            // holds what it needs by itself.) A child may hand back its own input, and the first value may be the caller's.
            if (value.Tensor is { } made && next.Tensor is { } kept && !ReferenceEquals(made, kept) && !IsInput(inputs, made))
            {
                context.Memory?.Freed(made, next);
                made.Dispose();
            }

            value = next;
        }

        return value;
    }

    private static bool IsInput(IReadOnlyList<TensorTree> inputs, TorchSharp.torch.Tensor tensor)
    {
        for (var i = 0; i < inputs.Count; i++)
        {
            if (inputs[i].Holds(tensor))
            {
                return true;
            }
        }

        return false;
    }
}

/// <summary><c>ModuleList</c>: holds children for a wiring to call; has no forward, as in PyTorch.</summary>
internal sealed class ModuleListNode : ModuleNode
{
    public ModuleListNode(NodeOrigin origin)
        : base(origin) => Children = origin.Given;

    internal override IEnumerable<ModuleNode> CalledChildren => [];

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context) => throw NoForward(this, context);

    /// <summary>What PyTorch's holders of modules say to a call.</summary>
    internal static EngineException NoForward(ModuleNode node, CallContext context) => EngineException.Invalid(context.PathField,
        $"{node.Display(context.Path)} has no forward: it only holds modules; call one of its children by path, or wire them in a Graph", "NO_FORWARD");
}

/// <summary><c>ModuleDict</c>: holds named children for a wiring to call; has no forward, as in PyTorch.</summary>
internal sealed class ModuleDictNode : ModuleNode
{
    public ModuleDictNode(NodeOrigin origin)
        : base(origin) => Children = origin.Given;

    internal override IEnumerable<ModuleNode> CalledChildren => [];

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context) => throw ModuleListNode.NoForward(this, context);
}
