using System.Text.Json;
using Sconce.Engine.Catalog;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Tests.Parity;

/// <summary>What real PyTorch gave, as tests/fixtures-generator/modules.py wrote it.</summary>
internal static class Fixtures
{
    private static readonly JsonSerializerOptions Options = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower, RespectRequiredConstructorParameters = true };

    private static readonly string[] Families =
        ["activations", "attention", "containers", "convolutions", "dropout", "functions", "lazy", "linear", "newer", "norms", "padding", "pooling", "recurrent"];

    /// <summary>The cases of all families, by name.</summary>
    public static IReadOnlyDictionary<string, FixtureCase> Cases { get; } =
        Families.SelectMany(family => Read<FixtureFamily>(family).Cases).ToDictionary(fixture => fixture.Name);

    /// <summary>Every module type of the PyTorch that made the fixtures.</summary>
    public static TorchNames TorchNames { get; } = Read<TorchNames>("torch-types");

    public static T Read<T>(string name)
    {
        using var stream = typeof(Fixtures).Assembly.GetManifestResourceStream($"Parity.{name}.json") ?? throw new FileNotFoundException(name);
        return JsonSerializer.Deserialize<T>(stream, Options)!;
    }

    private sealed record FixtureFamily(string Torch, IReadOnlyList<FixtureCase> Cases);
}

/// <summary>What a PyTorch has.</summary>
/// <param name="Torch">Its version.</param>
/// <param name="Types">Module types of torch.nn, losses included.</param>
internal sealed record TorchNames(string Torch, IReadOnlyList<TorchType> Types)
{
    public IEnumerable<string> Names => Types.Select(type => type.Name);
}

/// <summary>A type of torch.nn.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Bases">What it derives from, nearest first; the last is Module, of which that is nobody.</param>
/// <param name="Arguments">Its constructor's arguments: a name, and a default where there is one.</param>
internal sealed record TorchType(string Name, IReadOnlyList<string> Bases, IReadOnlyList<JsonElement> Arguments);

/// <summary>One module, its inputs, and what PyTorch made of them.</summary>
/// <param name="Name">The type, and which variant of it.</param>
/// <param name="Types">Types of all its modules.</param>
/// <param name="Functions">Functions that it is there for; those of other cases are not counted.</param>
/// <param name="Spec">How to build it, in the shape of the contract's JSON.</param>
/// <param name="Repr">How PyTorch prints it.</param>
/// <param name="Parameters">Names and shapes in the order of named_parameters.</param>
/// <param name="State">The state dict, in order.</param>
/// <param name="Inputs">What it is called with.</param>
/// <param name="Modes">For <c>train</c> and <c>eval</c>: results by dtype, or the name of the mode with the same results.</param>
internal sealed record FixtureCase(
    string Name, IReadOnlyList<string> Types, IReadOnlyList<string> Functions, JsonElement Spec, string Repr, IReadOnlyList<JsonElement> Parameters, IReadOnlyList<JsonElement> State,
    FixtureInputs Inputs, IReadOnlyDictionary<string, JsonElement> Modes)
{
    public ModuleSpec ModuleSpec => SpecJson.Read(Spec);

    /// <summary>The type of its root.</summary>
    public string Type => Spec.GetProperty("type").GetString()!;

    /// <summary>Whether a mode's results are there in both dtypes and <paramref name="has"/> holds for them.</summary>
    public bool Has(string mode, Func<FixtureRun, bool> has) => Modes.ContainsKey(mode) && has(Run(mode, ElementType.Float32)) && has(Run(mode, ElementType.Float64));

    public IEnumerable<(string Name, long[] Shape)> NamedParameters => Parameters.Select(p => (p[0].GetString()!, p[1].Deserialize<long[]>()!));

    public IEnumerable<(string Key, FixtureTensor Value)> Entries => State.Select(entry => (entry[0].GetString()!, FixtureTensor.Read(entry[1])));

    public FixtureRun Run(string mode, ElementType type)
    {
        var runs = Modes[mode];
        return FixtureRun.Read((runs.ValueKind == JsonValueKind.String ? Modes[runs.GetString()!] : runs).GetProperty(type.Name()));
    }
}

/// <summary>Values by position and by name: trees of tensors.</summary>
internal sealed record FixtureInputs(IReadOnlyList<JsonElement> Positional, IReadOnlyDictionary<string, JsonElement> Named);

/// <summary>What one forward and backward gave.</summary>
/// <param name="Output">A tree of tensors.</param>
/// <param name="Differentiable">Whether there was a backward.</param>
/// <param name="InputGradients">One for each tensor of the inputs; null where PyTorch gave none.</param>
/// <param name="ParameterGradients">By dotted name; null where PyTorch gave none.</param>
/// <param name="StateAfter">Entries of the state dict that the forward changed.</param>
internal sealed record FixtureRun(
    JsonElement Output, bool Differentiable, IReadOnlyList<FixtureTensor?> InputGradients, IReadOnlyDictionary<string, FixtureTensor?> ParameterGradients,
    IReadOnlyDictionary<string, FixtureTensor> StateAfter)
{
    public static FixtureRun Read(JsonElement json) => new(
        json.GetProperty("output"), json.GetProperty("differentiable").GetBoolean(),
        [.. json.GetProperty("input_gradients").EnumerateArray().Select(FixtureTensor.ReadOrNull)],
        json.GetProperty("parameter_gradients").EnumerateObject().ToDictionary(p => p.Name, p => FixtureTensor.ReadOrNull(p.Value)),
        json.GetProperty("state_after").EnumerateObject().ToDictionary(p => p.Name, p => FixtureTensor.Read(p.Value)));
}
