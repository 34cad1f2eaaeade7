using Sconce.Engine.Catalog;
using Sconce.Engine.PlugIns;
using Sconce.Engine.Tensors;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>How nodes are being made: with real memory or none, with initial values or none.</summary>
/// <param name="onMeta">Make tensors without memory, to learn what a spec would take.</param>
/// <param name="initialise">Draw initial values; false where they are to be replaced at once.</param>
/// <param name="limits">How large the tree may be.</param>
/// <param name="placeholders">Tensors that take the place of new ones, in the order they are asked for; null makes new ones.</param>
internal sealed class BuildContext(bool onMeta, bool initialise, BuildLimits limits, Placeholders? placeholders = null)
{
    private int _modules;

    /// <summary>Whether tensors have no memory.</summary>
    public bool OnMeta { get; } = onMeta;

    /// <summary>Whether initial values are drawn.</summary>
    public bool Initialise { get; private set; } = initialise && !onMeta;

    /// <summary>The module types of plug-ins.</summary>
    public PlugInTypes PlugIns { get; init; } = PlugInTypes.None;

    /// <summary>How large the tree may be.</summary>
    public BuildLimits Limits { get; } = limits;

    /// <summary>A context for copies of nodes that there are, whose values replace those that would be drawn.</summary>
    /// <param name="onMeta">Make tensors without memory.</param>
    public static BuildContext ForCopies(bool onMeta) => new(onMeta, initialise: false, new BuildLimits(int.MaxValue, int.MaxValue, int.MaxValue));

    /// <summary>Makes a node and draws its initial values.</summary>
    public ModuleNode Create(NodeOrigin origin)
    {
        Count(1, origin.Args.Field);
        var node = origin.Type.Create(origin, this);
        if (Initialise && node is not PlugInNode)
        {
            // A plug-in's constructor has drawn them.
            node.Initialise();
        }

        return node;
    }

    /// <summary>Makes a child that a type has by itself (Transformer's layers), as its own constructor call would.</summary>
    public ModuleNode Create(string type, NodeOrigin parent, IReadOnlyList<KeyValuePair<string, ModuleNode>> given, params (string Name, object? Value)[] args) =>
        Blaming(parent, () => Create(PartOrigin(type, parent, given, args)));

    /// <summary>Makes a Linear layer that has another module's parameter as its weight.</summary>
    public LinearNode CreateTied(NodeOrigin parent, Parameter weight, params (string Name, object? Value)[] args)
    {
        Count(1, parent.Args.Field);
        return Blaming(parent, () => new LinearNode(PartOrigin("Linear", parent, [], args), this, weight));
    }

    /// <summary>Makes the children of a spec that a type stands for.</summary>
    public List<KeyValuePair<string, ModuleNode>> CreateParts(ModuleSpec spec, NodeOrigin parent) => Blaming(parent, () => new SpecReader(this, parent.FloatType).ReadParts(spec));

    /// <summary>Makes parts whose initial values, all of them, are drawn by what they are parts of.</summary>
    public T WithoutValues<T>(Func<T> make)
    {
        var before = Initialise;
        Initialise = false;
        try
        {
            return make();
        }
        finally
        {
            Initialise = before;
        }
    }

    private static NodeOrigin PartOrigin(string type, NodeOrigin parent, IReadOnlyList<KeyValuePair<string, ModuleNode>> given, (string Name, object? Value)[] args)
    {
        var found = ModuleCatalog.Module(type, parent.Args.Field);
        var bound = ArgumentBinder.Bind(found.Arguments, args.ToDictionary(a => a.Name, a => a.Value), type, parent.Args.Field);
        return new NodeOrigin(found, bound, parent.FloatType, given, null);
    }

    // The caller never saw the part that is wrong, only the arguments that it came from: one of the same name, or else all of them.
    private static T Blaming<T>(NodeOrigin parent, Func<T> make)
    {
        try
        {
            return make();
        }
        catch (EngineException exception) when (exception.Fields is [var wrong, ..] && wrong.Field != parent.Args.Field)
        {
            var name = wrong.Field[(wrong.Field.LastIndexOf('.') + 1)..];
            var isOwn = parent.Type.Arguments.Any(argument => argument.Name == name.Split('[')[0]);
            var violation = new FieldViolation(isOwn ? $"{parent.Args.Field}.{name}" : parent.Args.Field, isOwn ? wrong.Description : $"{name}: {wrong.Description}");
            throw new EngineException(exception.Error, exception.Reason, $"{violation.Field}: {violation.Description}", exception) { Fields = [violation] };
        }
    }

    /// <summary>Counts modules against the limit before they are made.</summary>
    public void Count(long modules, string field)
    {
        if ((_modules = (int)Math.Min(_modules + modules, int.MaxValue)) > Limits.MaxModules)
        {
            throw EngineException.Invalid(field, $"the module would have more than {Limits.MaxModules:N0} submodules; raise max_submodules, or build it smaller", "SPEC_TOO_LARGE");
        }
    }

    /// <summary>Makes a parameter with memory that holds anything.</summary>
    public Parameter Parameter(NodeOrigin origin, params long[] shape) =>
        placeholders is null ? new(Empty(origin, TypeOf(origin), shape)) : (Parameter)placeholders.Take(type => Empty(origin, type, shape));

    /// <summary>Makes a floating buffer filled with one value.</summary>
    public Tensor Buffer(NodeOrigin origin, double value, params long[] shape)
    {
        var tensor = placeholders is null ? Empty(origin, TypeOf(origin), shape) : placeholders.Take(type => Empty(origin, type, shape));
        if (!OnMeta)
        {
            Initial.Fill(tensor, value);
        }

        return tensor;
    }

    /// <summary>Makes an int64 scalar buffer of zero.</summary>
    public Tensor Counter(NodeOrigin origin)
    {
        var tensor = placeholders is null ? Empty(origin, ElementType.Int64, []) : placeholders.Take(type => Empty(origin, type, []));
        if (!OnMeta)
        {
            Initial.Fill(tensor, 0);
        }

        return tensor;
    }

    /// <summary>The dtype argument where the type has one and it was given, else the module's.</summary>
    public static ElementType TypeOf(NodeOrigin origin)
    {
        var type = (origin.Type.Arguments.Any(a => a.Kind == ArgumentKind.Dtype) ? origin.Args.DtypeOrNone("dtype") : null) ?? origin.FloatType;
        return type.IsFloatingPoint() ? type : throw origin.Args.Refuse("dtype", $"{EngineException.Quote(type.Name())} was given; parameters are made in float16, bfloat16, float32 or float64");
    }

    private Tensor Empty(NodeOrigin origin, ElementType type, long[] shape)
    {
        // libtorch counts bytes in int64 and does not check on every path.
        var bytes = (Int128)type.Size();
        foreach (var size in shape)
        {
            bytes *= size;
            if (bytes > long.MaxValue)
            {
                throw EngineException.Invalid(origin.Args.Field, $"{origin.Type.Name} would have a parameter of shape [{string.Join(", ", shape)}], more bytes than 64 bits count", "SPEC_TOO_LARGE");
            }
        }

        return empty(shape, dtype: type.ToScalarType(), device: OnMeta ? META : CPU);
    }
}
