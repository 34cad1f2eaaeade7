using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>
/// One module of a tree. The tree is Sconce's own, not TorchSharp's, so that names, order, buffers, shared submodules and conversions are
/// PyTorch's. Not thread-safe: the execution layer gives one caller at a time what changes it.
/// </summary>
public abstract class ModuleNode : IDisposable
{
    // What Train asked for last, kept apart from the policy's hold so that a lifted hold gives it back.
    private bool _mode = true;

    /// <summary>Creates a node in training mode.</summary>
    /// <param name="origin">What it is made of.</param>
    private protected ModuleNode(NodeOrigin origin)
    {
        Origin = origin;
        Inputs = origin.Type.InputList;
    }

    /// <summary>PyTorch's name of its type, e.g. <c>Conv2d</c>.</summary>
    public string TypeName => Origin.Type.ClassName;

    /// <summary>PyTorch's name of the type it derives from, e.g. <c>_ConvNd</c>; <c>Module</c> where there is no other.</summary>
    public string BaseTypeName => Origin.Type.Base;

    /// <summary>What PyTorch prints between the parentheses.</summary>
    public virtual string ExtraRepr => "";

    /// <summary>Whether it is in training mode.</summary>
    public bool Training => _mode && !HeldInEval;

    /// <summary>Its own parameters, in PyTorch's order.</summary>
    public virtual IReadOnlyList<NamedParameter> Parameters => [];

    /// <summary>Its own buffers, in PyTorch's order.</summary>
    public virtual IReadOnlyList<NamedBuffer> Buffers => [];

    /// <summary>Its children, in order.</summary>
    public virtual IReadOnlyList<KeyValuePair<string, ModuleNode>> Children => [];

    /// <summary>Names of forward's inputs, in order; <c>?</c> ends one that may be left out.</summary>
    public IReadOnlyList<string> InputNames => [.. Inputs.Select(input => input.ToString())];

    /// <summary>The same, parsed.</summary>
    internal IReadOnlyList<InputName> Inputs { get; private protected init; }

    /// <summary>What it was made of, so that it can be made again.</summary>
    internal NodeOrigin Origin { get; private protected set; }

    /// <summary>Whether the train policy keeps it in eval mode.</summary>
    internal bool HeldInEval { get; set; }

    /// <summary>Whether the train policy keeps its parameters at requires_grad=False.</summary>
    internal bool Frozen { get; set; }

    /// <summary>Calls the module: binds the arguments to its inputs, then runs it.</summary>
    /// <param name="arguments">The inputs.</param>
    /// <param name="context">What goes with the call; its path is this module's.</param>
    /// <exception cref="EngineException">The inputs are missing, too many, or of a shape or dtype the module cannot take.</exception>
    public TensorTree Call(CallArguments arguments, CallContext context)
    {
        ArgumentNullException.ThrowIfNull(arguments);
        ArgumentNullException.ThrowIfNull(context);
        var inputs = arguments.Bind(this, context.Path);
        context.Field = arguments.Positional.Count == 1 && arguments.Named.Count == 0 ? $"{arguments.FieldPrefix}[0]" : arguments.FieldPrefix;
        return Invoke(inputs, context);
    }

    /// <summary>Sets training mode here and below, save where the train policy holds a module in eval.</summary>
    /// <param name="mode">True for training, false for eval.</param>
    public void Train(bool mode)
    {
        // Each node once: shared submodules would make a deep tree of them exponential.
        foreach (var (_, node) in ModuleTree.Walk(this))
        {
            node._mode = mode;
            if (node.Frozen)
            {
                node.SetRequiresGrad(false);
            }
        }
    }

    /// <summary>Takes another node's mode and the train policy's hold on it, for copies.</summary>
    internal void TakeModeOf(ModuleNode other)
    {
        _mode = other._mode;
        HeldInEval = other.HeldInEval;
        Frozen = other.Frozen;
    }

    /// <summary>Frees its own tensors, not its children's: the tree disposes each node once.</summary>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Methods beside forward that a caller may call by name.</summary>
    internal virtual IReadOnlyList<ModuleMethod> Methods => [];

    /// <summary>Whether a parameter or buffer of its own has no shape yet (PyTorch's <c>UninitializedParameter</c>).</summary>
    internal virtual bool IsUninitialized(string name) => false;

