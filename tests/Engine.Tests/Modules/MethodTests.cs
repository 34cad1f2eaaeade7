using Sconce.Engine.Catalog;
using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using Sconce.Engine.Tests.Execution;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Modules;

/// <summary>Methods beside forward, by name. AdaptiveLogSoftmaxWithLoss's forward is compared with PyTorch in Parity; its methods must agree with it.</summary>
public sealed class MethodTests
{
    private static readonly ModuleSpec Adaptive = Spec.Of("AdaptiveLogSoftmaxWithLoss", ("in_features", 8.0), ("n_classes", 12.0), ("cutoffs", new object?[] { 3.0, 7.0 }), ("div_value", 2.0));

    [Theory]
    [InlineData(11, 1.1, 9)]
    [InlineData(13, 1.3, 9)]
    [InlineData(16, 1.6, 9)]
    [InlineData(8, 2, 4)]
    [InlineData(5, 4, 1)]
    public void Adaptive_softmax_has_the_sizes_of_Pythons_floor_division(double features, double divisor, long expected)
    {
        using var tree = Spec.Build(Spec.Of("AdaptiveLogSoftmaxWithLoss", ("in_features", features), ("n_classes", 12.0), ("cutoffs", new object?[] { 3.0 }), ("div_value", divisor)));

        Assert.Equal([expected, (long)features], ModuleTree.State(tree.Root).Single(entry => entry.Key == "tail.0.0.weight").Tensor.shape);
    }

    [Fact]
    public void Adaptive_softmax_resets_its_head_and_its_tail()
    {
        using var scope = NewDisposeScope();
        using var tree = Spec.Build(Adaptive);
        var before = ModuleTree.State(tree.Root).Select(entry => entry.Tensor.clone()).ToList();

        Assert.Equal([""], Initializers.Apply(tree.Root, new ApplyPlan("reset_parameters") { Type = "AdaptiveLogSoftmaxWithLoss" }));

        Assert.All(before.Zip(ModuleTree.State(tree.Root)), pair => Assert.NotEqual(0, Spec.MaxDifference(pair.First, pair.Second.Tensor)));
    }

    [Fact]
    public void Log_prob_and_predict_agree_with_forward()
    {
        using var scope = NewDisposeScope();
        using var tree = Spec.Build(Adaptive);
        var x = randn(64, 8) * 5;
        var target = randint(0, 12, 64, dtype: ScalarType.Int64);

        var logProb = Call(tree.Root, "log_prob", x);
        var forward = tree.Root.Call(new CallArguments(TensorTree.Of(x), TensorTree.Of(target)), new CallContext()).Items!;

        Assert.Equal([64, 12], logProb.shape);
        Assert.InRange(Spec.MaxDifference(logProb.exp().sum(1), ones(64)), 0, 1e-5);
        Assert.InRange(Spec.MaxDifference(forward[0].Tensor!, logProb.gather(1, target.unsqueeze(1)).squeeze(1)), 0, 1e-5);
        Assert.InRange(Spec.MaxDifference(forward[1].Tensor!, -forward[0].Tensor!.mean()), 0, 1e-6);
        var predicted = Call(tree.Root, "predict", x);
        Assert.Equal(0, Spec.MaxDifference(predicted, logProb.argmax(1)));
        Assert.True(predicted.min().item<long>() < 3 && predicted.max().item<long>() >= 7, "the inputs must reach the shortlist and the last cluster");
    }

    [Fact]
    public void Inputs_that_a_method_cannot_take_are_refused()
    {
        using var scope = NewDisposeScope();
        using var tree = Spec.Build(Spec.Sequential(Spec.Named("soft", Adaptive)));
        var node = tree.Find("soft");

        Assert.Contains("\"forward\", \"log_prob\", \"predict\"", Spec.Refused(() => Call(node, "launch", ones(2, 8))).Message);
        Assert.Contains("has \"forward\"", Spec.Refused(() => Call(tree.Root, "log_prob", ones(2, 8))).Message);
        Assert.Contains("[batch, 8]", Spec.Refused(() => Call(node, "predict", ones(2, 7))).Message);
        Assert.Contains("log_prob of the module (AdaptiveLogSoftmaxWithLoss) takes input", Spec.Refused(() => Call(node, "log_prob", ones(2, 8), ones(2, 8))).Message);
        var outside = Spec.Refused(() => node.Call(new CallArguments(TensorTree.Of(ones(2, 8)), TensorTree.Of(full([2], 12, dtype: ScalarType.Int64))), new CallContext()));
        Assert.Contains("from 0 to 11", outside.Message);
        Assert.Contains("n_classes - 1", Spec.Refused(() => Spec.Build(Adaptive with { Args = new Dictionary<string, object?>(Adaptive.Args) { ["cutoffs"] = new object?[] { 3.0, 12.0 } } })).Message);
    }

    [Fact]
    public async Task A_hosted_module_is_called_by_method_at_a_path()
    {
        await using var host = Testing.Host();
        var module = await host.CreateEval("m", Spec.Sequential(Spec.Named("soft", Adaptive)));

        using var outcome = await module.ForwardAsync(new ForwardCall { Path = "soft", Method = "predict", Inputs = new CallInputs([Testing.Filled(1, 3, 8)]) }, default);

        Assert.Equal((ElementType.Int64, 3L), (outcome.Output.Tensor!.Type, outcome.Output.Tensor.Shape[0]));
        await module.ForwardAsync(new ForwardCall { Method = "predict", Inputs = new CallInputs([Testing.Filled(1, 3, 8)]) }, default).Fails(EngineError.InvalidArgument, "method", "\"forward\"");
        Assert.Equal(["log_prob", "predict"], ModuleCatalog.Types.Single(type => type.Name == "AdaptiveLogSoftmaxWithLoss").Methods);
    }

    [Fact]
    public void Catalogue_tells_the_methods_that_there_are()
    {
        using var tree = Spec.Build(Adaptive);
        Assert.Equal(ModuleCatalog.Module("AdaptiveLogSoftmaxWithLoss", "").Methods, tree.Root.Methods.Select(method => method.Name));
    }

    private static Tensor Call(ModuleNode node, string method, params Tensor[] inputs) =>
        ModuleMethods.Call(node, method, new CallArguments([.. inputs.Select(TensorTree.Of)]), new CallContext()).Tensor!;
}
