using System.Globalization;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Catalog;

/// <summary>Arguments that have been checked and converted, by PyTorch's names.</summary>
internal sealed class BoundArguments
{
    private readonly IReadOnlyList<Argument> _declared;
    private readonly IReadOnlyDictionary<string, object?> _values;

    internal BoundArguments(IReadOnlyList<Argument> declared, IReadOnlyDictionary<string, object?> values, IReadOnlyDictionary<string, object?> given, string field)
    {
        _declared = declared;
        _values = values;
        Given = given;
        Field = field;
    }

    /// <summary>What the caller gave.</summary>
    public IReadOnlyDictionary<string, object?> Given { get; }

    /// <summary>Path of the arguments in the request.</summary>
    public string Field { get; }

    public bool IsNone(string name) => _values[name] is null;

    public long Int(string name) => (long)_values[name]!;

    public long? IntOrNone(string name) => (long?)_values[name];

    public double Float(string name) => (double)_values[name]!;

    public double? FloatOrNone(string name) => (double?)_values[name];

    public bool Bool(string name) => (bool)_values[name]!;

    public bool? BoolOrNone(string name) => (bool?)_values[name];

    public string Text(string name) => (string)_values[name]!;

    public bool IsText(string name) => _values[name] is string;

    public ElementType? DtypeOrNone(string name) => (ElementType?)_values[name];

    /// <summary>A list, one number repeated to the declared length.</summary>
    public long[] Ints(string name) => Spread<long>(name);

    public long[]? IntsOrNone(string name) => IsNone(name) ? null : Spread<long>(name);

    public double[] Floats(string name) => Spread<double>(name);

    public double[]? FloatsOrNone(string name) => IsNone(name) ? null : Spread<double>(name);

    public string[] Texts(string name) => (string[])_values[name]!;

    public long[][] Shapes(string name) => (long[][])_values[name]!;

    /// <summary>Whether the list was given as one number.</summary>
    public bool IsScalar(string name) => Given.TryGetValue(name, out var value) ? value is double or float or long or int : Declared(name).Default is not System.Collections.IEnumerable;

    /// <summary>
    /// The value as Python prints it: lists as tuples, a list given as one number as that number unless <paramref name="spread"/>. JSON cannot tell
    /// 2 from 2.0, so a float prints as one, save for PyTorch's own defaults that are integers.
    /// </summary>
    public string Repr(string name, bool spread = false) => _values[name] switch
    {
        null => "None",
        bool flag => flag ? "True" : "False",
        long n => n.ToString(CultureInfo.InvariantCulture),
        double when !Given.ContainsKey(name) && Declared(name).Default is long n => n.ToString(CultureInfo.InvariantCulture),
        double x => PythonFormat.Float(x),
        string text => text,
        long[] list when !spread && IsScalar(name) => list[0].ToString(CultureInfo.InvariantCulture),
        long[] => PythonFormat.Tuple(Ints(name)),
        double[] list when !spread && IsScalar(name) => PythonFormat.Float(list[0]),
        double[] => PythonFormat.Tuple(Floats(name)),
        var other => other.ToString() ?? "",
    };

    /// <summary>The arguments of another type that takes these and one size more.</summary>
    /// <param name="declared">What that type takes.</param>
    /// <param name="name">The size's name.</param>
    /// <param name="size">The size.</param>
    public BoundArguments With(IReadOnlyList<Argument> declared, string name, long size)
    {
        var given = new Dictionary<string, object?>(Given) { [name] = (double)size };

        // Defaults that are others there (LazyInstanceNorm's affine) must be said.
        foreach (var argument in declared.Where(argument => _values.GetValueOrDefault(argument.Name) is bool flag && argument.Default is bool theirs && flag != theirs))
        {
            given[argument.Name] = _values[argument.Name];
        }

        return new BoundArguments(declared, new Dictionary<string, object?>(_values) { [name] = size }, given, Field);
    }

    /// <summary>An error about one argument, for checks that the declaration cannot say.</summary>
    public EngineException Refuse(string name, string message) => EngineException.Invalid($"{Field}.{name}", message, "BAD_ARGUMENT");

    private Argument Declared(string name) => _declared.First(a => a.Name == name);

    private T[] Spread<T>(string name)
    {
        var list = (T[])_values[name]!;
        var length = Declared(name).Length;
        return list.Length == 1 && length > 1 ? [.. Enumerable.Repeat(list[0], length)] : list;
    }
}
