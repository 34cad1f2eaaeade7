using Sconce.Engine.Catalog;
using Sconce.Engine.Tensors;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>
/// One module of a tree. The tree is Sconce's own, not TorchSharp's, so that names, order, buffers, shared submodules and conversions are
/// PyTorch's. Not thread-safe: the execution layer gives one caller at a time what changes it.
/// </summary>
public abstract class ModuleNode : IDisposable
{
    private IReadOnlyList<ParameterSlot> _slots = [];
    private IReadOnlyList<NamedParameter> _parameters = [];
    private IReadOnlyList<BufferSlot> _bufferSlots = [];
    private IReadOnlyList<NamedBuffer> _buffers = [];
    private IReadOnlyList<KeyValuePair<string, ModuleNode>> _children = [];

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

    /// <summary>What PyTorch prints between the parentheses.</summary>
    public virtual string ExtraRepr => "";

    /// <summary>Whether it is in training mode.</summary>
    public bool Training => HeldMode ?? _mode;

    /// <summary>Its own parameters, in the order of their registration; those that are None left out.</summary>
    public IReadOnlyList<NamedParameter> Parameters
    {
        get => _parameters;
        private protected set => Slots = [.. value.Select(parameter => new ParameterSlot(parameter.Name, parameter.Parameter))];
    }

    /// <summary>Its own buffers, in the order of their registration; those that are None left out.</summary>
    public IReadOnlyList<NamedBuffer> Buffers
    {
        get => _buffers;
        private protected set => BufferSlots = [.. value.Select(buffer => new BufferSlot(buffer.Name, buffer.Tensor, buffer.Persistent))];
    }

    /// <summary>Its children, in order.</summary>
    public IReadOnlyList<KeyValuePair<string, ModuleNode>> Children
    {
        get => _children;
        private protected set => (_children, IsLeaf) = (value, value.Count == 0);
    }

    /// <summary>Names of forward's inputs, in order; <c>?</c> ends one that may be left out.</summary>
    public IReadOnlyList<string> InputNames => [.. Inputs.Select(input => input.ToString())];

    /// <summary>The same, parsed.</summary>
    internal IReadOnlyList<InputName> Inputs { get; private protected set; }

    /// <summary>What it was made of, so that it can be made again.</summary>
    internal NodeOrigin Origin { get; private protected set; }

    /// <summary>Whether all that it computes with is what it names, so that nothing else refers to the memory of its tensors. Code of others may keep views.</summary>
    internal virtual bool IsKnown => true;

    /// <summary>Its own parameters with those that are None.</summary>
    internal IReadOnlyList<ParameterSlot> Slots
    {
        get => _slots;
        private protected set => (_slots, _parameters) = (value, [.. value.Where(slot => slot.Parameter is not null).Select(slot => new NamedParameter(slot.Name, slot.Parameter!))]);
    }

    /// <summary>Its own buffers with those that are None.</summary>
    internal IReadOnlyList<BufferSlot> BufferSlots
    {
        get => _bufferSlots;
        private protected set => (_bufferSlots, _buffers) = (value, [.. value.Where(slot => slot.Tensor is not null).Select(slot => new NamedBuffer(slot.Name, slot.Tensor!, slot.Persistent))]);
    }

    /// <summary>Children that a spec would give it; those that its type makes by itself are not among them.</summary>
    internal IReadOnlyList<KeyValuePair<string, ModuleNode>> GivenChildren => Origin.Type.Children == ChildRule.Any ? Children : Origin.Given;

    /// <summary>What was registered after it was made.</summary>
    internal NodeAdditions Additions { get; } = new();

    /// <summary>What <c>set_extra_state</c> was given: bytes; null for none.</summary>
    internal Tensor? ExtraState { get; set; }

    /// <summary>Whether its forward computes without calling children.</summary>
    internal bool IsLeaf { get; private set; } = true;

    /// <summary>The mode that the train policy holds it in, whatever Train says; null for none.</summary>
    internal bool? HeldMode
    {
        get;
        set
        {
            field = value;
            ModeChanged();
        }
    }

