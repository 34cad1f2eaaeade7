using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using Sconce.Engine.Training;
using Sconce.Engine.Weights;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Modules;

/// <summary>Lazy modules before they have a shape, and how they get one. What they then hold is compared with PyTorch in Parity.</summary>
public sealed class LazyTests
{
    private static readonly ModuleSpec Linear = Spec.Of("LazyLinear", ("out_features", 3.0));

    [Fact]
    public void Conversions_and_modes_before_the_first_forward_hold_after_it()
    {
        using var scope = NewDisposeScope();
        using var tree = Spec.Build(Spec.Sequential(Linear, Spec.Of("LazyBatchNorm1d")));
        Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.Double));
        tree.Root.Train(false);
        ParameterSelection.RequiresGrad(tree.Find("0"), false, []);

        Assert.Equal(ScalarType.Float64, tree.Run(ones([1, 4], dtype: ScalarType.Float64)).dtype);

        Assert.All(ModuleTree.NamedParameters(tree.Root), p => Assert.Equal(ScalarType.Float64, p.Parameter.dtype));
        Assert.Equal([false, false, true, true], ModuleTree.NamedParameters(tree.Root).Select(p => p.Parameter.requires_grad));
        Assert.Equal(0, ModuleTree.State(tree.Root).Single(entry => entry.Key == "1.num_batches_tracked").Tensor.item<long>());
    }

    [Fact]
    public void Types_specs_and_copies_follow()
    {
        using var scope = NewDisposeScope();
        using var tree = Spec.Build(Linear);
        Assert.True(tree.Root.IsInstance("Linear"));
        Assert.Equal("LazyLinear", tree.Spec.Type);
        using var before = ModuleCopy.DeepCopy(tree, "");
        var x = ones([2, 4]);
        var y = tree.Run(x);

        Assert.Equal(("Linear", 4.0), (tree.Spec.Type, tree.Spec.Args["in_features"]));
        using var after = ModuleCopy.DeepCopy(tree, "");
        Assert.Equal(("LazyLinear", "Linear"), (before.Root.TypeName, after.Root.TypeName));
        Assert.Equal(0, Spec.MaxDifference(y, after.Run(x)));
        Assert.Equal([2, 3], before.Run(ones([2, 7])).shape);
        Assert.Contains("in_features", Spec.Refused(() => tree.Run(ones([2, 7]))).Message);
    }

    [Fact]
    public void Optimizer_that_needs_shapes_at_once_is_not_made_before_the_first_forward()
    {
        // As PyTorch's Adagrad, which makes its accumulators when it is built.
        using var scope = NewDisposeScope();
        using var tree = Spec.Build(Linear);
        var error = Spec.Refused(() => HostedOptimizer.Create("o", "Adagrad", new Dictionary<string, object?>(), [], tree, "optimizer"));
        Assert.Equal((EngineError.FailedPrecondition, "UNINITIALIZED"), (error.Error, error.Reason));
        tree.Run(ones([2, 4])).sum().backward();
        using var optimizer = HostedOptimizer.Create("o", "Adagrad", new Dictionary<string, object?>(), [], tree, "optimizer");
        optimizer.Step();
    }

    [Fact]
    public void Optimizer_made_before_the_first_forward_steps_after_it()
    {
        using var scope = NewDisposeScope();
        using var tree = Spec.Build(Linear);
        using var optimizer = HostedOptimizer.Create("o", "Adam", new Dictionary<string, object?>(), [], tree, "optimizer");
        optimizer.Step();
        tree.Run(ones([2, 4])).sum().backward();
        var before = ModuleTree.State(tree.Root)[0].Tensor.clone();

        optimizer.Step();

        Assert.Equal([3, 4], before.shape);
        Assert.NotEqual(0, Spec.MaxDifference(before, ModuleTree.State(tree.Root)[0].Tensor));
    }

    [Theory]
    [InlineData("LazyLinear", "{\"out_features\":3}", new long[] { 3, 4 }, "weight", "Linear", "in_features", 4.0)]
    [InlineData("LazyConv2d", "{\"out_channels\":4,\"kernel_size\":2,\"groups\":2}", new long[] { 4, 3, 2, 2 }, "weight", "Conv2d", "in_channels", 6.0)]
    [InlineData("LazyConvTranspose1d", "{\"out_channels\":4,\"kernel_size\":2,\"groups\":2}", new long[] { 6, 2, 2 }, "weight", "ConvTranspose1d", "in_channels", 6.0)]
    [InlineData("LazyBatchNorm1d", "{}", new long[] { 5 }, "running_mean", "BatchNorm1d", "num_features", 5.0)]
    public void Load_gives_the_shape(string type, string args, long[] shape, string key, string plain, string size, double expected)
    {
        using var scope = NewDisposeScope();
        using var tree = Spec.Build(new ModuleSpec(type) { Args = Args(args) });
        var value = rand(shape);

        var outcome = StateLoading.Load(tree.Root, [(key, value)], strict: false);

        Assert.Empty(outcome.UnexpectedKeys);
        Assert.Equal((plain, expected), (tree.Spec.Type, tree.Spec.Args[size]));
        Assert.Equal(0, Spec.MaxDifference(value, ModuleTree.State(tree.Root).Single(entry => entry.Key == key).Tensor));
    }

    [Fact]
    public void Load_that_cannot_be_changes_nothing()
    {
        using var tree = Spec.Build(Spec.Sequential(Linear, Spec.Linear(3, 1)));
        using var scope = NewDisposeScope();

        var error = Spec.Refused(() => StateLoading.Load(tree.Root, [("0.weight", ones([3, 4])), ("0.bias", ones([2])), ("1.weight", ones([9, 9]))], strict: false));
        Assert.Equal(2, error.Fields.Count);
        error = Spec.Refused(() => StateLoading.Load(tree.Root, [("0.bias", ones([3]))], strict: false));
        Assert.Contains("size of its lazy module", error.Message);

        Assert.Equal("LazyLinear", tree.Find("0").TypeName);
        Assert.Equal(2, ModuleTree.Uninitialized(tree.Root).Count);
    }

    [Fact]
    public void Load_of_one_that_is_shared_takes_the_keys_of_all_its_names()
    {
        using var scope = NewDisposeScope();
        using var tree = Spec.Build(Spec.Sequential(Spec.Named("a", Spec.Of("LazyLinear", ("out_features", 3.0))), Spec.Shared("b", "a")));
        Assert.Equal(["a.weight", "a.bias", "b.weight", "b.bias"], ModuleTree.Uninitialized(tree.Root));
        var weight = rand(3, 3);

        _ = StateLoading.Load(tree.Root, [("a.weight", zeros(3, 3)), ("a.bias", zeros(3)), ("b.weight", weight), ("b.bias", ones(3))], strict: true);

        // The last name decides, as in PyTorch.
        Assert.Equal(0, Spec.MaxDifference(weight, ModuleTree.State(tree.Root)[0].Tensor));
        Assert.Equal("Linear", tree.Find("b").TypeName);
    }

    [Fact]
    public void Load_that_fails_at_a_later_lazy_module_takes_the_shapes_of_the_others_back()
    {
        using var scope = NewDisposeScope();
        using var tree = Spec.Build(Spec.Sequential(Linear, Linear));
        ((LazyNode)tree.Find("1")).Reserve = _ => throw EngineException.Exhausted("memory", new QuotaRef("memory_budget_bytes", 1, 0, 0));

        Assert.Equal(EngineError.ResourceExhausted, Spec.Refused(() => StateLoading.Load(tree.Root, [("0.weight", rand(3, 4)), ("0.bias", rand(3)), ("1.weight", rand(3, 3)), ("1.bias", rand(3))], strict: true)).Error);

        Assert.Equal(["LazyLinear", "LazyLinear"], tree.Root.Children.Select(child => child.Value.TypeName));
        Assert.Equal(4, ModuleTree.Uninitialized(tree.Root).Count);
        Assert.Equal([2, 3], tree.Find("0").Call(new CallArguments(TensorTree.Of(ones(2, 5))), new CallContext()).Tensor!.shape);
    }

    [Theory]
    [InlineData("LazyConv2d", "{\"out_channels\":8,\"kernel_size\":3,\"groups\":4}", new long[] { 1, 3, 5, 5 }, "groups")]
    [InlineData("LazyConv2d", "{\"out_channels\":8,\"kernel_size\":3}", new long[] { 3, 5 }, "4 dimensions")]
    [InlineData("LazyConv2d", "{\"out_channels\":8,\"kernel_size\":3}", new long[] { 1, 3, 2, 2 }, "Kernel size")]
    [InlineData("LazyBatchNorm2d", "{}", new long[] { 3, 5 }, "4 dimensions")]
    [InlineData("LazyLinear", "{\"out_features\":9007199254740992}", new long[] { 1, 2000 }, "64 bits")]
    public void First_forward_that_fails_leaves_it_lazy(string type, string args, long[] shape, string text)
    {
        using var scope = NewDisposeScope();
        using var tree = Spec.Build(new ModuleSpec(type) { Args = Args(args) });

        var error = Spec.Refused(() => tree.Run(ones(shape)));

        Assert.Equal(EngineError.InvalidArgument, error.Error);
        Assert.Equal("inputs[0]", Assert.Single(error.Fields).Field);
        Assert.Contains(text, error.Message);
        Assert.Equal(type, tree.Root.TypeName);
        Assert.Equal(0, tree.Bytes - ModuleTree.State(tree.Root).Where(entry => entry.Key == "num_batches_tracked").Sum(_ => 8));
    }

    [Fact]
    public void Initialisers_need_a_shape()
    {
        using var tree = Spec.Build(Spec.Sequential(Linear));
        Assert.Contains("0.weight", Spec.Refused(() => Initializers.Apply(tree.Root, new ApplyPlan("ones_"))).Message);
        Assert.Equal(["0"], Initializers.Apply(tree.Root, new ApplyPlan("reset_parameters")));
    }

    [Fact]
    public void What_is_registered_before_the_first_forward_is_there_after_it()
    {
        using var scope = NewDisposeScope();
        using var tree = Spec.Build(Spec.Sequential(Linear, Spec.Of("LazyBatchNorm1d")));
        var register = new Registration(tree, new BuildLimits(), _ => null);
        register.Parameter("0", "gain", full(2, 5f), requiresGrad: true);
        register.Parameter("0", "none", null, requiresGrad: true);
        register.Buffer("0", "steps", tensor(7L), persistent: true);
        register.Parameter("1", "gain", full(2, 6f), requiresGrad: false);
        register.Buffer("1", "cache", full(4, 8f), persistent: false);

        using var lazy = ModuleCopy.DeepCopy(tree, "");
        Assert.Equal([2, 3], lazy.Run(ones([2, 7])).shape);
        AssertRegistered(lazy);

        // One that fails takes nothing that was registered along: a norm wants more than one value.
        Spec.Refused(() => tree.Run(ones([1, 4])));
        AssertRegistered(tree);
        Assert.Equal("LazyBatchNorm1d", tree.Find("1").TypeName);

        var x = rand([5, 4]);
        var y = tree.Run(x);

        AssertRegistered(tree);
        Assert.Equal(["weight", "bias", "gain"], tree.Find("0").Parameters.Select(p => p.Name));
        Assert.Equal([3, 4], tree.Find("0").Parameters[0].Parameter.shape);
        Assert.Equal(["running_mean", "running_var", "num_batches_tracked", "cache"], tree.Find("1").Buffers.Select(b => b.Name));
        Assert.Equal(1, tree.Find("1").Buffers[2].Tensor.item<long>());
        using var copy = ModuleCopy.DeepCopy(tree, "");
        Assert.Equal(0, Spec.MaxDifference(y, copy.Run(x)));
        AssertRegistered(copy);

        static void AssertRegistered(ModuleTree tree)
        {
            Assert.Equal([5f, 5f], ModuleTree.FindParameter(tree.Root, "0.gain")!.data<float>().ToArray());
            Assert.Equal([6f, 6f], ModuleTree.FindParameter(tree.Root, "1.gain")!.data<float>().ToArray());
            Assert.Equal(7, tree.Find("0").Buffers[^1].Tensor.item<long>());
            Assert.Equal([8f, 8f, 8f, 8f], tree.Find("1").Buffers[^1].Tensor.data<float>().ToArray());
            Assert.Null(tree.Find("0").Slots.Single(slot => slot.Name == "none").Parameter);
        }
    }

    [Fact]
    public void Registering_over_what_has_no_shape_yet_waits_for_it()
    {
        using var scope = NewDisposeScope();
        using var tree = Spec.Build(Spec.Sequential(Linear, Spec.Of("LazyBatchNorm1d", ("affine", false)), Spec.Linear(3, 1)));
        var register = new Registration(tree, new BuildLimits(), _ => null);
        foreach (var early in new Action[]
        {
            () => register.Parameter("0", "weight", ones(3, 4), requiresGrad: true),
            () => register.Parameter("0", "bias", null, requiresGrad: true),
            () => register.Tie("0", "bias", "2.bias"),
            () => register.Buffer("1", "running_mean", ones(3), persistent: true),
            () => register.Parameter("1", "weight", ones(3), requiresGrad: true),
        })
        {
            var error = Spec.Refused(early);
            Assert.Equal((EngineError.FailedPrecondition, "UNINITIALIZED"), (error.Error, error.Reason));
        }

        // From then on as on the plain type.
        var x = rand([5, 4]);
        tree.Run(x);
        register.Parameter("0", "weight", zeros(3, 4), requiresGrad: true);
        register.Parameter("0", "bias", null, requiresGrad: true);
        Assert.Equal("Linear(in_features=4, out_features=3, bias=False)", ModuleTree.Repr(tree.Find("0")));
        Assert.Equal(0, tree.Find("0").Call(new CallArguments([TensorTree.Of(x)]), new CallContext("0")).Tensor!.abs().max().item<float>());
        register.Parameter("1", "weight", full(3, 2f), requiresGrad: true);
        Assert.Equal("SHAPE_MISMATCH", Spec.Refused(() => register.Parameter("1", "bias", ones(4), requiresGrad: true)).Reason);
        register.Buffer("1", "running_mean", full(3, 1f), persistent: false);
        tree.Root.Train(false);
        var norm = tree.Find("1").Call(new CallArguments([TensorTree.Of(full([1, 3], 1f))]), new CallContext("1")).Tensor!;
        Assert.Equal(0, norm.abs().max().item<float>(), 5);
    }

    private static Dictionary<string, object?> Args(string json) =>
        System.Text.Json.JsonDocument.Parse(json).RootElement.EnumerateObject().ToDictionary(p => p.Name, p => (object?)p.Value.GetDouble());
}
