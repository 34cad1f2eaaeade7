using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using static Sconce.Engine.Tests.Modules.Spec;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Modules;

public sealed class TreeOperationTests : IDisposable
{
    private readonly TorchSharp.DisposeScope _scope = NewDisposeScope();

    private readonly ModuleTree _net = Build(Sequential(
        Named("stem", Sequential(Of("Conv2d", ("in_channels", 1.0), ("out_channels", 2.0), ("kernel_size", 1.0)), Of("BatchNorm2d", ("num_features", 2.0)))),
        Named("head", Sequential(Of("BatchNorm2d", ("num_features", 2.0)), Of("Dropout"), Of("Flatten"), Linear(8, 3)))));

    public void Dispose()
    {
        _net.Dispose();
        _scope.Dispose();
    }

    [Fact]
    public void Policy_survives_train_and_gives_modes_back_when_lifted()
    {
        _net.Policy.Set(normEval: true, ["stem"]);
        _net.Root.Train(true);

        Assert.False(_net.Find("stem").Training);
        Assert.False(_net.Find("stem.0").Training);
        Assert.False(_net.Find("head.0").Training);
        Assert.True(_net.Find("head.1").Training);
        Assert.All(_net.Find("stem.0").Parameters, p => Assert.False(p.Parameter.requires_grad));
        Assert.All(_net.Find("head.0").Parameters, p => Assert.True(p.Parameter.requires_grad));

        _net.Policy.Set(normEval: false, []);
        Assert.True(_net.Find("stem.1").Training);
        Assert.True(_net.Find("head.0").Training);
        Assert.All(_net.Find("stem.0").Parameters, p => Assert.False(p.Parameter.requires_grad));
    }

    [Fact]
    public void Policy_has_a_most_of_rules_and_of_paths()
    {
        var error = Refused(() => _net.Policy.Set(normEval: false, [], [.. Enumerable.Repeat(new TrainRule("*", true), 1025)]));
        Assert.Equal("policy.rules", Assert.Single(error.Fields).Field);
        error = Refused(() => _net.Policy.Set(normEval: false, [.. Enumerable.Repeat("stem", 10_001)]));
        Assert.Equal("policy.frozen", Assert.Single(error.Fields).Field);
        Assert.Empty(_net.Policy.Rules);
        _net.Policy.Set(normEval: false, [], [.. Enumerable.Repeat(new TrainRule("*", true), 1024)]);
        Assert.Equal(1024, _net.Policy.Rules.Count);
    }

    [Fact]
    public void Policy_of_an_unknown_path_changes_nothing()
    {
        var error = Refused(() => _net.Policy.Set(normEval: true, ["stem", "stme"]));

        Assert.Equal(EngineError.NotFound, error.Error);
        Assert.False(_net.Policy.NormEval);
        Assert.True(_net.Find("stem").Training);
    }

    [Fact]
    public void Rules_hold_modes_and_requires_grad_by_path_and_later_ones_go_first()
    {
        _net.Policy.Set(normEval: true, ["stem.0"], [new TrainRule("stem*", true), new TrainRule("head", false, false), new TrainRule("head.?", true), new TrainRule("head.3", null, true), new TrainRule("stem.0", true, true)]);
        foreach (var mode in new[] { true, false })
        {
            _net.Root.Train(mode);
            Assert.Equal(mode, _net.Root.Training);
            Assert.Equal((true, true, false), (_net.Find("stem").Training, _net.Find("stem.1").Training, _net.Find("stem.0").Training));
            Assert.Equal((false, true, true), (_net.Find("head").Training, _net.Find("head.0").Training, _net.Find("head.1").Training));
            Assert.Equal([false, false, true, true, false, false, true, true], ModuleTree.NamedParameters(_net.Root).Select(p => p.Parameter.requires_grad));
            ParameterSelection.RequiresGrad(_net.Root, true, ["stem.0.*", "head.0.*"]);
        }

        Conversions.Convert(_net.Root, new ConversionPlan(ConversionKind.Double));
        using var copy = ModuleCopy.DeepCopy(_net, "");
        using var part = ModuleCopy.DeepCopy(_net, "head");
        copy.Root.Train(true);
        part.Root.Train(false);
        Assert.Equal(_net.Policy.Rules, copy.Policy.Rules);
        Assert.Equal([new("", false, false), new("0", true), new("1", true), new("2", true), new("3", true), new("3", null, true)], part.Policy.Rules);
        Assert.Equal((false, true), (part.Root.Training, part.Find("1").Training));
        Assert.Equal([false, false, true, true], ModuleTree.NamedParameters(part.Root).Select(p => p.Parameter.requires_grad));

        _net.Policy.Set(normEval: false, []);
        Assert.False(_net.Find("head.1").Training);
        _net.Root.Train(true);
        Assert.All(ModuleTree.Walk(_net.Root), at => Assert.True(at.Node.Training));
    }