    /// <summary>The requires_grad that the train policy holds its parameters at; null for none.</summary>
    internal bool? HeldRequiresGrad { get; set; }

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

    /// <summary>Sets training mode here and below, save where the train policy holds a module.</summary>
    /// <param name="mode">True for training, false for eval.</param>
    public void Train(bool mode)
    {
        // Each node once: shared submodules would make a deep tree of them exponential.
        foreach (var (_, node) in ModuleTree.Walk(this))
        {
            node.SetMode(mode, isTarget: ReferenceEquals(node, this));
            node.HoldRequiresGrad();
        }
    }

    /// <summary>Takes another node's mode and the train policy's hold on it, for copies.</summary>
    internal void TakeModeOf(ModuleNode other)
    {
        _mode = other._mode;
        HeldMode = other.HeldMode;
        HeldRequiresGrad = other.HeldRequiresGrad;
    }

    /// <summary>Takes what Train asked for. A node that stands for a foreign module asks that module, which may set the modes of its parts itself.</summary>
    /// <param name="mode">True for training.</param>
    /// <param name="isTarget">Whether Train was called on this node, not on one above it.</param>
    internal virtual void SetMode(bool mode, bool isTarget) => _mode = mode;

    /// <summary>What Train asked for last, whatever the policy holds.</summary>
    internal bool Mode { get => _mode; private protected set => _mode = value; }

    /// <summary>Takes up a mode that a snapshot has; its parts have theirs.</summary>
    internal void RestoreMode(bool mode)
    {
        _mode = mode;
        ModeChanged();
    }