    /// <summary>Whether its type is <paramref name="type"/> or derives from it.</summary>
    internal bool IsInstance(string type) => Origin.Type.IsOrDerivesFrom(type);

    /// <summary>Children that one forward calls, as often as it does.</summary>
    internal virtual IEnumerable<ModuleNode> CalledChildren => Children.Select(child => child.Value);

    /// <summary>Functions that one forward calls beside them.</summary>
    internal virtual int OwnCalls => 0;

    /// <summary>Sets requires_grad of its own parameters.</summary>
    internal void SetRequiresGrad(bool value)
    {
        foreach (var (_, parameter) in Parameters)
        {
            parameter.requires_grad_(value);
        }
    }

    /// <summary>How messages name it, e.g. <c>module "layer1.0" (Conv2d)</c>.</summary>
    internal string Display(string path) => path.Length == 0 ? $"the module ({TypeName})" : $"module {EngineException.Quote(path)} ({TypeName})";

    /// <summary>
    /// The one way into a module, whoever calls it: every call of every node comes through here, with inputs already in the order of
    /// <see cref="Inputs"/>. A call that meets no hooks pays one comparison for them.
    /// </summary>
    internal TensorTree Invoke(IReadOnlyList<TensorTree> inputs, CallContext context) =>
        context.Hooks?.At(this) is { } hooks ? context.Hooks.Around(this, hooks, inputs, context) : Run(inputs, context);

    /// <summary>Runs the module itself, without its hooks.</summary>
    internal TensorTree Run(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        TensorTree output;
        try
        {
            output = Forward(inputs, context);
        }
        catch (Exception exception) when (CallFailure.IsNative(exception))
        {
            throw CallFailure.Translate(exception, $"{Display(context.Path)[..^1]}({ExtraRepr}))", inputs, context.Field);
        }

        if (context.CountBytes && Children.Count == 0)
        {
            context.LeafOutputBytes += CallFailure.BytesOf(output);
        }

        return output;
    }

    /// <summary>Calls a child with inputs by position.</summary>
    private protected static TensorTree CallChild(string name, ModuleNode child, IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        context.Enter(name);
        var given = inputs.Count == child.Inputs.Count ? inputs : new CallArguments([.. inputs]).Bind(child, context.Path);
        var output = child.Invoke(given, context);
        context.Leave();
        return output;
    }

    /// <summary>Computes the output of a node that stands behind this one; hooks and counts are this one's.</summary>
    private protected static TensorTree ForwardOf(ModuleNode node, IReadOnlyList<TensorTree> inputs, CallContext context) => node.Forward(inputs, context);

    /// <summary>Computes the output. The inputs are in the order of the type's inputs, None for those left out.</summary>
    /// <param name="inputs">One value for each input.</param>
    /// <param name="context">What goes with the call.</param>
    protected abstract TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context);

    /// <summary>Draws initial values anew, as PyTorch's method of that name; false where the type has no such method.</summary>
    internal virtual bool ResetParameters() => false;

    /// <summary>Frees its own tensors.</summary>
    /// <param name="disposing">True: there is no finalizer.</param>
    protected virtual void Dispose(bool disposing)
    {
        foreach (var (_, parameter) in Parameters)
        {
            parameter.Dispose();
        }

        foreach (var buffer in Buffers)
        {
            buffer.Tensor.Dispose();
        }
    }

    /// <summary>The input at an index, which must be one tensor.</summary>
    private protected Tensor TensorAt(IReadOnlyList<TensorTree> inputs, int index, CallContext context) =>
        inputs[index].Tensor ?? throw EngineException.Invalid(context.Field,
            $"{Display(context.Path)} takes one tensor as {EngineException.Quote(Inputs[index].Name)}; it was given {(inputs[index].IsNone ? "None" : "a tuple")}", "INPUT_MISMATCH");

    /// <summary>The input at an index, which may be None.</summary>
    private protected Tensor? OptionalTensorAt(IReadOnlyList<TensorTree> inputs, int index, CallContext context) =>
        inputs[index].IsNone ? null : TensorAt(inputs, index, context);

    /// <summary>An error about the inputs of the call now running.</summary>
    private protected EngineException Refuse(CallContext context, string message) =>
        EngineException.Invalid(context.Field, $"{Display(context.Path)} {message}", "SHAPE_MISMATCH");
}
