using Sconce.Engine.Catalog;
using Sconce.Engine.Tensors;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>
/// <c>LazyLinear</c> and its like. Until the first forward its parameters have names, a dtype and requires_grad, but no shape; from then on it is of
/// the plain type in all that can be seen, and another node, made for the size of that input, computes behind it.
/// </summary>
internal sealed class LazyNode : ModuleNode
{
    private readonly LazyRule _rule;
    private readonly BuildLimits _limits;
    private readonly NodeOrigin _lazy;
    private readonly HashSet<string> _shapeless = [];

    // Those of its constructor, in the order in which it makes them: others may have been registered since.
    private readonly List<Tensor> _tensors;
    private ModuleNode? _made;

    public LazyNode(NodeOrigin origin, BuildContext context, LazyRule rule)
        : base(origin)
    {
        _rule = rule;
        _lazy = origin;
        _limits = context.Limits;

        // One of the least size, on no memory, tells what there will be, and refuses what the constructor refuses.
        var model = Model(rule.Least(origin.Args));
        Slots = [.. model.Slots.Select(slot => new ParameterSlot(slot.Name, slot.Parameter is null ? null : context.Parameter(origin, 0)))];
        Buffers =
        [
            .. model.Buffers.Select(buffer => buffer with { Tensor = buffer.Tensor.Dimensions == 0 ? context.Counter(origin) : context.Buffer(origin, 0, 0) }),
        ];
        _tensors = [.. ModuleTree.TensorsOf(this)];
        _shapeless.UnionWith(Parameters.Select(parameter => parameter.Name).Concat(model.Buffers.Where(buffer => buffer.Tensor.Dimensions > 0).Select(buffer => buffer.Name)));
    }

    // As in PyTorch, a norm that has nothing of the size goes on saying 0.
    public override string ExtraRepr => _shapeless.Count > 0 && _made is { } made ? made.ExtraRepr : _rule.Repr(_rule.Arguments(_lazy.Args, 0));

    /// <summary>Whether it has not got its size yet.</summary>
    internal bool IsShapeless => _made is null;

    /// <summary>Told, before memory is taken, how many bytes it will be; may throw.</summary>
    internal Action<long>? Reserve { get; set; }

    /// <summary>The error for what needs shapes, and values, that are not there yet.</summary>
    internal static EngineException NotYet(IReadOnlyList<string> names) => EngineException.Precondition("UNINITIALIZED",
        $"{string.Join(", ", names.Take(8).Select(EngineException.Quote))}{(names.Count > 8 ? $" and {names.Count - 8} more have" : names.Count > 1 ? " have" : " has")} no shape yet: a lazy module gets it from its first input; call Forward once, or load a state dict that has them");

    internal override bool IsUninitialized(string name) => _made is null && _shapeless.Contains(name);

    // PyTorch's does nothing before there is something to reset.
    internal override bool ResetParameters() => _made?.ResetParameters() ?? true;

    /// <summary>The size that a tensor of a state dict means; null where it does not tell.</summary>
    internal long? SizeFor(string name, long[] shape) => _rule.OfState(name, shape, _lazy.Args);

    /// <summary>The shapes of its tensors for a size, by name.</summary>
    /// <exception cref="EngineException">There cannot be such a size.</exception>
    internal IReadOnlyDictionary<string, long[]> ShapesFor(long size)
    {
        var model = Model(size);
        return model.Parameters.Select(p => (p.Name, Tensor: (Tensor)p.Parameter)).Concat(model.Buffers.Select(b => (b.Name, b.Tensor))).ToDictionary(t => t.Name, t => t.Tensor.shape);
    }

    /// <summary>Takes the memory for a size. Where that fails, it is as before.</summary>
    /// <param name="size">The size.</param>
    /// <param name="initialise">Whether initial values are drawn; else the caller fills the parameters.</param>
    internal void Materialize(long size, bool initialise = true)
    {
        using var scope = NewDisposeScope();
        using var normal = inference_mode(false);
        using var recording = set_grad_enabled(true);
        Reserve?.Invoke(ModuleTree.BytesOf(Model(size)));
        try
        {
            var origin = PlainOrigin(size);
            _made = new BuildContext(onMeta: false, initialise, _limits, new Placeholders(_tensors)).Create(origin);
            Origin = origin;
            _made.TakeModeOf(this);

            // What is None by the constructor may be registered, and then of that shape.
            Slots = [.. Slots.Select(slot => slot with { Shape = _made.Slots.FirstOrDefault(own => own.Name == slot.Name)?.Shape })];
        }
        catch
        {
            Undo();
            throw;
        }
    }

    internal override void SetMode(bool mode, bool isTarget)
    {
        base.SetMode(mode, isTarget);
        _made?.TakeModeOf(this);
    }

    private protected override void ModeChanged() => _made?.TakeModeOf(this);

    private protected override bool Rebind(string name, Parameter? parameter) => _made!.SetParameter(name, parameter);

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        if (_made is { } made)
        {
            return ForwardOf(made, inputs, context);
        }

        try
        {
            Materialize(SizeOf(inputs, context));
        }
        catch (EngineException exception) when (exception is { Error: EngineError.InvalidArgument, Reason: not "SHAPE_MISMATCH" })
        {
            // What the constructor of the plain type refuses; the fields are of a spec, and this call has none.
            throw Refuse(context, $"cannot take {CallFailure.Describe(inputs)}: {exception.Fields[0].Description}");
        }

        try
        {
            return ForwardOf(_made!, inputs, context);
        }
        catch
        {
            Undo();
            throw;
        }
    }

    private long SizeOf(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var input = TensorAt(inputs, 0, context);
        var (size, expected) = _rule.OfInput(input);
        if (size is not { } found)
        {
            throw Refuse(context, $"takes {expected}; it was given {CallFailure.Describe(input)}");
        }

        var least = _rule.Least(_lazy.Args);
        return found >= least && (_rule.Size != "in_channels" || found % least == 0) ? found
            : throw Refuse(context, $"would get {_rule.Size}={found} from {CallFailure.Describe(input)}; it must be {(least > 1 ? $"a multiple of groups, which is {least}" : $"at least {least}")}");
    }

    /// <summary>Back to no shape: the same tensors, of the dtype that they have.</summary>
    internal void Undo()
    {
        _made = null;
        Origin = _lazy;
        using var quiet = no_grad();
        foreach (var tensor in _tensors.Where(tensor => tensor.Dimensions > 0))
        {
            using var nothing = empty([0], dtype: tensor.dtype, device: tensor.device);
            NativeSetData.SetData(tensor, nothing);
        }
    }

    private NodeOrigin PlainOrigin(long size) => _lazy with { Type = _rule.Plain, Args = _rule.Arguments(_lazy.Args, size) };

    private ModuleNode Model(long size)
    {
        if (size < _rule.Least(_lazy.Args))
        {
            throw EngineException.Invalid(_lazy.Args.Field, $"{_lazy.Type.Name} cannot have {_rule.Size}={size}");
        }

        return _rule.Plain.Create(PlainOrigin(size), new BuildContext(onMeta: true, initialise: false, _limits));
    }
}
