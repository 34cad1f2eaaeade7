using Sconce.Engine.Modules;
using Sconce.Engine.Tests.Training;
using Sconce.Engine.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Weights;

public sealed class StateLoadingTests
{
    [Fact]
    public void Load_copies_every_value_in_the_dtype_of_the_module()
    {
        using var scope = NewDisposeScope();
        using var tree = Given.TwoLayers();
        using var other = Given.TwoLayers();
        var weight = tree.Find("0").Parameters[0].Parameter;
        var values = State(other).Select(entry => (entry.Key, entry.Value.to(ScalarType.Float64))).ToList();
        var outcome = StateLoading.Load(tree.Root, values, strict: true);
        Assert.Empty(outcome.MissingKeys.Concat(outcome.UnexpectedKeys));
        Assert.All(State(tree).Zip(State(other)), pair => Assert.True(Same(pair.First.Value, pair.Second.Value)));
        Assert.Same(weight, tree.Find("0").Parameters[0].Parameter);
        Assert.True(weight.requires_grad);
        Assert.Equal(ScalarType.Float32, weight.dtype);
    }

    [Fact]
    public void Load_keeps_copies_and_not_the_callers_memory()
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        var weight = ones(3, 4);
        _ = StateLoading.Load(tree.Root, [("weight", weight), ("bias", zeros(3))], strict: true);
        _ = weight.zero_();
        Assert.Equal(12, tree.Root.Parameters[0].Parameter.sum().ToSingle());
    }

    [Fact]
    public void Load_strictly_names_all_that_is_wrong_and_changes_nothing()
    {
        using var scope = NewDisposeScope();
        using var tree = Given.TwoLayers();
        var before = State(tree).Select(entry => entry.Value.clone()).ToList();
        var error = Assert.Throws<EngineException>(() => StateLoading.Load(tree.Root,
        [
            ("0.weight", ones(8, 4)), ("0.bias", ones(1)), ("2.bias", ones(3, ScalarType.ComplexFloat32)), ("head.weight", ones(2)), ("0.weight", ones(8, 4)),
        ], strict: true));
        Assert.Equal(EngineError.InvalidArgument, error.Error);
        Assert.Equal(["entries[1]", "entries[2]", "entries[3]", "entries[4]", "entries"], error.Fields.Select(field => field.Field));
        foreach (var words in new[] { "\"0.bias\" has shape [1]; the module's is [8]", "complex64", "\"head.weight\" is unexpected", "\"0.weight\" is given twice", "\"2.weight\" is missing" })
        {
            Assert.Contains(words, error.Message, StringComparison.Ordinal);
        }

        Assert.All(before.Zip(State(tree)), pair => Assert.True(Same(pair.First, pair.Second.Value)));
    }

    [Fact]
    public void Load_not_strictly_loads_what_fits_and_tells_the_rest()
    {
        using var scope = NewDisposeScope();
        using var tree = Given.TwoLayers();
        var outcome = StateLoading.Load(tree.Root, [("0.bias", full(8, 5f)), ("head.weight", ones(2))], strict: false);
        Assert.Equal(["0.weight", "2.weight", "2.bias"], outcome.MissingKeys);
        Assert.Equal(["head.weight"], outcome.UnexpectedKeys);
        Assert.Equal(40, tree.Find("0").Parameters[1].Parameter.sum().ToSingle());
        var error = Assert.Throws<EngineException>(() => StateLoading.Load(tree.Root, [("0.bias", ones(3))], strict: false));
        Assert.Equal("entries[0]", error.Fields[0].Field);
    }

    [Fact]
    public void Load_into_a_part_takes_keys_relative_to_it()
    {
        using var scope = NewDisposeScope();
        using var tree = Given.TwoLayers();
        _ = StateLoading.Load(tree.Find("2"), [("weight", zeros(3, 8)), ("bias", zeros(3))], strict: true);
        Assert.Equal(0, tree.Find("2").Parameters[0].Parameter.abs().max().ToSingle());
        Assert.NotEqual(0, tree.Find("0").Parameters[0].Parameter.abs().max().ToSingle());
    }

    private static List<(string Key, Tensor Value)> State(ModuleTree tree) => [.. ModuleTree.State(tree.Root).Select(entry => (entry.Key, entry.Tensor))];

    private static bool Same(Tensor a, Tensor b) => a.equal(b).all().ToBoolean();
}
