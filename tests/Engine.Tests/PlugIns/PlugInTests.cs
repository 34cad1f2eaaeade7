using System.Reflection;
using System.Runtime.Loader;
using Microsoft.Extensions.Logging.Abstractions;
using Sconce.Engine.Catalog;
using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.PlugIns;
using Sconce.Engine.Tensors;
using Sconce.Engine.Tests.Execution;
using Sconce.Engine.Tests.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.PlugIns;

/// <summary>The adapter and the loader, without a server; tests/Functional/PlugIns drives both over one.</summary>
[Collection<ProcessWideCollection>]
public sealed class PlugInTests
{
    // Assemblies stay loaded: once for all tests.
    private static readonly Lazy<PlugInTypes> Types = new(Load);

    private static readonly ModuleSpec Gated = Spec.Of("GatedMlp", ("features", 4.0), ("hidden", 6.0));

    [Fact]
    public void A_plug_in_lives_in_a_context_of_its_own_and_shares_TorchSharp()
    {
        using var tree = Build(Gated);
        var parameter = ModuleTree.NamedParameters(tree.Root)[0].Parameter;
        Assert.Equal("norm.weight", ModuleTree.NamedParameters(tree.Root)[0].Name);
        Assert.Same(typeof(TorchSharp.Modules.Parameter), parameter.GetType());
        var context = Assert.Single(AssemblyLoadContext.All, context => context.Assemblies.Any(assembly => assembly.GetName().Name == "GatedMlp"));
        Assert.NotSame(AssemblyLoadContext.Default, context);
        Assert.DoesNotContain(context.Assemblies, assembly => assembly.GetName().Name == "TorchSharp");
    }

    [Fact]
    public void A_plug_in_counts_as_drawing_always_unless_it_says_that_it_does_not()
    {
        using var quiet = Build(Spec.Sequential(Gated));
        Assert.Equal(new ModuleTraits(Draws: true, AlwaysDraws: false), ModuleTraits.Of(quiet));
        using var other = Build(Spec.Sequential(Gated, Spec.Of("ThrowsInForward", ("how", "never"))));
        Assert.Equal(new ModuleTraits(Draws: true, AlwaysDraws: true), ModuleTraits.Of(other));
        using var none = Build(Spec.Sequential(Spec.Linear(2, 2)));
        Assert.Equal(new ModuleTraits(Draws: false, AlwaysDraws: false), ModuleTraits.Of(none));
    }

    [Fact]
    public void What_it_takes_is_nothing_until_it_is_made()
    {
        Assert.Equal(0, ModuleBuilder.EstimateBytes(Gated, ElementType.Float32, new BuildLimits(), Types.Value));
        using var tree = Build(Gated);
        Assert.Equal(4 * (6 + 16 + (2 * 30) + 28) + 8, tree.Bytes);
    }

    [Fact]
    public void Values_of_a_Graph_that_a_plug_in_has_seen_are_there_until_the_call_ends()
    {
        using var scope = NewDisposeScope();
        using var tree = Build(Spec.Graph(["x"], ["y"], [Spec.Function("a", "neg", ["x"]), Spec.Call("b", "same", "a"), Spec.Call("c", "last", "b"), Spec.Function("d", "mul", ["c"], ("other", 2.0)), Spec.Call("y", "last", "d")],
            Spec.Named("same", Spec.Of("Identity")), Spec.Named("last", Spec.Sequential(Spec.Of("Remembers")))));

        Assert.Equal([-3f, -6f], tree.Run(tensor(new[] { 1f, 2f })).data<float>().ToArray());
    }

    [Fact]
    public void Calls_of_its_parts_are_counted_for_the_graph_budget()
    {
        using var scope = NewDisposeScope();
        using var tree = Build(Gated);
        var context = new CallContext { CountBytes = true };
        _ = tree.Root.Call(new CallArguments(TensorTree.Of(ones(2, 4))), context);

        // norm and down give [2, 4]; gate, up and dropout [2, 6].
        Assert.Equal(4 * ((2 * 8) + (3 * 12)), context.LeafOutputBytes);
        Assert.Equal("", context.Path);
    }

