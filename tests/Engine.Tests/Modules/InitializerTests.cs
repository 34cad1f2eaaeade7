using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static Sconce.Engine.Tests.Modules.Spec;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Modules;

public sealed class InitializerTests : IDisposable
{
    private readonly TorchSharp.DisposeScope _scope = NewDisposeScope();

    private readonly ModuleTree _tree = Build(Sequential(Named("conv", Of("Conv2d", ("in_channels", 16.0), ("out_channels", 32.0), ("kernel_size", 3.0))),
        Named("norm", Of("BatchNorm2d", ("num_features", 32.0))), Named("fc", Linear(200, 100))));

    public void Dispose()
    {
        _tree.Dispose();
        _scope.Dispose();
    }

    [Fact]
    public void Apply_visits_children_first_and_names_where_it_was()
    {
        Assert.Equal(["conv", "norm", "fc"], Apply(new ApplyPlan("zeros") { Parameters = ["bias"] }));
        Assert.Equal(0, Bias("conv").abs().max().item<float>());
        Assert.Equal(["norm"], Apply(new ApplyPlan("reset_parameters") { Type = "BatchNorm2d" }));
    }

    [Theory]
    [InlineData(ElementType.Int64)]
    [InlineData(ElementType.Bool)]
    public void Apply_reset_parameters_of_a_dtype_that_holds_no_such_values_changes_nothing(ElementType type)
    {
        foreach (var parameter in ModuleTree.NamedParameters(_tree.Root))
        {
            parameter.Parameter.requires_grad_(false);
        }

        Conversions.Convert(_tree.Find("fc"), new ConversionPlan(ConversionKind.Type, type));
        var before = ModuleTree.State(_tree.Root).Select(entry => entry.Tensor.clone()).ToList();

        var error = Refused(() => Apply(new ApplyPlan("reset_parameters")));

        Assert.Equal(EngineError.InvalidArgument, error.Error);
        Assert.Equal("function", Assert.Single(error.Fields).Field);
        Assert.Contains("\"fc.weight\"", error.Message, StringComparison.Ordinal);
        Assert.Contains(type.Name(), error.Message, StringComparison.Ordinal);
        Assert.All(ModuleTree.State(_tree.Root).Zip(before), pair => Assert.Equal(0, MaxDifference(pair.First.Tensor, pair.Second)));
    }

    [Fact]
    public void Apply_reset_parameters_of_ones_and_zeros_takes_integers()
    {
        foreach (var parameter in ModuleTree.NamedParameters(_tree.Root))
        {
            parameter.Parameter.requires_grad_(false);
        }

        Conversions.Convert(_tree.Find("norm"), new ConversionPlan(ConversionKind.Type, ElementType.Int64));
        Assert.Equal(["norm"], Apply(new ApplyPlan("reset_parameters") { Type = "BatchNorm2d" }));
    }

    [Fact]
    public void Apply_filters_by_type_base_and_glob()
    {
        var one = new Dictionary<string, object?> { ["val"] = 1.5 };

        Assert.Equal(["conv"], Apply(new ApplyPlan("constant_") { IsInstance = "_ConvNd", Args = one }));
        Assert.Equal([], Apply(new ApplyPlan("constant_") { Type = "_ConvNd", Args = one }));
        Assert.Equal(["fc"], Apply(new ApplyPlan("fill_") { Glob = "f?", Args = one }));
        Assert.Equal(1.5, Weight("fc").mean().item<float>(), 6);
    }

    [Theory]
    [InlineData("xavier_uniform_", 0.08164966, true)]
    [InlineData("xavier_normal_", 0.08164966, false)]
    [InlineData("kaiming_uniform_", 0.1, true)]
    [InlineData("kaiming_normal_", 0.1, false)]
    [InlineData("normal_", 1, false)]
    public void Apply_random_initialisers_have_pytorchs_spread(string function, double std, bool uniform)
    {
        Apply(new ApplyPlan(function) { Type = "Linear", Parameters = ["weight"] });
        var weight = Weight("fc");

        // 20,000 values: the sample's deviation is within 2% of the distribution's, and only a normal one leaves sqrt(3) deviations.
        Assert.InRange(weight.std().item<float>() / std, 0.98, 1.02);
        Assert.Equal(uniform, weight.abs().max().item<float>() <= std * Math.Sqrt(3) * 1.0001);
    }

