using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Weights.Script;

/// <summary>
/// Stands in our tree for a TorchScript module, and for each module within it: the same tensors under the same names, so that conversions, loads and optimizers change what its code computes with. The code calls
/// its parts inside libtorch, where no hook sees it; each part can be called from outside.
/// </summary>
internal sealed partial class ScriptNode : ModuleNode
{
    /// <summary>The method that a call is of, where nothing else is said.</summary>
    public const string Forwarding = "forward";

    private const string Answers = "tensors, numbers, None, and tuples and lists of them, which can be answered";

    private readonly jit.ScriptModule? _module;
    private readonly IReadOnlyList<ScriptInput> _inputs = [];
    private readonly ScriptNode _whole;
    private readonly bool _hasForward;
    private readonly string _class;

    // Of the whole: copies of it are made of the file.
    private ScriptFile? _used;

    private ScriptNode(NodeOrigin origin, jit.ScriptModule? module, ScriptFile file, string? type, ScriptNode? whole, Dictionary<nint, Tensor> tensors, BuildContext context)
        : base(origin)
    {
        (_module, _whole, File) = (module, whole ?? this, file);
        _class = type is null ? "ScriptModule" : type[(type.LastIndexOf('.') + 1)..];
        var program = file.Program;
        var methods = program.Methods(type);
        _hasForward = methods.Any(method => method.Name == Forwarding);
        _inputs = methods.FirstOrDefault(method => method.Name == Forwarding).Inputs ?? [];
        Inputs = [.. _inputs.Where(input => input.CanBeGiven || !input.HasDefault).Select(NameOf)];
        Methods = [.. methods.Where(method => method.Name != Forwarding && method.Inputs.All(input => input.CanBeGiven || input.HasDefault)).Select(method => Callable(method.Name, method.Inputs))];
        if (module is null)
        {
            return;
        }

        Parameters = [.. Own(module.named_parameters(recurse: false), tensors).Select(own => new NamedParameter(own.Name, (Parameter)own.Tensor))];
        Buffers = [.. Own(module.named_buffers(recurse: false), tensors).Select(own => new NamedBuffer(own.Name, own.Tensor, true))];
        Children = [.. module.named_children().Select(child =>
        {
            // As they are met: modules that share others may be far more paths than objects.
            context.Count(1, origin.Args.Field);
            var childType = program.ChildClass(type, child.name);
            return KeyValuePair.Create<string, ModuleNode>(child.name, new ScriptNode(PartOf(childType, origin), (jit.ScriptModule)child.module, file, childType, _whole, tensors, context));
        })];
        Mode = module.training;
    }

    internal override bool IsKnown => false;

    // As PyTorch prints a RecursiveScriptModule.
    public override string ExtraRepr => ReferenceEquals(_whole, this) ? $"original_name={_class}" : "";

    /// <summary>The file that it is of.</summary>
    public ScriptFile File { get; }

    internal override IReadOnlyList<ModuleMethod> Methods { get; } = [];

    /// <summary>Name of the hosted module that holds it, for the log; empty where nobody hosts it.</summary>
    public string Owner { get; private set; } = "";

    /// <summary>Tells the TorchScript modules of a tree who hosts them.</summary>
    public static void SetOwner(ModuleNode root, string module)
    {
        foreach (var (_, node) in ModuleTree.Walk(root))
        {
            if (node is ScriptNode script)
            {
                script.Owner = module;
            }
        }
    }

    /// <summary>The node of the module that a spec named: this one, or the one that this is part of.</summary>
    public ScriptNode Whole => _whole;

    // What its code calls is called inside libtorch.
    internal override IEnumerable<ModuleNode> CalledChildren => [];

    /// <summary>The type of modules of one file, which copies of them are of too, whatever becomes of the file.</summary>
    /// <param name="file">It.</param>
    public static ModuleType TypeOf(ScriptFile file) => new(ScriptTypes.TypeName, "Module", "", ScriptTypes.Arguments, [], (origin, context) => Create(file, origin, context));

    /// <summary>Loads a file that has passed its trial.</summary>
    /// <param name="file">It.</param>
    /// <param name="origin">What the node is made of.</param>
    /// <param name="context">How.</param>
    /// <exception cref="EngineException">libtorch refuses it; nothing is left of it.</exception>
    private static ScriptNode Create(ScriptFile file, NodeOrigin origin, BuildContext context)
    {
        // What it takes is charged when it is made, as for a plug-in.
        if (context.OnMeta)
        {
            return new ScriptNode(origin, null, file, file.Program.Root, null, [], context);
        }

        jit.ScriptModule? module = null;
        ScriptNode? node = null;
        var used = file.Use() ?? throw new InvalidOperationException($"the TorchScript file {file.Name} is gone");
        try
        {
            module = jit.load(file.Image.Path);
            node = new ScriptNode(origin, module, file, file.Program.Root, null, [], context) { _used = used };
            if (context.Initialise && origin.FloatType != ElementType.Float32)
            {
                Conversions.Convert(node, new ConversionPlan(ConversionKind.To, origin.FloatType));
            }

            return node;
        }
        catch
        {
            if (node is null)
            {
                module?.Dispose();
                used.Dispose();
            }
            else
            {
                ModuleTree.Walk(node).ToList().ForEach(at => at.Node.Dispose());
            }

            throw;
        }
    }

