using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using Sconce.Engine.Training;
using Sconce.Engine.Weights;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Parity;

/// <summary>Conversions, training steps and apply's order against PyTorch's.</summary>
public sealed class SequenceParityTests
{
    public static TheoryData<string> ConversionNames => [.. Sequences.All.Conversions.Select(sequence => sequence.Name)];

    public static TheoryData<string> TrainingNames => [.. Sequences.All.Training.Select(sequence => sequence.Name)];

    [Theory]
    [MemberData(nameof(ConversionNames))]
    public void Convert_state_and_gradients_are_PyTorchs_after_each(string name)
    {
        var sequence = Sequences.All.Conversions.Single(s => s.Name == name);
        using var scope = NewDisposeScope();
        using var tree = Build(SpecJson.Read(sequence.Spec), sequence.State);
        tree.Root.Train(false);
        tree.Root.Call(new CallArguments(TensorTree.Of(FixtureTensor.Read(sequence.Input).ToTensor())), new CallContext()).Tensor!.square().sum().backward();
        var parameters = ModuleTree.NamedParameters(tree.Root);
        foreach (var (key, parameter) in parameters)
        {
            // A backward is only nearly PyTorch's; its own gradients make every conversion after it exact.
            var gradient = FixtureTensor.Read(sequence.Gradients[key]);
            Tolerance.Float32.Check(gradient, parameter.grad, $"gradient of {key}");
            parameter.grad!.copy_(gradient.ToTensor());
        }

        foreach (var step in sequence.Steps)
        {
            Conversions.Convert(tree.Root, Plan(step));

            CheckState(Sequences.State(step.State), tree, default, $"{step.Kind}({step.Dtype}): ");
            var now = ModuleTree.NamedParameters(tree.Root);
            Assert.Equal(parameters.Select(p => p.Parameter), now.Select(p => p.Parameter), ReferenceEqualityComparer.Instance);
            foreach (var (key, parameter) in now)
            {
                default(Tolerance).Check(FixtureTensor.Read(step.Gradients[key]), parameter.grad, $"{step.Kind}({step.Dtype}): gradient of {key}");
            }
        }
    }

    [Theory]
    [MemberData(nameof(TrainingNames))]
    public void Step_losses_and_weights_are_PyTorchs(string name)
    {
        var sequence = Sequences.All.Training.Single(s => s.Name == name);
        using var scope = NewDisposeScope();
        using var tree = Build(SpecJson.Read(sequence.Spec), sequence.State);
        using var optimizer = HostedOptimizer.Create("optimizer", sequence.Optimizer, sequence.Args.ToDictionary(a => a.Key, a => SpecJson.Value(a.Value)), [], tree, "optimizer");
        var loss = LossFunction.Create("CrossEntropyLoss", new Dictionary<string, object?>());
        foreach (var (step, index) in sequence.Steps.Select((step, index) => (step, index)))
        {
            var type = ElementType.Float32;
            if (index == sequence.Steps.Count - 1)
            {
                type = ElementType.Float64;
                Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.Double));
                optimizer.ConvertState();
            }

            var input = TensorTree.Of(FixtureTensor.Read(step.Input).ToTensor(type));
            var batch = new TrainingBatch(tree.Root, "", new CallArguments(input), loss, [FixtureTensor.Read(step.Target).ToTensor()]);
            var outcome = TrainingStep.Run(tree, batch, new StepOptions(optimizer));

            Assert.InRange(outcome.Loss, step.Loss * (1 - 1e-5), step.Loss * (1 + 1e-5));
            if (step.State is not null)
            {
                CheckState(Sequences.State(step.State), tree, Tolerance.Float32, $"after step {index}: ");
            }
        }

        Assert.Equal(sequence.Steps.Count, optimizer.Steps);
    }

    [Fact]
    public void Apply_visits_in_PyTorchs_order()
    {
        var order = Sequences.All.Apply;
        using var tree = ModuleBuilder.Build(SpecJson.Read(order.Spec), ElementType.Float32, new BuildLimits());
        var names = ModuleTree.Walk(tree.Root).ToDictionary(at => at.Node, at => at.Path);
        Assert.Equal(order.Modules, ModuleTree.Walk(tree.Root).Select(at => at.Path));
        Assert.Equal(order.Visits, ModuleTree.WalkChildrenFirst(tree.Root).Select(at => names[at.Node]));
    }

    private static ModuleTree Build(ModuleSpec spec, IReadOnlyList<System.Text.Json.JsonElement> state)
    {
        var tree = ModuleBuilder.Build(spec, ElementType.Float32, new BuildLimits());
        StateLoading.Load(tree.Root, [.. Sequences.State(state).Select(e => (e.Key, e.Value.ToTensor()))], strict: true);
        return tree;
    }

    private static ConversionPlan Plan(ConversionStep step)
    {
        var kind = Enum.Parse<ConversionKind>(step.Kind, ignoreCase: true);
        return step.Dtype is { } dtype && ElementTypes.TryParse(dtype, out var type) ? new(kind, type) : new(kind);
    }

    private static void CheckState(IReadOnlyList<(string Key, FixtureTensor Value)> expected, ModuleTree tree, Tolerance near, string what)
    {
        var state = ModuleTree.State(tree.Root);
        Assert.Equal(expected.Select(e => e.Key), state.Select(e => e.Key));
        foreach (var (entry, wanted) in state.Zip(expected))
        {
            near.Check(wanted.Value, entry.Tensor, what + entry.Key);
        }
    }
}