    [Fact]
    public void Parts_of_every_kind_are_parts()
    {
        using var scope = NewDisposeScope();
        using var tree = Build(Spec.Of("Assorted"));
        Assert.Equal(["", "lstm", "stack", "stack.0", "stack.1", "stack.2", "list", "list.0", "list.1", "scales"], ModuleTree.Walk(tree.Root).Select(at => at.Path));
        Assert.Same(tree.Find("list.1"), tree.Find("again"));
        Assert.Equal(["lstm.weight_ih_l0", "lstm.weight_hh_l0", "lstm.bias_ih_l0", "lstm.bias_hh_l0"], ModuleTree.State(tree.Root).Take(4).Select(entry => entry.Key));
        Assert.Contains("scales.1", ModuleTree.State(tree.Root).Select(entry => entry.Key));
        var context = new CallContext { CountBytes = true };
        Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.Double));
        var output = tree.Root.Call(new CallArguments(TensorTree.Of(ones(1, 5, 2, dtype: ScalarType.Float64))), context).Tensor!;
        Assert.Equal([1, 5, 2], output.shape);
        output.sum().backward();
        Assert.All(ModuleTree.NamedParameters(tree.Root), named => Assert.Equal(ScalarType.Float64, named.Parameter.grad!.dtype));

        // lstm: output, h and c; stack.0 and .1; stack.2, list.0, list.1 and list.1 again.
        Assert.Equal(8 * (15 + 3 + 3 + (2 * 15) + (4 * 10)), context.LeafOutputBytes);
        using var copy = ModuleCopy.DeepCopy(tree, "");
        Assert.Equal(ModuleTree.Repr(tree.Root), ModuleTree.Repr(copy.Root));
        Assert.Same(copy.Find("list.1"), copy.Find("again"));
    }

    [Fact]
    public void A_part_called_by_path_is_counted_once()
    {
        using var scope = NewDisposeScope();
        using var tree = Build(Gated);
        var context = new CallContext("gate") { CountBytes = true };
        _ = tree.Find("gate").Call(new CallArguments(TensorTree.Of(ones(2, 4))), context);
        Assert.Equal(4 * 12, context.LeafOutputBytes);
    }

    [Fact]
    public void Parameters_keep_their_identity_through_conversions()
    {
        using var scope = NewDisposeScope();
        using var tree = Build(Gated);
        var before = ModuleTree.NamedParameters(tree.Root).Select(named => (named.Parameter, named.Parameter.Handle)).ToList();
        Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.Double));
        var after = ModuleTree.NamedParameters(tree.Root).Select(named => (named.Parameter, named.Parameter.Handle)).ToList();
        Assert.Equal(before, after);
        Assert.All(after, parameter => Assert.Equal(ScalarType.Float64, parameter.Parameter.dtype));
        Assert.Equal(ScalarType.Float64, tree.Run(ones(2, 4, dtype: ScalarType.Float64)).dtype);
    }

    [Fact]
    public void Copies_leave_the_generator_alone()
    {
        using var tree = Build(Gated);
        using var before = random.get_rng_state();
        using var copy = ModuleCopy.DeepCopy(tree, "");
        using var after = random.get_rng_state();
        Assert.Equal(before.data<byte>().ToArray(), after.data<byte>().ToArray());
    }

    [Fact]
    public void A_spec_of_the_tree_builds_it_again()
    {
        using var tree = Build(Spec.Sequential(Spec.Named("mlp", Gated), Spec.Shared("again", "mlp")));
        using var again = Build(tree.Spec);
        Assert.Equal(ModuleTree.Repr(tree.Root), ModuleTree.Repr(again.Root));
        Assert.Same(again.Find("mlp"), again.Find("again"));
        Assert.Equal(ModuleTree.State(tree.Root).Select(entry => entry.Key), ModuleTree.State(again.Root).Select(entry => entry.Key));
    }

    [Fact]
    public void Modules_larger_than_the_limits_are_refused()
    {
        var refused = Spec.Refused(() => ModuleBuilder.Build(Gated, ElementType.Float32, new BuildLimits(MaxModules: 3), Types.Value));
        Assert.Contains("has more than 3 submodules", refused.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(typeof(SealedFunction), "SealedFunction is sealed")]
    [InlineData(typeof(PrivateFunction), "PrivateFunction is private")]
    [InlineData(typeof(ManyFunction), "ManyFunction is a MultiTensorFunction")]
    public void Functions_whose_backward_cannot_be_guarded_are_refused(Type function, string words) =>
        Assert.Contains(words, FunctionGuard.Install([function], AssemblyLoadContext.Default), StringComparison.Ordinal);

    [Fact]
    public void An_unset_directory_loads_nothing() => Assert.Same(PlugInTypes.None, PlugInTypes.Load("", NullLogger.Instance));

    [Fact]
    public void A_directory_that_is_not_there_is_a_wrong_setting()
    {
        var problem = Assert.Single(new EngineOptions { PluginDir = "/nowhere/at/all" }.Validate());
        Assert.StartsWith("PluginDir is \"/nowhere/at/all\"; there is no such directory", problem, StringComparison.Ordinal);
    }

    internal sealed class SealedFunction : PassingFunction<SealedFunction>;

#pragma warning disable CA1852 // That it is not sealed is the point.
    private class PrivateFunction : PassingFunction<PrivateFunction>;
#pragma warning restore CA1852

    internal sealed class ManyFunction : autograd.MultiTensorFunction<ManyFunction>
    {
        public override string Name => nameof(ManyFunction);

        public override List<Tensor> forward(autograd.AutogradContext ctx, params object[] vars) => [((Tensor)vars[0]).alias()];

        public override List<Tensor> backward(autograd.AutogradContext ctx, List<Tensor> grad_outputs) => grad_outputs;
    }

    internal abstract class PassingFunction<T> : autograd.SingleTensorFunction<T>
        where T : PassingFunction<T>, new()
    {
        public override string Name => typeof(T).Name;

        public override Tensor forward(autograd.AutogradContext ctx, params object[] vars) => ((Tensor)vars[0]).alias();

        public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad_output) => [grad_output];
    }

    private static ModuleTree Build(ModuleSpec spec) => ModuleBuilder.Build(spec, ElementType.Float32, new BuildLimits(), Types.Value);

    private static PlugInTypes Load()
    {
        var directory = Directory.CreateTempSubdirectory("sconce-plugins-");
        foreach (var plugIn in new[] { "GatedMlp", "Sconce.BrokenPlugIn" })
        {
            // A link: the folder that the build wrote, under the plug-in's name.
            var built = typeof(PlugInTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == plugIn).Value!;
            _ = Directory.CreateSymbolicLink(Path.Combine(directory.FullName, plugIn), built);
        }

        var types = PlugInTypes.Load(directory.FullName, NullLogger.Instance);
        directory.Delete(recursive: true);
        return types;
    }
}