    internal override void SetMode(bool mode, bool isTarget)
    {
        Mode = mode;
        _module?.train(Training);
    }

    internal override string? ChildProblem(string name, ModuleNode child) => "a TorchScript module's own code calls its parts, so none can be added or replaced; put the module beside it";

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context) =>
        _hasForward ? Call(Forwarding, _inputs, inputs, context) : throw new EngineException(EngineError.InvalidArgument, "NO_FORWARD", $"{Display(context.Path)} has no forward");

    private protected override void ModeChanged()
    {
        // libtorch sets the modes of all below; those that have another get it back, from above to below.
        foreach (var (_, part) in ModuleTree.Walk(this))
        {
            ((ScriptNode)part)._module?.train(part.Training);
        }
    }

    protected override void Dispose(bool disposing)
    {
        base.Dispose(disposing);
        _module?.Dispose();
        _used?.Dispose();
    }

    private static InputName NameOf(ScriptInput input) => new(input.Name, input.HasDefault || input.TakesNone);

    // One object for each tensor of the module, whichever names it has.
    private static IEnumerable<(string Name, Tensor Tensor)> Own<T>(IEnumerable<(string Name, T Tensor)> named, Dictionary<nint, Tensor> tensors)
        where T : Tensor
    {
        foreach (var (name, tensor) in named.ToList())
        {
            // A handle is the place of a pointer to what libtorch calls the tensor.
            var identity = Marshal.ReadIntPtr(tensor.Handle);
            if (name.Contains('.', StringComparison.Ordinal))
            {
                tensor.Dispose();
            }
            else if (tensors.TryGetValue(identity, out var known) && known is T)
            {
                tensor.Dispose();
                yield return (name, known);
            }
            else
            {
                tensors[identity] = tensor;
                yield return (name, tensor);
            }
        }
    }

    // Modules of PyTorch keep their names, so that norm_eval and isinstance find them.
    private static NodeOrigin PartOf(string? type, NodeOrigin whole)
    {
        var name = type is null ? "ScriptModule" : type[(type.LastIndexOf('.') + 1)..];
        var isTorch = type?.StartsWith("__torch__.torch.nn.modules.", StringComparison.Ordinal) == true;
        var part = new ModuleType(name, isTorch ? ModuleCatalog.BaseOf(name) : "Module", "", [], [], (_, _) =>
            throw EngineException.Precondition("SCRIPT_PART", $"this {name} is a part of a TorchScript module; it cannot be made by itself: copy the module that holds it"));
        return new NodeOrigin(part, ArgumentBinder.Bind([], new Dictionary<string, object?>(), name, whole.Args.Field), whole.FloatType, [], null);
    }

    private ModuleMethod Callable(string name, IReadOnlyList<ScriptInput> inputs) =>
        new(name, [.. inputs.Where(input => input.CanBeGiven).Select(NameOf)], (values, context) => Call(name, inputs, values, context));

    private TensorTree Call(string name, IReadOnlyList<ScriptInput> inputs, IReadOnlyList<TensorTree> values, CallContext context)
    {
        var given = new List<object?>(inputs.Count);
        try
        {
            var at = 0;
            foreach (var input in inputs)
            {
                var value = input.CanBeGiven || !input.HasDefault ? values[at++] : TensorTree.None;
                if (value.IsNone && input.HasDefault && values.Skip(at).All(later => later.IsNone))
                {
                    // libtorch fills in what is left out at the end.
                    break;
                }

                given.Add(ToArgument(input, value, context));
            }

            using var timed = ScriptWatch.Begin(this, name, context.Path);
            var output = ToTree(Invoke(name, given, context), context);
            if (!IsLeaf)
            {
                // Its parts are called where nobody counts what they make.
                context.Made(output, values);
            }

            return output;
        }
        finally
        {
            given.OfType<Scalar>().ToList().ForEach(scalar => scalar.Dispose());
        }
    }

    private object? Invoke(string name, List<object?> given, CallContext context)
    {
        try
        {
            return Invoke(_module!, name, [.. given]);
        }
        catch (NotSupportedException exception)
        {
            throw Refuse(context, exception.Message);
        }
    }

    /// <summary>Calls a method of a module.</summary>
    /// <param name="module">It.</param>
    /// <param name="name">The method.</param>
    /// <param name="given">Tensors, <see cref="Scalar"/>s, bools and null.</param>
    /// <exception cref="NotSupportedException">It gave what TorchSharp does not hand over.</exception>
    /// <exception cref="InvalidOperationException">It failed, for the reason that the message tells.</exception>
    internal static object? Invoke(jit.ScriptModule module, string name, object?[] given)
    {
        try
        {
            return module.invoke(name, given);
        }
        catch (Exception exception) when (exception is NotImplementedException or ArgumentOutOfRangeException)
        {
            // By either, TorchSharp says that it does not know the value's type.
            throw new NotSupportedException($"gave something else than {Answers}", exception);
        }
        catch (ExternalException exception) when (Reason().Match(exception.Message) is { Success: true } reason)
        {
            // Without the trace through the code, which is long, and which its author has.
            throw new InvalidOperationException(reason.Groups[1].Value, exception);
        }
        finally
        {
            // libtorch has been given where they are, which nothing that the collector sees keeps.
            GC.KeepAlive(given);
        }
    }

    private object? ToArgument(ScriptInput input, TensorTree value, CallContext context)
    {
        if (value.IsNone)
        {
            return input.TakesNone ? null : throw Refuse(context, $"cannot do without {EngineException.Quote(input.Name)}, a {input.Type}, where a later input is given");
        }

        if (!input.CanBeGiven || value.Tensor is not { } tensor)
        {
            throw Refuse(context, $"takes a {input.Type} as {EngineException.Quote(input.Name)}; tensors and numbers can be given, one for each input");
        }

        if (input.Plain == "Tensor")
        {
            // Others may read what the caller gave, or keep it: what changes its input changes a copy.
            return File.IsStateful ? tensor.clone() : tensor;
        }

        var isFloat = tensor.is_floating_point();
        if (tensor.numel() != 1 || tensor.is_complex() || (isFloat && input.Plain is "int" or "bool"))
        {
            throw Refuse(context, $"takes a {input.Type} as {EngineException.Quote(input.Name)}: a tensor of one such number; it was given {CallFailure.Describe(tensor)}");
        }

        // A Scalar that is ours: of a number of .NET, TorchSharp makes one, gives libtorch its address and forgets it, so that the collector may free it before libtorch reads it.
        return input.Plain switch
        {
            "bool" => (object)tensor.to(ScalarType.Bool).item<bool>(),
            "int" => tensor.to(ScalarType.Int64).item<long>().ToScalar(),
            "number" when !isFloat => tensor.to(ScalarType.Int64).item<long>().ToScalar(),
            _ => tensor.to(ScalarType.Float64).item<double>().ToScalar(),
        };
    }

    private TensorTree ToTree(object? value, CallContext context) => value switch
    {
        null => TensorTree.None,
        Tensor tensor => TensorTree.Of(Checked(IsKept(tensor) ? tensor.alias() : tensor, context)),
        Scalar scalar => TensorTree.Of(ToTensor(scalar)),
        System.Runtime.CompilerServices.ITuple tuple => TensorTree.Tuple([.. Enumerable.Range(0, tuple.Length).Select(i => ToTree(tuple[i], context))]),
        System.Collections.IEnumerable list and not string => TensorTree.Tuple([.. list.Cast<object?>().Select(item => ToTree(item, context))]),
        _ => throw Refuse(context, $"gave a {value.GetType().Name}; expected {Answers}"),
    };

    // What is done with a tensor of a device, a layout or a dtype that the server does not have ends the process.
    private Tensor Checked(Tensor tensor, CallContext context)
    {
        if (tensor.device_type != DeviceType.CPU || tensor.is_sparse)
        {
            throw Refuse(context, $"gave a {(tensor.is_sparse ? "sparse" : "dense")} tensor on device {tensor.device_type}; dense ones on the server's device can be answered");
        }

        _ = tensor.dtype.ToElementType();
        return tensor;
    }

    private static Tensor ToTensor(Scalar scalar)
    {
        using (scalar)
        {
            return scalar.Type switch
            {
                ScalarType.Bool => torch.tensor(scalar.ToBoolean()),
                ScalarType.Float16 or ScalarType.BFloat16 or ScalarType.Float32 or ScalarType.Float64 => torch.tensor(scalar.ToDouble()),
                ScalarType.ComplexFloat32 or ScalarType.ComplexFloat64 => torch.tensor(scalar.ToComplexFloat64()),
                _ => torch.tensor(scalar.ToInt64()),
            };
        }
    }

    // What the module keeps must outlive the answer; what it gives may be a wrapper of its own over the same tensor.
    private bool IsKept(Tensor tensor) => ModuleTree.Walk(_whole).Any(at => at.Node.Parameters.Any(p => ReferenceEquals(p.Parameter, tensor)) || at.Node.Buffers.Any(b => ReferenceEquals(b.Tensor, tensor)));

    [GeneratedRegex(@"\nTraceback of TorchScript.*\n(?:[A-Za-z_.]+: )(\S.*)\z", RegexOptions.Singleline)]
    private static partial Regex Reason();
}
