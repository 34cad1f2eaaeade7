using System.Text.Json;
using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Tests.Parity;

/// <summary>What the fixtures must cover, and what the catalogue must have.</summary>
public sealed class CoverageTests
{
    private const string NoForward = "it has no forward, in PyTorch too; Graph cases use what it holds";
    private const string LayersDraw = "only its layers draw; they are compared";

    /// <summary>Checks that no fixture makes of a type, and why. One that some fixture makes after all fails the test.</summary>
    public static readonly IReadOnlyDictionary<(string Type, ParityCheck Check), string> NotCompared = new Dictionary<(string, ParityCheck), string>
    {
        [("Embedding", ParityCheck.InputGradients)] = "its inputs are indexes",
        [("ModuleDict", ParityCheck.Forward)] = NoForward,
        [("ModuleDict", ParityCheck.InputGradients)] = NoForward,
        [("ModuleDict", ParityCheck.Inputs)] = NoForward,
        [("ModuleList", ParityCheck.Forward)] = NoForward,
        [("ModuleList", ParityCheck.InputGradients)] = NoForward,
        [("ModuleList", ParityCheck.Inputs)] = NoForward,
        [("ParameterDict", ParityCheck.Forward)] = NoForward,
        [("ParameterDict", ParityCheck.InputGradients)] = NoForward,
        [("ParameterList", ParityCheck.Forward)] = NoForward,
        [("ParameterList", ParityCheck.InputGradients)] = NoForward,
        [("Transformer", ParityCheck.Random)] = LayersDraw,
    };

    /// <summary>Types that PyTorch 1.13 has and the catalogue has not, and why.</summary>
    public static readonly IReadOnlyDictionary<string, string> NotInCatalogue = new Dictionary<string, string>
    {
        ["Container"] = "an alias of Module from before 2017",
        ["DataParallel"] = "one host owns one device",
        ["Module"] = "a base type",
        ["NLLLoss2d"] = "deprecated; NLLLoss takes the same",
        ["RNNBase"] = "a base type",
        ["RNNCellBase"] = "a base type",
    };

    public static TheoryData<ParityCheck> Checks => [.. Enum.GetValues<ParityCheck>()];

    /// <summary>Counterparts in torch.nn.functional that a wiring cannot call, and why.</summary>
    public static readonly IReadOnlyDictionary<string, string> NotCallable = new Dictionary<string, string>
    {
        ["embedding_bag"] = "libtorch's needs bags and offsets checked against the weight, which EmbeddingBag does: use that",
        ["multi_head_attention_forward"] = "takes every weight of MultiheadAttention one by one: use that, or scaled_dot_product_attention",
    };

    public static TheoryData<string> TypesWithDtype =>
        [.. ModuleCatalog.Types.Where(type => type.Kind == TypeKind.Module && type.Arguments.Any(argument => argument.Name == "dtype") && TypeCoverage.All.Any(covered => covered.Name == type.Name && covered.Own.Count > 0)).Select(type => type.Name)];

    [Theory]
    [MemberData(nameof(Checks))]
    public void Every_type_of_the_catalogue_has_a_fixture_for(ParityCheck check)
    {
        var missing = TypeCoverage.All.Where(type => type.Applies(check)).SelectMany(type => type.Missing(check).Select(what => (type.Name, What: what))).ToList();
        Assert.Empty(missing.Where(gap => !NotCompared.ContainsKey((gap.Name, check))).Select(gap => $"{gap.Name}: {gap.What}"));
        Assert.Empty(NotCompared.Keys.Where(exempt => exempt.Check == check).Select(exempt => exempt.Type).Except(missing.Select(gap => gap.Name)));
    }

    [Fact]
    public void Every_function_of_the_catalogue_is_covered() =>
        // Losses have fixtures of their own: LossParityTests.
        Assert.Empty(Catalogue(TypeKind.Function).Except(Fixtures.Cases.Values.SelectMany(fixture => fixture.Functions)).Except(ModuleCatalog.Types.Where(type => type.Kind == TypeKind.Loss).Select(type => type.Functional)));

    [Fact]
    public void Every_counterpart_in_functional_is_a_function_that_a_wiring_may_call()
    {
        var counterparts = ModuleCatalog.Types.Where(type => type.Kind is TypeKind.Module or TypeKind.Loss && type.Functional.Length > 0).Select(type => type.Functional).Distinct().ToList();
        Assert.Equal(NotCallable.Keys.Order(), counterparts.Except(Catalogue(TypeKind.Function)).Order());
    }

    [Fact]
    public void Every_type_of_PyTorch_is_in_the_catalogue()
    {
        var known = Catalogue(TypeKind.Module).Concat(Catalogue(TypeKind.Loss)).ToList();
        Assert.Empty(Fixtures.TorchNames.Names.Except(known).Except(NotInCatalogue.Keys));
        Assert.Empty(NotInCatalogue.Keys.Intersect(known));
    }

    [Theory]
    [MemberData(nameof(TypesWithDtype))]
    public void Dtype_argument_is_the_dtype_of_all_but_integers(string type)
    {
        var spec = TypeCoverage.All.Single(covered => covered.Name == type).Own.First(fixture => fixture.State.Count > 0).ModuleSpec;
        using var tree = ModuleBuilder.Build(spec with { Args = new Dictionary<string, object?>(spec.Args) { ["dtype"] = "float64" } }, ElementType.Float32, new BuildLimits());
        Assert.NotEmpty(ModuleTree.State(tree.Root));
        Assert.All(ModuleTree.State(tree.Root), entry =>
            Assert.Equal(entry.Key.EndsWith("num_batches_tracked", StringComparison.Ordinal) ? ElementType.Int64 : ElementType.Float64, entry.Tensor.dtype.ToElementType()));
    }

    [Fact]
    public void Outputs_are_those_that_PyTorch_gives()
    {
        foreach (var fixture in Fixtures.Cases.Values)
        {
            // A wired function's result is the output of the one function that the case is there for.
            var spec = fixture.ModuleSpec;
            var type = spec.Type != "Graph" ? (TypeKind.Module, spec.Type)
                : spec.Wiring is { Steps: [{ Function: { } function } step] } && step.Unpack.Count == 0 ? (TypeKind.Function, function) : default;
            if (type == default)
            {
                continue;
            }

            var outputs = ModuleCatalog.Types.Single(t => (t.Kind, t.Name) == type).Outputs;
            var run = fixture.Run(fixture.Modes.Keys.First(), ElementType.Float32).Output;
            if (run.ValueKind != JsonValueKind.Array)
            {
                Assert.True(outputs is [_] or [_, [.., '?']], $"{fixture.Name} gives one value, not {string.Join(", ", outputs)}");
                Assert.NotEqual('*', outputs[0][0]);
            }
            else if (outputs[0][0] != '*')
            {
                Assert.True(outputs.Count == run.GetArrayLength(), $"{fixture.Name} gives {run.GetArrayLength()} values, not {string.Join(", ", outputs)}");
                Assert.Equal(outputs.Select(o => o.StartsWith('(')), run.EnumerateArray().Select(item => item.ValueKind == JsonValueKind.Array));
            }
        }
    }

    private static IEnumerable<string> Catalogue(TypeKind kind) => ModuleCatalog.Types.Where(type => type.Kind == kind).Select(type => type.Name);
}
