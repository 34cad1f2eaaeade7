using System.Collections;
using System.Collections.ObjectModel;
using Google.Protobuf.WellKnownTypes;

namespace Sconce.Server.Mapping;

/// <summary>google.protobuf.Struct to and from the JSON-shaped values of the engine: null, bool, double, string, list, dictionary.</summary>
internal static class StructMapping
{
    public static IReadOnlyDictionary<string, object?> ToArgs(Struct? value) => value is null || value.Fields.Count == 0
        ? ReadOnlyDictionary<string, object?>.Empty
        : value.Fields.ToDictionary(field => field.Key, field => ToObject(field.Value), StringComparer.Ordinal);

    public static Struct ToStruct(IReadOnlyDictionary<string, object?> args)
    {
        var result = new Struct();
        foreach (var (name, value) in args)
        {
            result.Fields.Add(name, ToValue(value));
        }

        return result;
    }

    public static Value ToValue(object? value) => value switch
    {
        null => Value.ForNull(),
        Value already => already,
        bool flag => Value.ForBool(flag),
        string text => Value.ForString(text),
        IReadOnlyDictionary<string, object?> args => Value.ForStruct(ToStruct(args)),
        IEnumerable items => Value.ForList([.. items.Cast<object?>().Select(ToValue)]),
        IConvertible number => Value.ForNumber(number.ToDouble(System.Globalization.CultureInfo.InvariantCulture)),
        _ => Value.ForString(value.ToString() ?? ""),
    };

    private static object? ToObject(Value value) => value.KindCase switch
    {
        Value.KindOneofCase.BoolValue => value.BoolValue,
        Value.KindOneofCase.NumberValue => value.NumberValue,
        Value.KindOneofCase.StringValue => value.StringValue,
        Value.KindOneofCase.ListValue => value.ListValue.Values.Select(ToObject).ToArray(),
        Value.KindOneofCase.StructValue => ToArgs(value.StructValue),
        _ => null,
    };
}
