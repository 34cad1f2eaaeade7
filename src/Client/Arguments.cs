using System.Collections;
using System.Globalization;
using System.Runtime.CompilerServices;
using Google.Protobuf.WellKnownTypes;

namespace Sconce.Client;

/// <summary>
/// Arguments by PyTorch's names, written <c>[("lr", 1e-3), ("betas", (double[])[0.9, 0.999])]</c>. A value is a number, a bool, a
/// string, null (None), or a list of these.
/// </summary>
[CollectionBuilder(typeof(Arguments), nameof(Create))]
public sealed class Arguments : IReadOnlyCollection<(string Name, object? Value)>
{
    private readonly (string Name, object? Value)[] _items;

    private Arguments((string Name, object? Value)[] items) => _items = items;

    /// <summary>No arguments: PyTorch's defaults.</summary>
    public static Arguments Empty { get; } = new([]);

    /// <inheritdoc/>
    public int Count => _items.Length;

    /// <summary>Arguments in order.</summary>
    /// <param name="items">Name and value of each.</param>
    /// <exception cref="ArgumentException">A name is empty or given twice.</exception>
    public static Arguments Create(params ReadOnlySpan<(string Name, object? Value)> items)
    {
        var names = new HashSet<string>();
        foreach (var (name, _) in items)
        {
            ArgumentException.ThrowIfNullOrEmpty(name, nameof(items));
            if (!names.Add(name))
                throw new ArgumentException($"The argument '{name}' was given twice.", nameof(items));
        }

        return items.IsEmpty ? Empty ?? new([]) : new Arguments(items.ToArray());
    }

    /// <inheritdoc/>
    public IEnumerator<(string Name, object? Value)> GetEnumerator() => ((IEnumerable<(string, object?)>)_items).GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    internal Struct? ToMessage()
    {
        if (_items.Length == 0)
            return null;
        var message = new Struct();
        foreach (var (name, value) in _items)
            message.Fields.Add(name, ToValue(name, value));
        return message;
    }

    private static Value ToValue(string name, object? value) => value switch
    {
        null => Value.ForNull(),
        Value message => message,
        string text => Value.ForString(text),
        bool flag => Value.ForBool(flag),
        V1.DataType dtype => Value.ForString(DataTypes.NameOf(dtype)),
        // Struct numbers are doubles: a long beyond 2^53 would arrive as another one.
        long number and (> 1L << 53 or < -(1L << 53)) =>
            throw new ArgumentException($"The argument '{name}' is {number}; whole numbers travel exactly only up to 2^53."),
        sbyte or byte or short or ushort or int or uint or long or float or double or decimal or Half =>
            Value.ForNumber(value is Half half ? (double)half : Convert.ToDouble(value, CultureInfo.InvariantCulture)),
        IEnumerable list => Value.ForList([.. list.Cast<object?>().Select(item => ToValue(name, item))]),
        ITuple tuple => Value.ForList([.. Enumerable.Range(0, tuple.Length).Select(i => ToValue(name, tuple[i]))]),
        _ => throw new ArgumentException(
            $"The argument '{name}' is of type {value.GetType()}; expected a number, bool, string, null, dtype, or a list of these."),
    };
}
