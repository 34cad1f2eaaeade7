using System.Globalization;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Catalog;

/// <summary>What values an argument takes.</summary>
internal enum ArgumentKind
{
    Int,
    Float,
    Bool,
    Text,
    Ints,
    Floats,
    Dtype,

    /// <summary>Ints of the named length, or one of <see cref="Argument.Choices"/> (Conv's <c>padding="same"</c>).</summary>
    IntsOrText,

    /// <summary>A list of strings.</summary>
    Texts,

    /// <summary>A list of shapes, each a list of ints.</summary>
    Shapes,
}

/// <summary>One argument of a constructor or function: its name, what it takes, its default, its bounds.</summary>
internal sealed record Argument
{
    /// <summary>What a None inside a list becomes, where the list takes one.</summary>
    public const long NoneItem = long.MinValue;

    private Argument(string name, ArgumentKind kind)
    {
        Name = name;
        Kind = kind;
    }

    public string Name { get; }

    public ArgumentKind Kind { get; }

    public bool Required { get; private init; } = true;

    public object? Default { get; private init; }

    public bool AllowNone { get; private init; }

    /// <summary>For lists: the length that a list must have and a single number is repeated to; 0 for any.</summary>
    public int Length { get; private init; }

    public double Min { get; private init; } = double.NegativeInfinity;

    public double Max { get; private init; } = double.PositiveInfinity;

    /// <summary>Whether <see cref="Min"/> itself is refused.</summary>
    public bool MinIsOpen { get; private init; }

    public IReadOnlyList<string> Choices { get; private init; } = [];

    /// <summary>Whether a list of ints may hold None (adaptive pooling's "as the input").</summary>
    public bool TakesNoneItems { get; private init; }

    /// <summary>Whether its numbers are outside of every rule, those that are none among them.</summary>
    private bool TakesAnyNumber { get; init; }

    public static Argument Int(string name) => new(name, ArgumentKind.Int);

    public static Argument Float(string name) => new(name, ArgumentKind.Float);

    public static Argument Bool(string name, bool value) => new(name, ArgumentKind.Bool) { Required = false, Default = value };

    public static Argument Text(string name, params string[] choices) => new(name, ArgumentKind.Text) { Choices = choices };

    public static Argument Ints(string name, int length = 0) => new(name, ArgumentKind.Ints) { Length = length };

    public static Argument IntsOrText(string name, int length, params string[] choices) =>
        new(name, ArgumentKind.IntsOrText) { Length = length, Choices = choices };

    public static Argument Floats(string name, int length = 0) => new(name, ArgumentKind.Floats) { Length = length };

    public static Argument Texts(string name) => new(name, ArgumentKind.Texts);

    public static Argument Shapes(string name) => new(name, ArgumentKind.Shapes);

    public static Argument Dtype(string name = "dtype") => new Argument(name, ArgumentKind.Dtype).OrNone();

    /// <summary>The same with a default.</summary>
    public Argument Or(object value) => this with { Required = false, Default = value };

    /// <summary>The same with None allowed, and the default.</summary>
    public Argument OrNone() => this with { Required = false, AllowNone = true, Default = null };

    /// <summary>The same with None allowed beside another default.</summary>
    public Argument Nullable() => this with { AllowNone = true };

    /// <summary>The same for a value that no caller gives: any number will do.</summary>
    public Argument WithoutBounds() => this with { TakesAnyNumber = true };

    public Argument WithNoneItems() => this with { TakesNoneItems = true };

    /// <summary>The same without a default.</summary>
    public Argument WithoutDefault() => this with { Required = true, AllowNone = false };

    public Argument AtLeast(double min) => this with { Min = min };

    public Argument MoreThan(double min) => this with { Min = min, MinIsOpen = true };

    public Argument Between(double min, double max) => this with { Min = min, Max = max };

    public CatalogArgument Describe() => new(Name, TypeForPeople, Required, Default switch { long n => (double)n, int n => (double)n, var other => other });

    /// <summary>Its type for people.</summary>
    public string TypeForPeople
    {
        get
        {
            var many = Length == 0 ? "list of " : "int or list of ";
            var type = Kind switch
            {
                ArgumentKind.Int => "int",
                ArgumentKind.Float => "float",
                ArgumentKind.Bool => "bool",
                ArgumentKind.Text => Choices.Count == 0 ? "string" : OneOf(),
                ArgumentKind.Ints => many + "int",
                ArgumentKind.Floats => "float or list of float",
                ArgumentKind.Dtype => "dtype",
                ArgumentKind.Texts => "list of string",
                ArgumentKind.Shapes => "list of lists of int",
                _ => $"{many}int, or {OneOf()}",
            };
            return AllowNone ? type + " or None" : type;
        }
    }

