using System.Text.Json;
using Sconce.Engine.Catalog;

namespace Sconce.Engine.Tests.Parity;

/// <summary>Constructors take PyTorch's arguments in its order with its defaults, and types derive from what they do there.</summary>
public sealed class SignatureTests
{
    /// <summary>Arguments of PyTorch that the catalogue does not take, and why.</summary>
    public static readonly IReadOnlyDictionary<string, string> NotTaken = new Dictionary<string, string>
    {
        ["device"] = "a host has one device",
        ["size_average"] = "deprecated; reduction says it",
        ["reduce"] = "deprecated; reduction says it",
        ["min_value"] = "deprecated; min_val says it",
        ["max_value"] = "deprecated; max_val says it",
        ["_weight"] = "private; a state dict brings weights",
        ["_random_samples"] = "private",
        ["process_group"] = "one process is the whole group",
        ["modules"] = "children of the spec",
        ["encoder_layer"] = "a child of the spec",
        ["decoder_layer"] = "a child of the spec",
        ["norm"] = "a child of the spec",
        ["custom_encoder"] = "a Graph wires parts of one's own",
        ["custom_decoder"] = "a Graph wires parts of one's own",
        ["enable_nested_tensor"] = "decides speed, never results",
        ["mask_check"] = "decides speed, never results",
        ["values"] = "tensors; a spec has shapes",
        ["parameters"] = "tensors; a spec has names and shapes",
        ["distance_function"] = "code; the distance is the pairwise one, which is the default",
    };

    /// <summary>Arguments that 1.13 lacks or hides behind *args.</summary>
    private static readonly HashSet<(string Type, string Argument)> Newer =
    [
        ("LayerNorm", "bias"), ("TransformerEncoderLayer", "bias"), ("TransformerDecoderLayer", "bias"), ("Transformer", "bias"), ("RNN", "nonlinearity"),

        // In place of tensors.
        ("ParameterList", "shapes"), ("ParameterList", "dtype"), ("ParameterDict", "names"), ("ParameterDict", "shapes"), ("ParameterDict", "dtype"),
    ];

    /// <summary>What makes a module lazy there: it goes when the module has its shape, and here it is no type.</summary>
    private static readonly string[] LazyMixins = ["LazyModuleMixin", "_LazyConvXdMixin", "_LazyNormBase"];

    public static TheoryData<string> Types =>
        [.. Known.Select(type => type.Name).Intersect(Fixtures.TorchNames.Names)];

    private static IEnumerable<CatalogType> Known => ModuleCatalog.Types.Where(type => type.Kind is TypeKind.Module or TypeKind.Loss);

    [Theory]
    [MemberData(nameof(Types))]
    public void Arguments_and_defaults_are_PyTorchs(string type)
    {
        var ours = Known.Single(t => t.Name == type).Arguments.Where(argument => !Newer.Contains((type, argument.Name)));
        // RNNBase has it for all three; only LSTM takes it.
        var theirs = Torch(type).Arguments.Where(argument => !NotTaken.ContainsKey(Name(argument)) && !(type is "RNN" or "GRU" && Name(argument) == "proj_size"));
        Assert.Equal(theirs.Select(Show), ours.Select(Show));
    }

    [Theory]
    [MemberData(nameof(Types))]
    public void Bases_are_PyTorchs(string type)
    {
        var theirs = Torch(type).Bases.Except(LazyMixins).ToList();
        Assert.Equal(theirs[0], Known.Single(t => t.Name == type).Base);
        if (ModuleCatalog.Types.Any(t => t.Kind == TypeKind.Module && t.Name == type))
        {
            Assert.All(theirs, ancestor => Assert.True(ModuleCatalog.Module(type, "type").IsOrDerivesFrom(ancestor), $"{type} derives from {ancestor}"));
        }
    }

    [Fact]
    public void Every_argument_left_out_is_one_of_PyTorch() =>
        Assert.Empty(NotTaken.Keys.Except(Fixtures.TorchNames.Types.SelectMany(type => type.Arguments.Select(Name))));

    private static TorchType Torch(string type) => Fixtures.TorchNames.Types.Single(t => t.Name == type);

    private static string Name(JsonElement argument) => argument.GetProperty("name").GetString()!;

    private static string Show(JsonElement argument) => $"{Name(argument)}{(argument.TryGetProperty("default", out var value) ? $"={Show(SpecJson.Value(value))}" : "")}";

    private static string Show(CatalogArgument argument) => $"{argument.Name}{(argument.Required ? "" : $"={Show(argument.Default)}")}";

    private static string Show(object? value) => value is null ? "None" : FormattableString.Invariant($"{value}");
}
