using Sconce.Engine.Catalog;

namespace Sconce.Engine.Tests.Parity;

/// <summary>What the fixtures must cover.</summary>
public sealed class CoverageTests
{
    private static IEnumerable<string> Catalogue => ModuleCatalog.Types.Where(type => type.Kind == TypeKind.Module).Select(type => type.Name);

    /// <summary>Types that PyTorch 1.13 and the catalogue have and that no fixture covers, and why.</summary>
    private static readonly Dictionary<string, string> NotCovered = [];

    [Fact]
    public void Every_type_that_PyTorch_has_too_is_covered()
    {
        var covered = Fixtures.Cases.Values.SelectMany(fixture => fixture.Types).ToHashSet();
        Assert.Empty(Catalogue.Intersect(Fixtures.TorchTypes).Except(covered).Except(NotCovered.Keys));
        Assert.Empty(NotCovered.Keys.Intersect(covered));
    }
}