    [Fact]
    public void Apply_trunc_normal_stays_within_its_bounds()
    {
        Apply(new ApplyPlan("trunc_normal_") { Type = "Linear", Parameters = ["weight"], Args = new Dictionary<string, object?> { ["std"] = 2.0, ["a"] = -1.0, ["b"] = 3.0 } });

        Assert.InRange(Weight("fc").min().item<float>(), -1, -0.9);
        Assert.InRange(Weight("fc").max().item<float>(), 2.9, 3);
    }

    [Fact]
    public void Apply_orthogonal_rows_are_orthonormal_times_gain()
    {
        Apply(new ApplyPlan("orthogonal_") { Type = "Linear", Parameters = ["weight"], Args = new Dictionary<string, object?> { ["gain"] = 3.0 } });
        var weight = Weight("fc");

        Assert.True(MaxDifference(weight.mm(weight.t()), eye(100) * 9) < 1e-4);
    }

    [Fact]
    public void Apply_sparse_zeroes_its_share_of_each_column()
    {
        Apply(new ApplyPlan("sparse_") { Type = "Linear", Parameters = ["weight"], Args = new Dictionary<string, object?> { ["sparsity"] = 0.251 } });

        Assert.Equal(Enumerable.Repeat(26L, 200), Weight("fc").eq(0).sum(dim: 0).data<long>().ToArray());
    }

    [Fact]
    public void Apply_dirac_makes_a_convolution_the_identity()
    {
        Apply(new ApplyPlan("dirac") { Type = "Conv2d", Parameters = ["weight"] });
        var x = randn(1, 16, 5, 5);
        var output = nn.functional.conv2d(x, Weight("conv"), padding: [1, 1]);

        Assert.True(MaxDifference(output.narrow(1, 0, 16), x) < 1e-6);
        Assert.Equal(0, output.narrow(1, 16, 16).abs().max().item<float>());
    }

    [Theory]
    [InlineData("kaiming_normal", "", "function")]
    [InlineData("kaimin_normal", "", "function")]
    [InlineData("zeros", "Conv2", "type")]
    [InlineData("constant", "Conv2d", "args.val")]
    public void Apply_what_cannot_be_done_changes_nothing(string function, string type, string field)
    {
        var before = ModuleTree.State(_tree.Root).Select(e => e.Tensor.detach().clone()).ToList();
        var error = Refused(() => Apply(new ApplyPlan(function) { Type = type }));

        Assert.Equal(EngineError.InvalidArgument, error.Error);
        Assert.Equal(field, error.Fields[0].Field);
        Assert.All(ModuleTree.State(_tree.Root).Zip(before), pair => Assert.Equal(0, MaxDifference(pair.First.Tensor.detach(), pair.Second)));
    }

    [Theory]
    [InlineData("orthogonal_")]
    [InlineData("trunc_normal_")]
    [InlineData("xavier_normal_")]
    public void Apply_16_bit_parameters_are_filled_too(string function)
    {
        Conversions.Convert(_tree.Root, new ConversionPlan(ConversionKind.Half));
        Apply(new ApplyPlan(function) { Type = "Linear", Parameters = ["weight"] });

        Assert.Equal(ScalarType.Float16, Weight("fc").dtype);
        Assert.True(Weight("fc").isfinite().all().item<bool>());
    }

    private IReadOnlyList<string> Apply(ApplyPlan plan) => Initializers.Apply(_tree.Root, plan);

    private Tensor Weight(string path) => _tree.Find(path).Parameters[0].Parameter.detach();

    private Tensor Bias(string path) => _tree.Find(path).Parameters[1].Parameter.detach();
}
