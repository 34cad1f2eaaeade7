using Sconce.Engine.Catalog;
using Sconce.Engine.Tensors;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>What <c>apply</c> does and to which submodules.</summary>
/// <param name="Function">An initialiser of <c>torch.nn.init</c>, with or without the final underscore, or <c>reset_parameters</c>.</param>
public sealed record ApplyPlan(string Function)
{
    /// <summary>Only submodules of exactly this type; empty is every type.</summary>
    public string Type { get; init; } = "";

    /// <summary>Only submodules of this type or one derived from it; empty is every type.</summary>
    public string IsInstance { get; init; } = "";

    /// <summary>Only submodules whose path matches, <c>*</c> and <c>?</c> as wildcards; empty is every path.</summary>
    public string Glob { get; init; } = "";

    /// <summary>The function's arguments by PyTorch's names.</summary>
    public IReadOnlyDictionary<string, object?> Args { get; init; } = new Dictionary<string, object?>();

    /// <summary>Own parameters of a selected submodule that are filled; empty is all of them.</summary>
    public IReadOnlyList<string> Parameters { get; init; } = [];
}

/// <summary><c>nn.Module.apply</c> with the initialisers of <c>torch.nn.init</c>.</summary>
public static class Initializers
{
    /// <summary>Applies an initialiser, children first. Everything is checked and drawn before the first value changes.</summary>
    /// <param name="subtree">Where to begin.</param>
    /// <param name="plan">What to apply.</param>
    /// <returns>Paths of the submodules that it was applied to, in the order of the visits.</returns>
    /// <exception cref="EngineException">The function, a type, an argument or a parameter name is unknown, or a tensor cannot be filled so.</exception>
    public static IReadOnlyList<string> Apply(ModuleNode subtree, ApplyPlan plan)
    {
        ArgumentNullException.ThrowIfNull(plan);
        CheckFilter(subtree, plan);
        var selected = ModuleTree.WalkChildrenFirst(subtree).Where(at => Selects(plan, at.Path, at.Node)).ToList();
        return plan.Function == "reset_parameters" ? Reset(selected, plan) : Fill(selected, plan);
    }

    private static void CheckFilter(ModuleNode subtree, ApplyPlan plan)
    {
        if (plan.Type.Length > 0 && plan.IsInstance.Length > 0)
        {
            throw EngineException.Invalid("isinstance", "it was given together with type; give one of them");
        }

        foreach (var (name, field) in new[] { (plan.Type, "type"), (plan.IsInstance, "isinstance") })
        {
            // A plug-in's types are not the catalogue's; those that are there can be asked for.
            if (name.Length > 0 && !ModuleCatalog.IsTypeOrBase(name) && !ModuleTree.Walk(subtree).Any(at => at.Node.TypeName == name))
            {
                var nearest = NearestNames.To(name, ModuleCatalog.Types.Where(t => t.Kind is TypeKind.Module or TypeKind.Model).Select(t => t.Name).Concat(TypeHierarchy.Names));
                throw EngineException.Invalid(field, $"{EngineException.Quote(name)} is no module type{(nearest.Count == 0 ? "" : $"; the nearest names are {string.Join(", ", nearest)}")}");
            }
        }
    }

    private static bool Selects(ApplyPlan plan, string path, ModuleNode node) =>
        (plan.Type.Length == 0 || node.TypeName == plan.Type)
        && (plan.IsInstance.Length == 0 || node.IsInstance(plan.IsInstance))
        && (plan.Glob.Length == 0 || Catalog.Glob.Matches(plan.Glob, path));