    /// <summary>Called when <see cref="Training"/> may have changed other than by <see cref="SetMode"/>.</summary>
    private protected virtual void ModeChanged()
    {
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

    /// <summary>Sets requires_grad of its own parameters to what the train policy holds it at, where it does and their dtype allows it.</summary>
    internal void HoldRequiresGrad()
    {
        if (HeldRequiresGrad is { } held)
        {
            foreach (var (_, parameter) in Parameters.Where(p => !held || NativeSetData.CanRequireGrad(p.Parameter.dtype.ToElementType())))
            {
                parameter.requires_grad_(held);
            }
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
            throw CallFailure.Translate(exception, $"{Display(context.Path)[..^1]}({ExtraRepr}))", inputs, context.Field, OddTypes(inputs));
        }

        return Finish(output, inputs, context);
    }

    // Which of its own tensors may be to blame for a dtype that does not fit; empty where they are all of one floating dtype, as modules are made. Counters,
    // which are integers, are what they should be.
    private string OddTypes(IReadOnlyList<TensorTree> inputs)
    {
        var own = Parameters.Select(p => (p.Name, Tensor: (Tensor)p.Parameter)).Concat(Buffers.Where(buffer => buffer.Tensor.Dimensions > 0).Select(buffer => (buffer.Name, buffer.Tensor))).ToList();
        var given = inputs.SelectMany(input => input.Flatten()).FirstOrDefault()?.dtype;
        return own.Select(one => one.Tensor.dtype).Distinct().Count() < 2 && own.All(one => one.Tensor.is_floating_point()) ? ""
            : string.Join(", ", own.Where(one => one.Tensor.dtype != given).Take(4).Select(one => $"its {EngineException.Quote(one.Name)} is {one.Tensor.dtype.ToElementType().Name()}"));
    }

    /// <summary>What follows the computation of every call, those that a foreign module makes of its parts included.</summary>
    private protected TensorTree Finish(TensorTree output, IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        if (IsLeaf)
        {
            context.Made(output, inputs);
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

    /// <summary>Calls a child, which may be one that took the place of the type's own, for one tensor.</summary>
    private protected Tensor CallForTensor(string name, ModuleNode child, TensorTree input, CallContext context) => OneTensor(name, CallChild(name, child, [input], context), context);

    /// <summary>What a child gave, which must be one tensor.</summary>
    private protected Tensor OneTensor(string name, TensorTree output, CallContext context) => output.Tensor
        ?? throw Refuse(context, $"calls {EngineException.Quote(name)} for one tensor; it gave {(output.IsNone ? "None" : "a tuple")}");

    /// <summary>What <see cref="ChildProblem"/> says of a child that is called with one input.</summary>
    private protected static string? UnlessOneInput(ModuleNode child) => child.Inputs.Count(input => !input.Optional) > 1 ? "it is called with one input" : null;

    /// <summary>Computes the output of a node that stands behind this one; hooks and counts are this one's.</summary>
    private protected static TensorTree ForwardOf(ModuleNode node, IReadOnlyList<TensorTree> inputs, CallContext context) => node.Forward(inputs, context);

    /// <summary>Computes the output. The inputs are in the order of the type's inputs, None for those left out.</summary>
    /// <param name="inputs">One value for each input.</param>
    /// <param name="context">What goes with the call.</param>
    protected abstract TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context);

    /// <summary>The child of a name.</summary>
    private protected ModuleNode Child(string name) => Children.First(child => child.Key == name).Value;

    /// <summary>After children changed, here or below: takes up those that forward calls, and says where it cannot.</summary>
    internal virtual void Rewire()
    {
    }

    /// <summary>Why forward could not call a child of this name; null where it can, or does not call it.</summary>
    internal virtual string? ChildProblem(string name, ModuleNode child) => null;

    /// <summary>Whether a child that is added is called by forward.</summary>
    private protected virtual bool CallsAdded => false;

    /// <summary>Forward takes up another parameter, or None, under one of its own names; false where it cannot.</summary>
    private protected virtual bool Rebind(string name, Parameter? parameter) => false;

    /// <summary>Puts a parameter, or None, under a name; false where forward must have the one that it has.</summary>
    internal bool SetParameter(string name, Parameter? parameter)
    {
        var at = IndexOf(_slots, slot => slot.Name == name);
        var own = at >= 0 && !Additions.Parameters.Contains(name);
        if (own && !Rebind(name, parameter))
        {
            return false;
        }

        Additions.Bound.Add(name);
        if (at < 0)
        {
            Additions.Parameters.Add(name);
            Slots = [.. _slots, new ParameterSlot(name, parameter)];
        }
        else
        {
            Slots = [.. _slots.Take(at), _slots[at] with { Parameter = parameter }, .. _slots.Skip(at + 1)];
        }

        return true;
    }

    /// <summary>Puts a buffer, or None, under a name. One that forward uses must be the same tensor.</summary>
    internal void SetBuffer(string name, Tensor? tensor, bool persistent)
    {
        var at = IndexOf(_bufferSlots, slot => slot.Name == name);
        if (at < 0)
        {
            Additions.Buffers.Add(name);
        }

        Additions.BoundBuffers.Add(name);
        BufferSlots = at < 0 ? [.. _bufferSlots, new BufferSlot(name, tensor, persistent)]
            : [.. _bufferSlots.Take(at), new BufferSlot(name, tensor, persistent), .. _bufferSlots.Skip(at + 1)];
    }

    /// <summary>Puts a child under a name, in the place of the one that was there, or at the end. <see cref="Rewire"/> must follow.</summary>
    internal void SetChild(string name, ModuleNode child)
    {
        var at = IndexOf(_children, existing => existing.Key == name);
        Additions.Children.Add(name);
        IsLeaf = IsLeaf && !CallsAdded;
        _children = at < 0 ? [.. _children, new(name, child)] : [.. _children.Take(at), new(name, child), .. _children.Skip(at + 1)];
    }

    /// <summary>Takes back <see cref="SetChild"/>.</summary>
    internal void RestoreChildren(IReadOnlyList<KeyValuePair<string, ModuleNode>> children, bool wasLeaf) => (_children, IsLeaf) = (children, wasLeaf);

    private static int IndexOf<T>(IReadOnlyList<T> items, Predicate<T> match)
    {
        for (var i = 0; i < items.Count; i++)
        {
            if (match(items[i]))
            {
                return i;
            }
        }

        return -1;
    }

    /// <summary>Draws the initial values that its constructor draws beside its children's.</summary>
    internal virtual void Initialise() => ResetParameters();

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

        ExtraState?.Dispose();
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
