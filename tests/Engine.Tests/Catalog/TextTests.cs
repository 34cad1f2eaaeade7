using System.Globalization;
using CsCheck;
using Sconce.Engine.Catalog;

namespace Sconce.Engine.Tests.Catalog;

public sealed class TextTests
{
    [Theory]
    [InlineData(1e-5, "1e-05")]
    [InlineData(0.0001, "0.0001")]
    [InlineData(0.00012, "0.00012")]
    [InlineData(0.1, "0.1")]
    [InlineData(1, "1.0")]
    [InlineData(-2.5, "-2.5")]
    [InlineData(1e15, "1000000000000000.0")]
    [InlineData(1e16, "1e+16")]
    [InlineData(1.5e-7, "1.5e-07")]
    [InlineData(1.0 / 3, "0.3333333333333333")]
    [InlineData(double.NegativeInfinity, "-inf")]
    public void Float_prints_as_python(double value, string expected) => Assert.Equal(expected, PythonFormat.Float(value));

    [Fact]
    public void Float_any_value_reads_back_the_same() =>
        Gen.Double.Where(double.IsFinite).Sample(x => double.Parse(PythonFormat.Float(x), CultureInfo.InvariantCulture) == x);

    [Theory]
    [InlineData("*", "", true)]
    [InlineData("*.weight", "layer1.0.weight", true)]
    [InlineData("*.weight", "weight", false)]
    [InlineData("layer?.0.*", "layer1.0.bias", true)]
    [InlineData("layer?.0.*", "layer12.0.bias", false)]
    [InlineData("a*b*c", "aXbXbYc", true)]
    [InlineData("a*b*c", "aXbXbY", false)]
    [InlineData("", "x", false)]
    public void Glob_matches_whole_names(string pattern, string name, bool expected) => Assert.Equal(expected, Glob.Matches(pattern, name));

    [Fact]
    public void Glob_many_stars_takes_no_exponential_time()
    {
        var started = System.Diagnostics.Stopwatch.StartNew();
        Assert.False(Glob.Matches(string.Concat(Enumerable.Repeat("*a", 2_000)) + "b", new string('a', 4_000)));
        Assert.True(started.Elapsed < TimeSpan.FromSeconds(5), $"it took {started.Elapsed}");
    }

    [Theory]
    [InlineData("Conv2D", "Conv2d")]
    [InlineData("relu", "ReLU")]
    [InlineData("BatchNrom2d", "BatchNorm2d")]
    public void Nearest_misspelt_type_is_found(string given, string expected) =>
        Assert.Equal(expected, NearestNames.To(given, ModuleCatalog.Types.Where(t => t.Kind == TypeKind.Module).Select(t => t.Name))[0]);

    [Fact]
    public void Nearest_of_a_name_of_megabytes_is_none() => Assert.Empty(NearestNames.To(new string('x', 5_000_000), ["Linear"]));
}
