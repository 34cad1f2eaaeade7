using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using Sconce.Engine.Tests.Training;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Parity;

/// <summary>The same seed gives the same initial values as in PyTorch: the distributions, their bounds and the order of the draws are its own.</summary>
[Collection(nameof(ProcessGenerator))]
public sealed class InitialValueTests
{
    public static TheoryData<int, string> BuiltModules
    {
        get
        {
            var data = new TheoryData<int, string>();
            foreach (var (initial, index) in Sequences.All.Initial.Select((initial, index) => (initial, index)))
            {
                data.Add(index, initial.Spec.GetProperty("type").GetString()!);
            }

            return data;
        }
    }

    public static TheoryData<int, string> Initialisers
    {
        get
        {
            var data = new TheoryData<int, string>();
            foreach (var (initialised, index) in Sequences.All.Initialisers.Select((initialised, index) => (initialised, index)))
            {
                data.Add(index, initialised.Function);
            }

            return data;
        }
    }

    public static TheoryData<int, string> LazyModules
    {
        get
        {
            var data = new TheoryData<int, string>();
            foreach (var (lazy, index) in Sequences.All.Lazy.Select((lazy, index) => (lazy, index)))
            {
                data.Add(index, lazy.Type);
            }

            return data;
        }
    }

    public static TheoryData<string> Models => [.. ModelFixtures.All.Initial.Select(initial => initial.Type)];

    [Theory]
    [MemberData(nameof(Initialisers))]
    public void Apply_after_a_seed_gives_PyTorchs_values(int index, string function)
    {
        var initialised = Sequences.All.Initialisers[index];
        using var scope = NewDisposeScope();
        using var tree = ModuleBuilder.Build(SpecJson.Read(initialised.Spec), ElementType.Float32, new BuildLimits());
        manual_seed(5);
        var plan = new ApplyPlan(function) { Args = initialised.Args.ToDictionary(a => a.Key, a => SpecJson.Value(a.Value)), Parameters = ["weight"] };
        Assert.Equal([""], Initializers.Apply(tree.Root, plan));
        Tolerance.Float32.Check(FixtureTensor.Read(initialised.Weight), ModuleTree.State(tree.Root)[0].Tensor, function);
    }

    [Theory]
    [MemberData(nameof(BuiltModules))]
    public void Build_after_a_seed_gives_PyTorchs_initial_values(int index, string type)
    {
        var initial = Sequences.All.Initial[index];
        using var scope = NewDisposeScope();
        manual_seed(5);
        using var tree = ModuleBuilder.Build(SpecJson.Read(initial.Spec), ElementType.Float32, new BuildLimits());
        foreach (var (entry, wanted) in ModuleTree.State(tree.Root).Zip(Sequences.State(initial.State)))
        {
            Assert.Equal(wanted.Key, entry.Key);
            Tolerance.Float32.Check(wanted.Value, entry.Tensor, $"{type}: {entry.Key}");
        }
    }

    [Theory]
    [MemberData(nameof(LazyModules))]
    public void First_forward_of_a_lazy_module_after_a_seed_makes_PyTorchs_plain_one(int index, string type)
    {
        var lazy = Sequences.All.Lazy[index];
        using var scope = NewDisposeScope();
        using var tree = ModuleBuilder.Build(SpecJson.Read(lazy.Spec), ElementType.Float32, new BuildLimits());
        Assert.Equal(lazy.Before, ModuleTree.Repr(tree.Root));
        Assert.Equal(lazy.Keys, ModuleTree.State(tree.Root).Select(entry => entry.Key));
        var parameters = ModuleTree.NamedParameters(tree.Root);

        manual_seed(5);
        var output = tree.Root.Call(new CallArguments(TensorTree.Of(FixtureTensor.Read(lazy.Input).ToTensor())), new CallContext());

        Assert.Equal(lazy.After, ModuleTree.Repr(tree.Root));
        Tolerance.Float32.Check(FixtureTensor.Read(lazy.Output), output.Tensor, $"{type}: output");
        Assert.Equal(lazy.State.Count, ModuleTree.State(tree.Root).Count);
        foreach (var (entry, wanted) in ModuleTree.State(tree.Root).Zip(Sequences.State(lazy.State)))
        {
            Assert.Equal(wanted.Key, entry.Key);
            Tolerance.Float32.Check(wanted.Value, entry.Tensor, $"{type}: {entry.Key}");
        }

        Assert.Equal(parameters.Select(p => p.Parameter), ModuleTree.NamedParameters(tree.Root).Select(p => p.Parameter), ReferenceEqualityComparer.Instance);
    }

    [Theory]
    [MemberData(nameof(Models))]
    public void Build_of_a_model_after_a_seed_gives_torchvisions_initial_values(string type)
    {
        var initial = ModelFixtures.All.Initial.Single(i => i.Type == type);
        using var scope = NewDisposeScope();
        manual_seed(5);
        using var tree = ModuleBuilder.Build(ModelFixtures.Spec(type, initial.Args), ElementType.Float32, new BuildLimits());
        foreach (var (key, tensor) in ModuleTree.State(tree.Root))
        {
            var norm = tensor.to_type(ScalarType.Float64).norm().item<double>();
            Assert.True(Math.Abs(norm - initial.Norms[key]) <= 1e-6 * initial.Norms[key], $"{key} has the norm {norm}, torchvision's {initial.Norms[key]}");
        }
    }
}
