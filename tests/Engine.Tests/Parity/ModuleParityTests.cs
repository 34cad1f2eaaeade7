using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using Sconce.Engine.Weights;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Parity;

/// <summary>Each case of the fixtures: built from its spec, filled with PyTorch's weights, run, and compared.</summary>
public sealed class ModuleParityTests
{
    private static readonly BuildLimits Limits = new();

    public static TheoryData<string> Cases => [.. Fixtures.Cases.Keys];

    public static TheoryData<string, string, ElementType> Runs
    {
        get
        {
            var data = new TheoryData<string, string, ElementType>();
            foreach (var fixture in Fixtures.Cases.Values)
            {
                foreach (var mode in fixture.Modes.Keys)
                {
                    data.Add(fixture.Name, mode, ElementType.Float32);
                    data.Add(fixture.Name, mode, ElementType.Float64);
                }
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Build_state_dict_and_parameters_are_PyTorchs(string name)
    {
        var fixture = Fixtures.Cases[name];
        using var tree = Loaded(fixture, ElementType.Float32);
        Assert.Equal(
            fixture.Entries.Select(e => $"{e.Key}: {e.Value.Type.Name()} [{string.Join(", ", e.Value.Shape)}]"),
            ModuleTree.State(tree.Root).Select(e => $"{e.Key}: {CallFailure.Describe(e.Tensor)}"));
        Assert.Equal(
            fixture.NamedParameters.Select(p => $"{p.Name} [{string.Join(", ", p.Shape)}]"),
            ModuleTree.NamedParameters(tree.Root).Select(p => $"{p.Name} [{string.Join(", ", p.Parameter.shape)}]"));
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Repr_is_what_PyTorch_prints(string name)
    {
        var fixture = Fixtures.Cases[name];
        using var tree = Loaded(fixture, ElementType.Float32);
        Assert.Equal(fixture.Repr, ModuleTree.Repr(tree.Root));
    }

    [Theory]
    [MemberData(nameof(Runs))]
    public void Call_outputs_gradients_and_state_are_PyTorchs(string name, string mode, ElementType type)
    {
        var fixture = Fixtures.Cases[name];
        var expected = fixture.Run(mode, type);
        var near = Tolerance.Of(fixture, type);
        using var scope = NewDisposeScope();
        using var tree = Loaded(fixture, type);
        tree.Root.Train(mode == "train");

        var leaves = new List<Tensor>();
        var output = tree.Root.Call(Arguments(fixture.Inputs, type, leaves), new CallContext());

        CheckTree(expected.Output, output, near, "output");
        CheckState(fixture, expected, tree, type, near);
        if (expected.Differentiable)
        {
            Cotangents.Backward(output);
            Assert.Equal(expected.InputGradients.Count, leaves.Count);
            for (var i = 0; i < leaves.Count; i++)
            {
                CheckGradient(expected.InputGradients[i], leaves[i].grad, near, $"gradient of input {i}");
            }

            foreach (var (key, parameter) in ModuleTree.NamedParameters(tree.Root))
            {
                CheckGradient(expected.ParameterGradients[key], parameter.grad, near, $"gradient of {key}");
            }
        }
    }

    // A lazy module takes its shapes from what is loaded, or, where it has nothing to load, from its first input.
    private static ModuleTree Loaded(FixtureCase fixture, ElementType type)
    {
        using var scope = NewDisposeScope();
        var tree = ModuleBuilder.Build(fixture.ModuleSpec, type, Limits);
        StateLoading.Load(tree.Root, [.. fixture.Entries.Select(e => (e.Key, e.Value.ToTensor()))], strict: true);
        if (fixture.State.Count == 0 && fixture.Type.StartsWith("Lazy", StringComparison.Ordinal))
        {
            tree.Root.Call(Arguments(fixture.Inputs, type, []), new CallContext());
        }

        return tree;
    }

    private static CallArguments Arguments(FixtureInputs inputs, ElementType type, List<Tensor> leaves)
    {
        return new CallArguments(
            [.. inputs.Positional.Select(value => FixtureTensor.ReadTree(value, Leaf))],
            inputs.Named.ToDictionary(pair => pair.Key, pair => FixtureTensor.ReadTree(pair.Value, Leaf)));

        Tensor Leaf(FixtureTensor value)
        {
            var tensor = value.ToTensor(type);
            leaves.Add(value.Type.IsFloatingPoint() ? tensor.requires_grad_() : tensor);
            return tensor;
        }
    }

    private static void CheckTree(System.Text.Json.JsonElement expected, TensorTree actual, Tolerance near, string what)
    {
        var shape = FixtureTensor.ReadTree(expected, value => value.ToTensor());
        Assert.Equal((what, shape.IsNone, shape.Items?.Count), (what, actual.IsNone, actual.Items?.Count));
        if (shape.Tensor is not null)
        {
            near.Check(FixtureTensor.Read(expected), actual.Tensor, what);
        }

        for (var i = 0; i < (actual.Items?.Count ?? 0); i++)
        {
            CheckTree(expected[i], actual.Items![i], near, $"{what}[{i}]");
        }
    }

    private static void CheckState(FixtureCase fixture, FixtureRun expected, ModuleTree tree, ElementType type, Tolerance near)
    {
        var before = fixture.Entries.ToDictionary(entry => entry.Key, entry => entry.Value);
        foreach (var (key, tensor) in ModuleTree.State(tree.Root))
        {
            if (expected.StateAfter.TryGetValue(key, out var after))
            {
                near.Check(after, tensor, $"{key} after the forward");
            }
            else
            {
                Assert.True(before[key].ToTensor(type).Equals(tensor), $"the forward changed {key}; PyTorch's does not");
            }
        }
    }

    private static void CheckGradient(FixtureTensor? expected, Tensor? actual, Tolerance near, string what)
    {
        if (expected is null)
        {
            Assert.True(actual is null, $"{what}: PyTorch gives none");
        }
        else
        {
            near.Check(expected, actual, what);
        }
    }
}
