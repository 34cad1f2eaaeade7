using Sconce.Engine.Catalog;

namespace Sconce.Engine.Tests.Parity;

/// <summary>What the fixtures must cover, and what the catalogue must have.</summary>
public sealed class CoverageTests
{
    /// <summary>Types of the catalogue that no fixture covers, and why.</summary>
    public static readonly IReadOnlyDictionary<string, string> NotCovered = new Dictionary<string, string>
    {
        ["SyncBatchNorm"] = "PyTorch 1.13 runs it on a GPU only; on one device it is BatchNorm",
    };

    /// <summary>Types that PyTorch 1.13 has and the catalogue has not, and why.</summary>
    public static readonly IReadOnlyDictionary<string, string> NotInCatalogue = new Dictionary<string, string>
    {
        ["AdaptiveLogSoftmaxWithLoss"] = "a loss with parameters and a named tuple as its result",
        ["Container"] = "an alias of Module from before 2017",
        ["DataParallel"] = "one host owns one device",
        ["Module"] = "a base type",
        ["NLLLoss2d"] = "deprecated; NLLLoss takes the same",
        ["ParameterDict"] = "holds tensors that only code could use",
        ["ParameterList"] = "holds tensors that only code could use",
        ["RNNBase"] = "a base type",
        ["RNNCellBase"] = "a base type",
    };

    /// <summary>Module types of the catalogue that a fixture covers.</summary>
    public static IEnumerable<string> Covered => Catalogue(TypeKind.Module).Intersect(Fixtures.Cases.Values.SelectMany(fixture => fixture.Types));

    [Fact]
    public void Every_type_of_the_catalogue_is_covered()
    {
        Assert.Empty(Catalogue(TypeKind.Module).Except(Covered).Except(NotCovered.Keys));
        Assert.Empty(NotCovered.Keys.Intersect(Covered));
    }

    [Fact]
    public void Every_function_of_the_catalogue_is_covered() =>
        Assert.Empty(Catalogue(TypeKind.Function).Except(Fixtures.Cases.Values.SelectMany(fixture => fixture.Functions)));

    [Fact]
    public void Every_type_of_PyTorch_is_in_the_catalogue()
    {
        // A lazy module learns its sizes from its first input; a spec says them.
        var wanted = Fixtures.TorchNames.Types.Where(type => !type.StartsWith("Lazy", StringComparison.Ordinal)).ToList();
        var known = Catalogue(TypeKind.Module).Concat(Catalogue(TypeKind.Loss)).ToList();
        Assert.Empty(wanted.Except(known).Except(NotInCatalogue.Keys));
        Assert.Empty(NotInCatalogue.Keys.Intersect(known));
    }

    [Fact]
    public void At_least_ninety_module_types_of_PyTorch_are_covered() =>
        Assert.InRange(Covered.Intersect(Fixtures.TorchNames.Types).Count(), 90, int.MaxValue);

    private static IEnumerable<string> Catalogue(TypeKind kind) => ModuleCatalog.Types.Where(type => type.Kind == kind).Select(type => type.Name);
}
