using Sconce.Engine.Catalog;

namespace Sconce.Engine.Modules;

/// <summary>Checks a wiring and resolves its names.</summary>
internal sealed class WiringReader(GraphNode graph, NodeOrigin origin, Wiring? given)
{
    private readonly Dictionary<string, int> _places = [];

    /// <summary>The field of the wiring: beside the arguments in the spec.</summary>
    private readonly string _field = (origin.Args.Field.EndsWith(".args", StringComparison.Ordinal) ? origin.Args.Field[..^".args".Length] : origin.Args.Field) + ".wiring";

    /// <summary>Reads it: inputs, steps, places of the outputs, those of values that are freed when all steps are done, and how many places there are.</summary>
    public (InputName[] Inputs, GraphStep[] Steps, int[] Outputs, int[] Last, int Values) Read()
    {
        var wiring = given ?? throw Wrong(_field, "a Graph needs a wiring: inputs, steps and outputs");
        if (wiring.Inputs.Count == 0 || wiring.Outputs.Count == 0)
        {
            throw Wrong(wiring.Inputs.Count == 0 ? $"{_field}.inputs" : $"{_field}.outputs", "none was given; expected at least one name");
        }

        var inputs = wiring.Inputs.Select(InputName.Parse).ToArray();
        for (var i = 0; i < inputs.Length; i++)
        {
            Name(inputs[i].Name, $"{_field}.inputs[{i}]");
        }

        var steps = wiring.Steps.Select((step, i) => Step(step, $"{_field}.steps[{i}]")).ToArray();
        var outputs = wiring.Outputs.Select((name, i) => Place(name, $"{_field}.outputs[{i}]")).ToArray();
        return (inputs, steps, outputs, Lives(steps, inputs.Length, outputs), _places.Count);
    }

    // Finds where each value is used for the last time. Inputs are the caller's to free, and so is the output.
    private int[] Lives(GraphStep[] steps, int inputs, int[] outputs)
    {
        var ends = new int[_places.Count];
        for (var i = 0; i < steps.Length; i++)
        {
            foreach (var place in steps[i].Inputs.Concat(steps[i].Unpack).Append(steps[i].Result).Where(place => place >= 0))
            {
                ends[place] = steps[i].IsKept ? steps.Length : Math.Max(i, ends[place]);
            }
        }

        var freed = Enumerable.Range(inputs, _places.Count - inputs).Except(outputs).ToLookup(place => ends[place]);
        for (var i = 0; i < steps.Length; i++)
        {
            steps[i] = steps[i] with { Frees = [.. freed[i]] };
        }

        return [.. freed[steps.Length]];
    }

    private GraphStep Step(WiringStep step, string field)
    {
        // Inputs before names: no step can take its own result.
        var inputs = step.Inputs.Select((name, i) => Place(name, $"{field}.inputs[{i}]")).ToArray();
        ModuleNode? module = null;
        FunctionType? type = null;
        TensorFunction? function = null;
        string label;
        TensorSource? source = null;
        if (new[] { step.Module, step.Function, step.Parameter }.Count(call => call is not null) != 1)
        {
            throw Wrong(field, "exactly one of module, function and parameter must be given");
        }

        if (step.Parameter is { } key)
        {
            source = Source(key, step, $"{field}.parameter");
            label = $"the parameter {EngineException.Quote(key)}";
        }
        else if (step.Module is { } path)
        {
            module = path.Length == 0 ? null : ModuleTree.Find(graph, path);
            label = $"the call of {EngineException.Quote(path)}";
            CheckCall(module ?? throw Wrong($"{field}.module", $"the Graph has no child {EngineException.Quote(path)}; it has {Known(graph.Children.Select(c => c.Key))}"), step, inputs.Length, field);
        }
        else
        {
            type = FunctionTypes.Find(step.Function!, $"{field}.function");
            label = $"the function {type.Name}";
            var args = ArgumentBinder.Bind(type.Arguments, step.Args, type.Name, $"{field}.args");
            if (type.CountProblem(inputs.Length, args) is { } problem)
            {
                throw Wrong($"{field}.inputs", problem);
            }

            function = type.Make(args);
        }

        var unpack = step.Unpack.Select((item, i) => item.Length == 0 ? -1 : Name(item, $"{field}.unpack[{i}]")).ToArray();
        var result = unpack.Length == 0 ? Name(step.Name, $"{field}.name") : -1;
        return new GraphStep(label, step.Module ?? "", module, function, type, inputs, result, unpack) { Source = source };
    }

    private TensorSource Source(string key, WiringStep step, string field)
    {
        if (step.Inputs.Count > 0 || step.Args.Count > 0 || step.Unpack.Count > 0)
        {
            throw Wrong(field, "a parameter is read: it takes no inputs and no args, and is one tensor");
        }

        var dot = key.LastIndexOf('.');
        var owner = dot < 0 ? null : ModuleTree.Find(graph, key[..dot]);
        var source = owner is null ? null : new TensorSource(owner, key[(dot + 1)..]);
        return source?.Find() is not null ? source
            : throw Wrong(field, $"the Graph's children have no parameter or buffer {EngineException.Quote(key)}; they have {Known(ModuleTree.State(graph).Select(entry => entry.Key))}");
    }

    private static void CheckCall(ModuleNode module, WiringStep step, int given, string field)
    {
        if (step.Args.Count > 0)
        {
            throw Wrong($"{field}.args", "a module takes no arguments when it is called; give them in its spec");
        }

        if (module is ModuleListNode or ModuleDictNode or ParametersNode)
        {
            throw Wrong($"{field}.module", $"a {module.TypeName} has no forward; call its children");
        }

        var least = module.Inputs.Count(input => !input.Optional);
        if (given < least || given > module.Inputs.Count)
        {
            throw Wrong($"{field}.inputs", $"{module.TypeName} takes {string.Join(", ", module.Inputs)}; {given} inputs were given");
        }
    }

    private int Name(string name, string field)
    {
        if (name.Length is 0 or > AttributeNames.MaxLength || name.Any(char.IsControl))
        {
            throw Wrong(field, $"{EngineException.Quote(name)} is no name for a value; expected 1 to {AttributeNames.MaxLength} characters without control characters");
        }

        var place = _places.Count;
        return _places.TryAdd(name, place) ? place : throw Wrong(field, $"{EngineException.Quote(name)} is the name of another value too; values are named once");
    }

    private int Place(string name, string field) =>
        _places.TryGetValue(name, out var place) ? place : throw Wrong(field, $"there is no value {EngineException.Quote(name)} at this point; there are {Known(_places.Keys)}");

    private static string Known(IEnumerable<string> names)
    {
        var shown = names.Take(8).Select(EngineException.Quote).ToList();
        return shown.Count == 0 ? "none" : string.Join(", ", shown);
    }

    private static EngineException Wrong(string field, string message) => EngineException.Invalid(field, message, "BAD_WIRING");
}