    /// <summary>Converts a value of JSON's shape; null message where it is right.</summary>
    public (object? Value, string? Wrong) Convert(object? given)
    {
        if (given is null)
        {
            return AllowNone ? (null, null) : (null, $"None was given; expected {TypeForPeople}");
        }

        return Kind switch
        {
            ArgumentKind.Bool => given is bool ? (given, null) : Mismatch(given),
            ArgumentKind.Int => ToLong(given) is { } n ? InBounds(n, given) : Mismatch(given),
            ArgumentKind.Float => ToDouble(given) is { } x ? InBounds(x, given) : Mismatch(given),
            ArgumentKind.Text => given is string text && (Choices.Count == 0 || Choices.Contains(text)) ? (text, null) : Mismatch(given),
            ArgumentKind.Dtype => given is string name && ElementTypes.TryParse(name, out var type) ? (type, null) : Mismatch(given),
            ArgumentKind.IntsOrText when given is string choice => Choices.Contains(choice) ? (choice, null) : Mismatch(given),
            ArgumentKind.Floats => ToList(given, ToDouble),
            ArgumentKind.Texts => given is System.Collections.IEnumerable texts and not (string or System.Collections.IDictionary) && texts.Cast<object?>().ToList() is var list && list.TrueForAll(item => item is string)
                ? (list.Cast<string>().ToArray(), null) : Mismatch(given),
            ArgumentKind.Shapes => ToShapes(given),
            _ => ToList(given, ToLong),
        };
    }

    private static long? ToLong(object? value) => value switch
    {
        long n => n,
        int n => n,
        double x when Math.Floor(x) == x && Math.Abs(x) <= 1L << 53 => (long)x,
        _ => null,
    };

    private static double? ToDouble(object? value) => value switch
    {
        double x => x,
        float x => x,
        long n => n,
        int n => n,
        string text => ToNonFinite(text),
        _ => null,
    };

    // JSON has no infinity; PyTorch's norms do.
    private static double? ToNonFinite(string text) => text switch
    {
        "inf" or "Infinity" => double.PositiveInfinity,
        "-inf" or "-Infinity" => double.NegativeInfinity,
        _ => null,
    };

    private string OneOf() => string.Join(" or ", Choices.Select(EngineException.Quote));

    private (object? Value, string? Wrong) Mismatch(object given) => (null, $"{Show(given)} was given; expected {TypeForPeople}");

    private (object? Value, string? Wrong) InBounds(IConvertible value, object given)
    {
        var x = value.ToDouble(CultureInfo.InvariantCulture);
        return !TakesAnyNumber && (x < Min || x > Max || (MinIsOpen && x <= Min) || double.IsNaN(x)) ? (null, $"{Show(given)} was given; it must be {Bounds()}") : (value, null);
    }

    private (object? Value, string? Wrong) ToList<T>(object given, Func<object?, T?> convert)
        where T : struct, IConvertible
    {
        if (convert(given) is { } single)
        {
            var (_, wrong) = InBounds(single, given);
            return wrong is null ? (new[] { single }, null) : (null, wrong);
        }

        if (given is not System.Collections.IEnumerable items || given is string || given is System.Collections.IDictionary)
        {
            return Mismatch(given);
        }

        var list = new List<T>();
        foreach (var item in items)
        {
            if (item is null && TakesNoneItems)
            {
                list.Add((T)(object)NoneItem);
                continue;
            }

            if (convert(item) is not { } one)
            {
                return Mismatch(given);
            }

            if (InBounds(one, item!).Wrong is { } wrong)
            {
                return (null, wrong);
            }

            list.Add(one);
        }

        return Length != 0 && list.Count != Length
            ? (null, $"a list of {list.Count} was given; expected one number or a list of {Length}")
            : (list.ToArray(), null);
    }

    private (object? Value, string? Wrong) ToShapes(object given)
    {
        if (given is not System.Collections.IEnumerable items || given is string || given is System.Collections.IDictionary)
        {
            return Mismatch(given);
        }

        var shapes = new List<long[]>();
        foreach (var item in items)
        {
            if (item is not System.Collections.IEnumerable)
            {
                return Mismatch(given);
            }

            var (shape, wrong) = ToList(item, ToLong);
            if (wrong is not null)
            {
                return (null, wrong);
            }

            shapes.Add((long[])shape!);
        }

        return (shapes.ToArray(), null);
    }

    private string Bounds() => (double.IsNegativeInfinity(Min), double.IsPositiveInfinity(Max)) switch
    {
        (false, false) => $"from {Number(Min)} to {Number(Max)}",
        (false, true) => $"{(MinIsOpen ? "more than" : "at least")} {Number(Min)}",
        (true, false) => $"at most {Number(Max)}",
        _ => "a number",
    };

    private static string Number(double x) => x.ToString(CultureInfo.InvariantCulture);

    internal static string Show(object? value) => value switch
    {
        null => "None",
        string text => EngineException.Quote(text),
        bool flag => flag ? "true" : "false",
        IFormattable number => number.ToString(null, CultureInfo.InvariantCulture),
        System.Collections.IDictionary => "an object",
        System.Collections.IEnumerable items => $"[{string.Join(", ", items.Cast<object?>().Take(8).Select(Show))}{(items.Cast<object?>().Skip(8).Any() ? ", …" : "")}]",
        _ => "an object",
    };
}
