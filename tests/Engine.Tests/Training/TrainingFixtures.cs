using System.Globalization;
using System.Text.Json;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Training;

/// <summary>Reads what real PyTorch computed.</summary>
internal static class TrainingFixtures
{
    public static IReadOnlyList<JsonElement> Load(string name)
    {
        using var document = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "Training", "Fixtures", name + ".json")));
        return [.. document.RootElement.EnumerateArray().Select(element => element.Clone())];
    }

    /// <summary>One row for each case: its index, and a label that tells which it is.</summary>
    public static TheoryData<int, string> Rows(string name)
    {
        var rows = new TheoryData<int, string>();
        foreach (var (i, fixture) in Load(name).Index())
        {
            rows.Add(i, fixture.TryGetProperty("type", out var type) ? $"{type} {fixture.GetProperty("args")}" : i.ToString(CultureInfo.InvariantCulture));
        }

        return rows;
    }

    public static Tensor Tensor(JsonElement packed)
    {
        var shape = packed.GetProperty("shape").EnumerateArray().Select(d => d.GetInt64()).ToArray();
        var data = packed.GetProperty("data").EnumerateArray();
        return packed.GetProperty("dtype").GetString() == "int64"
            ? tensor(data.Select(x => x.GetInt64()).ToArray()).reshape(shape)
            : tensor(data.Select(Number).ToArray(), ScalarType.Float64).reshape(shape);
    }

    public static IReadOnlyList<Tensor> Tensors(JsonElement list) => [.. list.EnumerateArray().Select(Tensor)];

    public static double Number(JsonElement value) => value.ValueKind != JsonValueKind.String ? value.GetDouble() : value.GetString() switch
    {
        "inf" => double.PositiveInfinity,
        "-inf" => double.NegativeInfinity,
        _ => double.NaN,
    };

    /// <summary>Arguments in the shape in which the server hands them on.</summary>
    public static Dictionary<string, object?> Args(JsonElement value) => (Dictionary<string, object?>)Plain(value)!;

    /// <summary>Asserts that numbers agree within an absolute and a relative tolerance.</summary>
    public static void Close(Tensor expected, Tensor actual, double tolerance, string what)
    {
        Assert.Equal(expected.shape, actual.shape);
        var difference = expected.numel() == 0 ? 0 : (expected - actual).abs().max().ToDouble();
        Assert.True(expected.allclose(actual, rtol: tolerance, atol: tolerance, equal_nan: true), $"{what} differs by up to {difference:g3}; {tolerance:g3} is allowed");
    }

    private static object? Plain(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Object => value.EnumerateObject().ToDictionary(entry => entry.Name, entry => Plain(entry.Value)),
        JsonValueKind.Array => value.EnumerateArray().Select(Plain).ToList(),
        JsonValueKind.String => value.GetString(),
        JsonValueKind.Number => value.GetDouble(),
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        _ => null,
    };
}
