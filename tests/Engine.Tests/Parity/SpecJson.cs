using System.Text.Json;
using Sconce.Engine.Catalog;

namespace Sconce.Engine.Tests.Parity;

/// <summary>Reads specs in the shape of the contract's JSON.</summary>
internal static class SpecJson
{
    public static ModuleSpec Read(JsonElement json) => new(json.GetProperty("type").GetString()!)
    {
        Args = Args(json),
        Children = [.. Items(json, "children").Select(Child)],
        Wiring = json.TryGetProperty("wiring", out var wiring)
            ? new Wiring(Names(wiring, "inputs"), [.. Items(wiring, "steps").Select(Step)], Names(wiring, "outputs"))
            : null,
    };

    private static ChildSpec Child(JsonElement json) => new(
        Text(json, "name") ?? "", json.TryGetProperty("spec", out var spec) ? Read(spec) : null, Text(json, "share"));

    private static WiringStep Step(JsonElement json) => new(
        Text(json, "name") ?? "", Text(json, "module"), Text(json, "function"), Names(json, "inputs"), Args(json), Names(json, "unpack"))
    {
        Parameter = Text(json, "parameter"),
    };

    private static Dictionary<string, object?> Args(JsonElement json) =>
        json.TryGetProperty("args", out var args) ? args.EnumerateObject().ToDictionary(p => p.Name, p => Value(p.Value)) : [];

    public static object? Value(JsonElement json) => json.ValueKind switch
    {
        JsonValueKind.Null => null,
        JsonValueKind.True or JsonValueKind.False => json.GetBoolean(),
        JsonValueKind.Number => json.GetDouble(),
        JsonValueKind.String => json.GetString(),
        JsonValueKind.Array => json.EnumerateArray().Select(Value).ToList(),
        _ => json.EnumerateObject().ToDictionary(p => p.Name, p => Value(p.Value)),
    };

    private static string? Text(JsonElement json, string name) => json.TryGetProperty(name, out var value) ? value.GetString() : null;

    private static IReadOnlyList<string> Names(JsonElement json, string name) => [.. Items(json, name).Select(item => item.GetString()!)];

    private static JsonElement.ArrayEnumerator Items(JsonElement json, string name) => json.TryGetProperty(name, out var items) ? items.EnumerateArray() : default;
}
