using Sconce.Engine.Tensors;

namespace Sconce.Engine.Modules;

/// <summary>What a caller passes to a module.</summary>
/// <param name="positional">Values by position.</param>
/// <param name="named">Values by name.</param>
/// <param name="fieldPrefix">What the inputs are called in the request, for error paths.</param>
public sealed class CallArguments(IReadOnlyList<TensorTree> positional, IReadOnlyDictionary<string, TensorTree> named, string fieldPrefix = "inputs")
{
    private static readonly Dictionary<string, TensorTree> NoNames = [];

    /// <summary>Arguments by position alone.</summary>
    /// <param name="positional">Values by position.</param>
    public CallArguments(params TensorTree[] positional)
        : this(positional, NoNames)
    {
    }

    /// <summary>Values by position.</summary>
    public IReadOnlyList<TensorTree> Positional { get; } = positional;

    /// <summary>Values by name.</summary>
    public IReadOnlyDictionary<string, TensorTree> Named { get; } = named;

    /// <summary>What the inputs are called in the request.</summary>
    public string FieldPrefix { get; } = fieldPrefix;

    /// <summary>Puts the values in the order of a module's inputs, with None for those left out.</summary>
    /// <param name="node">The module that is called.</param>
    /// <param name="path">Its path, for the message.</param>
    /// <exception cref="EngineException">A value is missing, unknown, given twice, or one too many.</exception>
    internal IReadOnlyList<TensorTree> Bind(ModuleNode node, string path) => Bind(node.Inputs, () => node.Display(path));

    /// <summary>Puts the values in the order of a method's inputs, with None for those left out.</summary>
    /// <param name="inputs">What it takes.</param>
    /// <param name="display">What messages call it.</param>
    /// <exception cref="EngineException">A value is missing, unknown, given twice, or one too many.</exception>
    internal IReadOnlyList<TensorTree> Bind(IReadOnlyList<InputName> inputs, Func<string> display)
    {
        if (Named.Count == 0 && Positional.Count == inputs.Count && NothingMissing(inputs))
        {
            return Positional;
        }

        var wrong = new List<FieldViolation>();
        var bound = new TensorTree[inputs.Count];
        for (var i = 0; i < Positional.Count; i++)
        {
            if (i < bound.Length)
            {
                bound[i] = Positional[i];
            }
            else
            {
                wrong.Add(new($"{FieldPrefix}[{i}]", $"{display()} takes {Describe(inputs)}, {Positional.Count} were given by position"));
            }
        }

        foreach (var (name, value) in Named)
        {
            var at = IndexOf(inputs, name);
            if (at < 0)
            {
                wrong.Add(new(FieldOf(name), $"{display()} has no input {EngineException.Quote(name)}; it takes {Describe(inputs)}"));
            }
            else if (bound[at] is not null)
            {
                wrong.Add(new(FieldOf(name), $"the input {EngineException.Quote(name)} was given by position ({FieldPrefix}[{at}]) and again by name; give it once"));
            }
            else
            {
                bound[at] = value;
            }
        }

        for (var i = 0; i < bound.Length; i++)
        {
            bound[i] ??= TensorTree.None;
            if (bound[i].IsNone && !inputs[i].Optional && wrong.Count == 0)
            {
                var given = i < Positional.Count || Named.ContainsKey(inputs[i].Name);
                wrong.Add(new(i < Positional.Count ? $"{FieldPrefix}[{i}]" : FieldOf(inputs[i].Name),
                    $"{display()} needs the input {EngineException.Quote(inputs[i].Name)}, {(given ? "which may not be None" : $"which was not given; it takes {Describe(inputs)}")}"));
            }
        }

        return wrong.Count == 0 ? bound : throw EngineException.Invalid(wrong, "INPUT_MISMATCH");
    }

    private static string Describe(IReadOnlyList<InputName> inputs) =>
        inputs.Count == 0 ? "no inputs" : string.Join(", ", inputs.Select(input => input.Optional ? $"{input.Name} (optional)" : input.Name));

    private static int IndexOf(IReadOnlyList<InputName> inputs, string name)
    {
        for (var i = 0; i < inputs.Count; i++)
        {
            if (inputs[i].Name == name)
            {
                return i;
            }
        }

        return -1;
    }

    private bool NothingMissing(IReadOnlyList<InputName> inputs)
    {
        for (var i = 0; i < inputs.Count; i++)
        {
            if (Positional[i].IsNone && !inputs[i].Optional)
            {
                return false;
            }
        }

        return true;
    }

    private string FieldOf(string name) => $"{FieldPrefix}[{EngineException.Quote(name)}]";
}

/// <summary>One input of a module's forward.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Optional">Whether it may be left out.</param>
internal readonly record struct InputName(string Name, bool Optional)
{
    /// <summary>Parses <c>name</c> or <c>name?</c>.</summary>
    public static InputName Parse(string text) => text.EndsWith('?') ? new(text[..^1], true) : new(text, false);

    /// <inheritdoc/>
    public override string ToString() => Optional ? Name + "?" : Name;
}
