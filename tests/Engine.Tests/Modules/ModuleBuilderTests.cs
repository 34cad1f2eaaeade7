using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static Sconce.Engine.Tests.Modules.Spec;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Modules;

public sealed class ModuleBuilderTests
{
    [Fact]
    public void Build_shared_child_is_one_module_under_two_names()
    {
        using var tree = Build(Sequential(Named("a", Linear(3, 3)), Named("act", Of("Tanh")), Shared("b", "a")));

        Assert.Same(tree.Find("a"), tree.Find("b"));
        Assert.Equal(["a.weight", "a.bias", "b.weight", "b.bias"], ModuleTree.State(tree.Root).Select(e => e.Key));
        Assert.Equal(["a.weight", "a.bias"], ModuleTree.NamedParameters(tree.Root).Select(p => p.Name));
        Assert.Equal(["", "a", "act"], ModuleTree.Walk(tree.Root).Select(at => at.Path));
        Assert.Equal(12 * 4, tree.Bytes);
    }

    [Fact]
    public void Build_share_may_name_a_part_that_its_type_made()
    {
        using var tree = Build(Sequential(
            Named("layer", Of("TransformerEncoderLayer", ("d_model", 4.0), ("nhead", 2.0), ("dim_feedforward", 4.0))), Shared("tied", "layer.linear1")));

        Assert.Same(tree.Find("layer.linear1"), tree.Find("tied"));
    }

    [Theory]
    [InlineData("b")]
    [InlineData("")]
    [InlineData("a.x")]
    [InlineData("zz")]
    public void Build_share_of_what_was_not_built_before_is_refused(string path)
    {
        var error = Refused(() => Build(Sequential(Named("a", Linear(1, 1)), Named("b", Sequential(Shared("inner", path))))));

        Assert.Equal("spec.children[1].spec.children[0].share", error.Fields[0].Field);
    }

    [Fact]
    public void Build_module_that_would_contain_itself_is_refused() =>
        Assert.Contains("never one that contains it", Refused(() => Build(Sequential(Named("a", Sequential(Shared("self", "a")))))).Message);

    [Fact]
    public void Build_doubling_by_sharing_is_refused_at_once()
    {
        // 2^40 names, were they counted one by one.
        var spec = Linear(1, 1);
        var path = string.Concat(Enumerable.Repeat("x.", 40)).TrimEnd('.');
        for (var i = 0; i < 40; i++)
        {
            spec = Sequential(Named("x", spec), Shared("y", path));
            path = path.Length > 1 ? path[..^2] : path;
        }

        // The paths name from the root, so the innermost level's x has the longest.
        var error = Refused(() => ModuleBuilder.EstimateBytes(spec, ElementType.Float32));

        Assert.Equal("SPEC_TOO_LARGE", error.Reason);
    }

    [Fact]
    public void Build_calls_that_multiply_by_wiring_are_refused()
    {
        var spec = Linear(1, 1);
        for (var i = 0; i < 10; i++)
        {
            spec = Graph(["x"], ["y3"], [Call("y1", "f", "x"), Call("y2", "f", "y1"), Call("y3", "f", "y2"), .. Enumerable.Range(0, 4).Select(k => Call($"z{k}", "f", "x"))], Named("f", spec));
        }

        Assert.Equal("SPEC_TOO_LARGE", Refused(() => Build(spec)).Reason);
    }

    [Fact]
    public void Build_too_deep_is_refused_at_the_limit()
    {
        var spec = Of("ReLU");
        for (var i = 0; i < 63; i++)
        {
            spec = Sequential(spec);
        }

        Build(spec).Dispose();
        var error = Refused(() => Build(Sequential(spec)));

        Assert.Equal("SPEC_TOO_DEEP", error.Reason);
        Assert.Contains("64", error.Message);
    }

    [Fact]
    public void Build_too_many_layers_is_refused_before_they_are_made() =>
        Assert.Equal("SPEC_TOO_LARGE", Refused(() => Build(new ModuleSpec("TransformerEncoder")
        {
            Args = new Dictionary<string, object?> { ["num_layers"] = 1e9 },
            Children = [Named("encoder_layer", Of("TransformerEncoderLayer", ("d_model", 4.0), ("nhead", 2.0)))],
        })).Reason);

