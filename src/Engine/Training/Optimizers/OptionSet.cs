using Sconce.Engine.Catalog;

namespace Sconce.Engine.Training.Optimizers;

/// <summary>Arguments of an optimizer's group or of a scheduler by PyTorch's names. Unlike those of a module they change: schedulers set them.</summary>
internal sealed class OptionSet
{
    private readonly Dictionary<string, object?> _values;

    private OptionSet(Dictionary<string, object?> values) => _values = values;

    /// <summary>The values in the shape of JSON: null, <see cref="bool"/>, <see cref="double"/>, <see cref="string"/> or a list of numbers.</summary>
    public IReadOnlyDictionary<string, object?> Values => _values;

    public double LearningRate
    {
        get => Number("lr");
        set => _values["lr"] = value;
    }

    /// <summary>What schedulers start from: the learning rate that the group had when its first scheduler was made.</summary>
    public double InitialLearningRate
    {
        get => Has("initial_lr") ? Number("initial_lr") : LearningRate;
        set => _values["initial_lr"] = value;
    }

    /// <summary>Checks and converts arguments as a caller gave them.</summary>
    /// <param name="declared">What there is.</param>
    /// <param name="given">What the caller gave.</param>
    /// <param name="owner">Whose arguments they are, for messages.</param>
    /// <param name="field">Their path in the request.</param>
    public static OptionSet Bind(IReadOnlyList<Argument> declared, IReadOnlyDictionary<string, object?> given, string owner, string field)
    {
        var options = Converted(declared, given, owner, field);
        var errors = new OptionErrors(field);
        foreach (var (name, value) in options.Values)
        {
            // Unlike arguments of modules, whose norms may be infinite: one step with such a number and nothing is left of the parameters.
            if (value is double number ? !double.IsFinite(number) : value is IReadOnlyList<double> numbers && !numbers.All(double.IsFinite))
            {
                errors.Add(name, $"{Argument.Show(value)} was given; it must be finite");
            }
        }

        errors.ThrowIfAny();
        return options;
    }

    /// <summary>Takes up what <see cref="Copy"/> gave, whatever the numbers: a schedule may take a rate to where no caller could set it, e.g. below zero.</summary>
    /// <param name="declared">What there is.</param>
    /// <param name="remembered">The values; what is not declared is left out.</param>
    /// <param name="owner">Whose they are, for messages.</param>
    /// <exception cref="EngineException">A value has another type than it is declared with, or is missing and has no default.</exception>
    public static OptionSet Recall(IReadOnlyList<Argument> declared, IReadOnlyDictionary<string, object?> remembered, string owner)
    {
        List<Argument> any = [.. declared.Select(argument => argument.WithoutBounds())];
        var options = Converted(any, any.Where(argument => remembered.ContainsKey(argument.Name)).ToDictionary(argument => argument.Name, argument => remembered[argument.Name]), owner, "options");
        if (remembered.TryGetValue("initial_lr", out var initial))
        {
            options.InitialLearningRate = (double)initial!;
        }

        return options;
    }

    public bool Has(string name) => _values.ContainsKey(name);

    public double Number(string name) => (double)_values[name]!;

    public double? OptionalNumber(string name) => (double?)_values[name];

    public bool Flag(string name) => (bool)_values[name]!;

    public string? Text(string name) => (string?)_values[name];

    public (double First, double Second) Pair(string name)
    {
        var numbers = Numbers(name);
        return (numbers[0], numbers[1]);
    }

    public IReadOnlyList<double> Numbers(string name) => (IReadOnlyList<double>)_values[name]!;

    /// <summary>One number for each group: one given for all, or a list of as many.</summary>
    public double[] PerGroup(string name, int groups) => Numbers(name) is [var one] ? [.. Enumerable.Repeat(one, groups)] : [.. Numbers(name)];

    public void Set(string name, object? value) => _values[name] = value;

    /// <summary>The values as they are now, whatever changes later.</summary>
    public IReadOnlyDictionary<string, object?> Copy() => new Dictionary<string, object?>(_values, StringComparer.Ordinal);

    /// <summary>Takes over every value of another set; those that only this one has stay.</summary>
    public void Take(OptionSet other)
    {
        foreach (var (name, value) in other._values)
        {
            _values[name] = value;
        }
    }

    private static OptionSet Converted(IReadOnlyList<Argument> declared, IReadOnlyDictionary<string, object?> given, string owner, string field)
    {
        var bound = ArgumentBinder.Bind(declared, given, owner, field);
        return new OptionSet(declared.ToDictionary(argument => argument.Name, argument => Value(bound, argument), StringComparer.Ordinal));
    }

    private static object? Value(BoundArguments bound, Argument argument) => argument.Kind switch
    {
        _ when bound.IsNone(argument.Name) => null,
        ArgumentKind.Int => (double)bound.Int(argument.Name),
        ArgumentKind.Float => bound.Float(argument.Name),
        ArgumentKind.Bool => bound.Bool(argument.Name),
        ArgumentKind.Ints => bound.Ints(argument.Name).Select(n => (double)n).ToArray(),
        ArgumentKind.Floats => bound.Floats(argument.Name),
        _ => bound.Text(argument.Name),
    };
}
