using System.Text.Json;

namespace Sconce.Engine.Tests.Parity;

/// <summary>What tests/fixtures-generator/sequences.py wrote.</summary>
internal sealed record Sequences(IReadOnlyList<ConversionSequence> Conversions, IReadOnlyList<TrainingSequence> Training, ApplyOrder Apply, IReadOnlyList<InitialState> Initial,
    IReadOnlyList<InitialisedWeight> Initialisers, IReadOnlyList<LazySequence> Lazy)
{
    public static Sequences All { get; } = Fixtures.Read<Sequences>("sequences");

    /// <summary>Reads pairs of key and tensor.</summary>
    public static IReadOnlyList<(string Key, FixtureTensor Value)> State(IEnumerable<JsonElement> entries) =>
        [.. entries.Select(entry => (entry[0].GetString()!, FixtureTensor.Read(entry[1])))];
}

/// <summary>Conversions of one module, one after another.</summary>
/// <param name="Name">What it shows.</param>
/// <param name="Spec">The module.</param>
/// <param name="State">Its state dict before.</param>
/// <param name="Input">Gradients are those of the sum of squares of its eval output for this.</param>
/// <param name="Gradients">The gradients before the first conversion.</param>
/// <param name="Steps">The conversions.</param>
internal sealed record ConversionSequence(string Name, JsonElement Spec, IReadOnlyList<JsonElement> State, JsonElement Input, IReadOnlyDictionary<string, JsonElement> Gradients,
    IReadOnlyList<ConversionStep> Steps);

/// <summary>One conversion and what it leaves.</summary>
internal sealed record ConversionStep(string Kind, string? Dtype, IReadOnlyList<JsonElement> State, IReadOnlyDictionary<string, JsonElement> Gradients);

/// <summary>Steps of one optimizer with cross entropy; before the last the module becomes float64.</summary>
internal sealed record TrainingSequence(
    string Name, string Optimizer, IReadOnlyDictionary<string, JsonElement> Args, JsonElement Spec, IReadOnlyList<JsonElement> State, IReadOnlyList<TrainingSequenceStep> Steps);

/// <summary>One step: its batch, its loss, and the state dict after it, where it was kept.</summary>
internal sealed record TrainingSequenceStep(JsonElement Input, JsonElement Target, double Loss, IReadOnlyList<JsonElement>? State);

/// <summary>The order of apply and of named_modules.</summary>
/// <param name="Spec">A module with a part that is shared by siblings and one shared by cousins.</param>
/// <param name="Visits">For each visit of apply: the first name of the module visited.</param>
/// <param name="Modules">Names in the order of named_modules.</param>
internal sealed record ApplyOrder(JsonElement Spec, IReadOnlyList<string> Visits, IReadOnlyList<string> Modules);

/// <summary>What a module holds when it is made after manual_seed(5).</summary>
internal sealed record InitialState(JsonElement Spec, IReadOnlyList<JsonElement> State);

/// <summary>A module's weight after manual_seed(5) and one function of torch.nn.init.</summary>
internal sealed record InitialisedWeight(string Function, IReadOnlyDictionary<string, JsonElement> Args, JsonElement Spec, JsonElement Weight);

/// <summary>A module with lazy parts before and after its first forward, which draws their values after manual_seed(5).</summary>
/// <param name="Spec">The module.</param>
/// <param name="Before">What PyTorch prints of it before.</param>
/// <param name="Keys">Keys of its state dict before.</param>
/// <param name="Input">The first input.</param>
/// <param name="Output">The output, in training mode.</param>
/// <param name="After">What PyTorch prints of it then.</param>
/// <param name="State">Its state dict then.</param>
internal sealed record LazySequence(JsonElement Spec, string Before, IReadOnlyList<string> Keys, JsonElement Input, JsonElement Output, string After, IReadOnlyList<JsonElement> State)
{
    public string Type => Spec.GetProperty("type").GetString()!;
}