    [Theory]
    [InlineData("a.b")]
    [InlineData("a\n")]
    public void Build_bad_child_name_is_refused(string name) =>
        Assert.Equal("spec.children[0].name", Refused(() => Build(Sequential(Named(name, Linear(1, 1))))).Fields[0].Field);

    [Fact]
    public void Build_two_children_of_one_name_are_refused() =>
        Assert.Equal("spec.children[1].name", Refused(() => Build(Sequential(Named("1", Linear(1, 1)), Named("", Linear(1, 1))))).Fields[0].Field);

    [Fact]
    public void Build_children_of_a_leaf_are_refused() =>
        Assert.Equal("spec.children", Refused(() => Build(Of("ReLU") with { Children = [Named("a", Linear(1, 1))] })).Fields[0].Field);

    [Fact]
    public void Build_parameter_beyond_64_bits_is_refused() =>
        Assert.Equal("SPEC_TOO_LARGE", Refused(() => Build(Linear(4e9, 4e9))).Reason);

    [Fact]
    public void Build_parameter_beyond_memory_says_so() =>
        Assert.Equal(EngineError.ResourceExhausted, Refused(() => Build(Linear(1e6, 1e8))).Error);

    [Fact]
    public void EstimateBytes_equals_what_the_module_takes()
    {
        ModuleSpec[] specs =
        [
            Linear(7, 3), Of("LSTM", ("input_size", 3.0), ("hidden_size", 5.0), ("num_layers", 2.0), ("bidirectional", true)), Of("BatchNorm2d", ("num_features", 4.0)),
            Of("Embedding", ("num_embeddings", 10.0), ("embedding_dim", 3.0)), Of("MultiheadAttention", ("embed_dim", 8.0), ("num_heads", 2.0), ("kdim", 3.0)),
            Of("Transformer", ("d_model", 8.0), ("nhead", 2.0), ("num_encoder_layers", 2.0), ("num_decoder_layers", 1.0), ("dim_feedforward", 8.0)), Of("ReLU"),
        ];
        foreach (var spec in specs)
        {
            foreach (var type in new[] { ElementType.Float32, ElementType.Float64, ElementType.BFloat16 })
            {
                using var tree = Build(spec, type);
                Assert.Equal(tree.Bytes, ModuleBuilder.EstimateBytes(spec, type));
            }
        }
    }

    [Fact]
    public void Spec_of_a_tree_builds_the_same_tree()
    {
        var spec = Sequential(Named("a", Linear(4, 4)), Named("block", Graph(["x"], ["y"], [Call("h", "f", "x"), Function("y", "add", ["x", "h"])], Shared("f", "a"))),
            Named("stack", new ModuleSpec("TransformerEncoder")
            {
                Args = new Dictionary<string, object?> { ["num_layers"] = 2.0 },
                Children = [Named("encoder_layer", Of("TransformerEncoderLayer", ("d_model", 4.0), ("nhead", 2.0), ("dim_feedforward", 4.0)))],
            }));
        using var tree = Build(spec);
        using var again = Build(tree.Spec);

        Assert.Equal(ModuleTree.Repr(tree.Root), ModuleTree.Repr(again.Root));
        Assert.Equal(ModuleTree.State(tree.Root).Select(e => e.Key), ModuleTree.State(again.Root).Select(e => e.Key));
        Assert.Same(again.Find("a"), again.Find("block.f"));
    }

    [Fact]
    public void Build_outlives_the_callers_dispose_scope()
    {
        ModuleTree tree;
        using (NewDisposeScope())
        {
            tree = Build(Sequential(Linear(2, 2), Of("LSTM", ("input_size", 2.0), ("hidden_size", 2.0)), Of("BatchNorm1d", ("num_features", 2.0))));
        }

        using (tree)
        {
            Assert.All(ModuleTree.State(tree.Root), entry => Assert.False(entry.Tensor.IsInvalid));
        }
    }

    [Fact]
    public void Find_unknown_path_is_not_found()
    {
        using var tree = Build(Sequential(Named("a", Linear(1, 1))));
        var error = Refused(() => tree.Find("a.weight"));

        Assert.Equal(EngineError.NotFound, error.Error);
        Assert.Equal(new ResourceRef("submodule", "a.weight"), error.Resource);
    }
}
