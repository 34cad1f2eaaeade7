using Sconce.Engine.Catalog;
using Sconce.Engine.PlugIns;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>
/// <c>Graph</c>: children and functions called in order on named values, for what Sequential cannot say. The names are resolved to places
/// once, when it is made.
/// </summary>
internal sealed class GraphNode : ModuleNode
{
    private GraphStep[] _steps = [];
    private int[] _outputs = [];
    private int[] _last = [];
    private int _values;
    private readonly Parts? _parts;

    /// <param name="origin">What it is made of.</param>
    /// <param name="parts">Children and wiring of a type that is a Graph of its own making; null for those that the spec gives.</param>
    public GraphNode(NodeOrigin origin, Parts? parts = null)
        : base(origin)
    {
        _parts = parts;
        Children = parts?.Children ?? origin.Given;
        Rewire();
    }

    internal override IEnumerable<ModuleNode> CalledChildren => _steps.Select(step => step.Module).OfType<ModuleNode>();

    internal override bool ResetParameters() => _parts?.Initialise(this) ?? false;

    /// <summary>Whether its wiring reads a parameter or buffer.</summary>
    internal bool Reads(ModuleNode owner, string name) => _steps.Any(step => step.Source is { } source && source.Owner == owner && source.Name == name);

    internal override int OwnCalls => _steps.Count(step => step.Module is null);

    internal override void Rewire()
    {
        var plan = new WiringReader(this, Origin, _parts?.Wiring ?? Origin.Wiring).Read();
        Inputs = plan.Inputs;
        _steps = plan.Steps;
        _outputs = plan.Outputs;
        _last = plan.Last;
        _values = plan.Values;
    }

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var values = new GraphValues(_values, context.Memory);
        for (var i = 0; i < inputs.Count; i++)
        {
            values[i] = inputs[i];
        }

        foreach (var step in _steps)
        {
            Store(step, Run(step, values, context), values, context);
            values.Free(step.Frees);
        }

        var output = _outputs.Length == 1 ? values[_outputs[0]] : TensorTree.Tuple(values.At(_outputs));
        values.End(_last, output);
        return output;
    }

    private TensorTree Run(GraphStep step, GraphValues values, CallContext context)
    {
        if (step.Module is not null)
        {
            return CallChild(step.Path, step.Module, values.At(step.Inputs), context);
        }

        if (step.Source is { } source)
        {
            // An alias: what a step gives is freed when no other step needs it.
            return TensorTree.Of(source.Owner.IsUninitialized(source.Name) ? throw LazyNode.NotYet([source.Name]) : source.Find()!.alias());
        }

        var tensors = new Tensor?[Math.Max(step.Inputs.Length, step.Arity)];
        for (var i = 0; i < step.Inputs.Length; i++)
        {
            var value = values[step.Inputs[i]];
            tensors[i] = value.Tensor ?? (value.IsNone && step.TakesNone(i) ? null
                : throw Refuse(context, $"{step.Label} takes one tensor as its input {i}; it was given {(value.IsNone ? "None" : "a tuple: unpack it")}"));
        }

        TensorTree result;
        try
        {
            result = step.Function!(tensors, new FunctionMode(Training, context.Memory));
        }
        catch (Exception exception) when (CallFailure.IsNative(exception))
        {
            throw CallFailure.Translate(exception, $"{Display(context.Path)}, {step.Label},", [.. tensors.Select(TensorTree.Of)], context.Field);
        }

        context.Made(result, values.All);
        return result;
    }

    private void Store(GraphStep step, TensorTree result, GraphValues values, CallContext context)
    {
        if (step.Unpack.Length == 0)
        {
            values[step.Result] = result;
            return;
        }

        if (result.Items is not { } items || items.Count != step.Unpack.Length)
        {
            throw Refuse(context, $"{step.Label} gave {(result.Items is null ? "one value" : $"{result.Items.Count} values")} and is unpacked into {step.Unpack.Length}");
        }

        for (var i = 0; i < items.Count; i++)
        {
            if (step.Unpack[i] >= 0)
            {
                values[step.Unpack[i]] = items[i];
            }
        }

        for (var i = 0; i < items.Count && !step.IsKept; i++)
        {
            if (step.Unpack[i] < 0)
            {
                values.Free(items[i]);
            }
        }
    }
}

/// <summary>One step of a wiring, its names resolved.</summary>
/// <param name="Label">What it is called in messages.</param>
/// <param name="Path">Path of the child, where it calls one.</param>
/// <param name="Module">The child, or null.</param>
/// <param name="Function">The function, or null.</param>
/// <param name="Type">The function's type, or null.</param>
/// <param name="Inputs">Places of its inputs.</param>
/// <param name="Result">Place of its result; -1 where it is unpacked.</param>
/// <param name="Unpack">Places of the items of its result; -1 for those dropped.</param>
internal sealed record GraphStep(
    string Label, string Path, ModuleNode? Module, TensorFunction? Function, FunctionType? Type, int[] Inputs, int Result, int[] Unpack)
{
    /// <summary>The parameter or buffer that it reads instead of a call, or null.</summary>
    public TensorSource? Source { get; init; }

    /// <summary>Places whose values no later step needs.</summary>
    public int[] Frees { get; init; } = [];

    /// <summary>Whether a plug-in may keep what it sees here and come back to it in the same call: its values live until that ends.</summary>
    public bool IsKept { get; } = Module is not null && ModuleTree.Walk(Module).Any(at => at.Node is PlugInNode or Weights.Script.ScriptNode);

    /// <summary>Places that its function has for inputs.</summary>
    public int Arity => Type is null || Type.IsVariadic ? 0 : Type.Inputs.Count;

    /// <summary>Whether an input of its function may be None. An operand that the wiring names may not: no number stands in for it.</summary>
    public bool TakesNone(int input) => Type is { IsVariadic: false, NumberOperand: null } && Type.Inputs[input].Optional;
}

/// <summary>A parameter or buffer of a module, by its name there: looked up when it is read, since a module may get another.</summary>
/// <param name="Owner">The module.</param>
/// <param name="Name">Its name in the module.</param>
internal sealed record TensorSource(ModuleNode Owner, string Name)
{
    /// <summary>The tensor as it is now; null where there is none.</summary>
    public Tensor? Find()
    {
        foreach (var (name, parameter) in Owner.Parameters)
        {
            if (name == Name)
            {
                return parameter;
            }
        }

        return Owner.Buffers.FirstOrDefault(buffer => buffer.Name == Name)?.Tensor;
    }
}