    [Fact]
    public void A_rule_that_holds_nothing_changes_nothing()
    {
        Assert.Equal(EngineError.NotFound, Refused(() => _net.Policy.Set(normEval: true, [], [new TrainRule("stem", false), new TrainRule("tail*", false)])).Error);
        Assert.Equal("policy.rules[0]", Assert.Single(Refused(() => _net.Policy.Set(normEval: true, [], [new TrainRule("stem", null)])).Fields).Field);
        Assert.False(_net.Policy.NormEval);
        Assert.True(_net.Find("stem").Training);
    }

    [Fact]
    public void Train_of_a_subtree_leaves_the_rest()
    {
        _net.Find("head").Train(false);

        Assert.True(_net.Root.Training);
        Assert.True(_net.Find("stem.1").Training);
        Assert.False(_net.Find("head.1").Training);
    }

    [Fact]
    public void RequiresGrad_selects_by_glob()
    {
        ParameterSelection.RequiresGrad(_net.Root, false, ["*.bias", "stem.0.*"]);

        Assert.Equal(["stem.1.weight", "head.0.weight", "head.3.weight"], ModuleTree.NamedParameters(_net.Root).Where(p => p.Parameter.requires_grad).Select(p => p.Name));
        var error = Refused(() => ParameterSelection.RequiresGrad(_net.Root, true, ["*.bias", "stem.0.wieght"]));
        Assert.Equal(EngineError.NotFound, error.Error);
        Assert.Contains("stem.0.weight", error.Message);
        Assert.False(_net.Find("head.3").Parameters[1].Parameter.requires_grad);
    }

    [Fact]
    public void DeepCopy_is_equal_and_independent()
    {
        _net.Policy.Set(normEval: true, ["stem.0"]);
        _net.Run(randn(4, 1, 2, 2)).sum().backward();
        Conversions.Convert(_net.Find("head"), new ConversionPlan(ConversionKind.Double));
        using var copy = ModuleCopy.DeepCopy(_net, "");

        Assert.Equal(ModuleTree.Repr(_net.Root), ModuleTree.Repr(copy.Root));
        foreach (var (a, b) in ModuleTree.State(_net.Root).Zip(ModuleTree.State(copy.Root)))
        {
            Assert.Equal(a.Key, b.Key);
            Assert.Equal(a.Tensor.dtype, b.Tensor.dtype);
            Assert.Equal(a.Tensor.requires_grad, b.Tensor.requires_grad);
            Assert.Equal(0, MaxDifference(a.Tensor.detach(), b.Tensor.detach()));
            Assert.Null(b.Tensor.grad);
        }

        Assert.Equal(["stem.0"], copy.Policy.Frozen);
        Assert.True(copy.Policy.NormEval);
        Assert.False(copy.Find("stem.1").Training);
        using (no_grad())
        {
            copy.Find("stem.0").Parameters[0].Parameter.fill_(7);
        }

        Assert.NotEqual(7, _net.Find("stem.0").Parameters[0].Parameter.mean().item<float>());
    }

    [Fact]
    public void DeepCopy_of_a_part_keeps_sharing_and_what_the_policy_says_of_it()
    {
        using var tree = Build(Sequential(Named("block", Sequential(Named("a", Linear(2, 2)), Shared("b", "block.a"), Named("c", Linear(2, 2))))));
        tree.Policy.Set(normEval: false, ["block.c"]);
        using var copy = ModuleCopy.DeepCopy(tree, "block");

        Assert.Same(copy.Find("a"), copy.Find("b"));
        Assert.NotSame(tree.Find("block.a"), copy.Find("a"));
        Assert.Equal(["c"], copy.Policy.Frozen);
    }

    [Fact]
    public void Repr_of_a_list_folds_equal_items()
    {
        using var tree = Build(new ModuleSpec("ModuleList") { Children = [Named("", Linear(1, 1)), Named("", Linear(1, 1)), Named("", Of("ReLU"))] });

        Assert.Equal("ModuleList(\n  (0-1): 2 x Linear(in_features=1, out_features=1, bias=True)\n  (2): ReLU()\n)", ModuleTree.Repr(tree.Root));
    }
}