    private static List<string> Reset(List<(string Path, ModuleNode Node)> selected, ApplyPlan plan)
    {
        ArgumentBinder.Bind([], plan.Args, plan.Function, "args");
        if (plan.Parameters.Count > 0)
        {
            throw EngineException.Invalid("parameters", "reset_parameters resets a whole submodule; leave parameters out");
        }

        // Floating ones take whatever a reset draws; of others it depends on the type. What is filled by then is put back.
        var other = selected.SelectMany(at => at.Node.Parameters.Select(p => (Name: ModuleTree.Join(at.Path, p.Name), p.Parameter)))
            .Where(p => !p.Parameter.dtype.ToElementType().IsFloatingPoint()).Take(8).ToList();
        if (other.Count == 0)
        {
            return Reset();
        }

        using var quiet = no_grad();
        var before = selected.SelectMany(at => ModuleTree.TensorsOf(at.Node)).Distinct(ModuleTree.Same).Select(tensor => (Tensor: tensor, Value: tensor.clone())).ToList();
        try
        {
            return Reset();
        }
        catch (Exception exception) when (CallFailure.IsNative(exception))
        {
            before.ForEach(tensor => tensor.Tensor.copy_(tensor.Value));
            throw CallFailure.Refused(exception, "function",
                $"reset_parameters cannot fill {string.Join(", ", other.Select(p => $"{EngineException.Quote(p.Name)}, which is {p.Parameter.dtype.ToElementType().Name()}"))}; convert to a floating dtype first");
        }
        finally
        {
            before.ForEach(tensor => tensor.Value.Dispose());
        }

        List<string> Reset() => [.. selected.Where(at => at.Node.ResetParameters()).Select(at => at.Path)];
    }

    private static List<string> Fill(List<(string Path, ModuleNode Node)> selected, ApplyPlan plan)
    {
        Glob.CheckCount(plan.Parameters.Count, "parameters");
        var initializer = TensorInitializer.Find(plan.Function, "function");
        var args = ArgumentBinder.Bind(initializer.Arguments, plan.Args, initializer.Name, "args");
        for (var i = 0; i < plan.Parameters.Count; i++)
        {
            if (!selected.Any(at => at.Node.Parameters.Any(p => p.Name == plan.Parameters[i])))
            {
                throw EngineException.Invalid($"parameters[{i}]", $"no selected submodule has a parameter {EngineException.Quote(plan.Parameters[i])}; it is a parameter's own name, e.g. \"weight\"");
            }
        }

        if (selected.SelectMany(at => at.Node.Parameters.Where(p => at.Node.IsUninitialized(p.Name)).Select(p => ModuleTree.Join(at.Path, p.Name))).ToList() is { Count: > 0 } shapeless)
        {
            throw LazyNode.NotYet(shapeless);
        }

        var targets = selected
            .Select(at => (at.Path, Parameters: at.Node.Parameters.Where(p => plan.Parameters.Count == 0 || plan.Parameters.Contains(p.Name)).ToList()))
            .Where(at => at.Parameters.Count > 0).ToList();
        using var scope = NewDisposeScope();
        using var normal = inference_mode(false);
        using var quiet = no_grad();
        var drawn = new List<(Parameter Target, Tensor Value)>();
        foreach (var (path, parameters) in targets)
        {
            foreach (var (name, parameter) in parameters)
            {
                drawn.Add((parameter, Draw(initializer, args, parameter, ModuleTree.Join(path, name))));
            }
        }

        foreach (var (target, value) in drawn)
        {
            target.copy_(value);
        }

        return [.. targets.Select(at => at.Path)];
    }

    private static Tensor Draw(TensorInitializer initializer, BoundArguments args, Parameter parameter, string name)
    {
        if (initializer.Problem(parameter.shape, args) is { } problem)
        {
            throw EngineException.Invalid("function", $"{initializer.Name} cannot fill the parameter {EngineException.Quote(name)}: {problem}; select others with type, isinstance, glob or parameters");
        }

        if (!parameter.dtype.ToElementType().IsFloatingPoint() && initializer.NeedsFloat)
        {
            throw EngineException.Invalid("function", $"{initializer.Name} cannot fill the parameter {EngineException.Quote(name)}, which is {parameter.dtype.ToElementType().Name()}; convert it to a floating dtype first");
        }

        // Not every initialiser knows the 16-bit types (QR, erfinv): those draw in float32 and round once.
        var type = parameter.dtype is ScalarType.Float16 or ScalarType.BFloat16 ? ScalarType.Float32 : parameter.dtype;
        var value = empty(parameter.shape, dtype: type, device: parameter.device);
        if (value.NumberOfElements > 0)
        {
            try
            {
                initializer.Fill(value, args);
            }
            catch (Exception exception) when (CallFailure.IsNative(exception))
            {
                throw CallFailure.Refused(exception, args.Field, $"{initializer.Name} cannot fill the parameter {EngineException.Quote(name)}");
            }
        }

        return value;
    }
}
