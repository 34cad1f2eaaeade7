using System.Text.Json;
using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using Sconce.Engine.Training;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Training;

/// <summary>Optimizers against real PyTorch, step by step, in float64.</summary>
public sealed class OptimizerParityTests
{
    public static TheoryData<int, string> Cases => TrainingFixtures.Rows("optimizers");

    public static TheoryData<int, string> LbfgsCases => TrainingFixtures.Rows("lbfgs");

    [Theory]
    [MemberData(nameof(Cases))]
    public void Step_gives_the_weights_and_state_of_PyTorch(int index, string label)
    {
        using var scope = NewDisposeScope();
        var fixture = TrainingFixtures.Load("optimizers")[index];
        var type = fixture.GetProperty("type").GetString()!;

        // PyTorch 1.13 keeps the rates of ASGD and the product of NAdam in float32; here they are float64.
        var tolerance = type is "ASGD" or "NAdam" ? 3e-7 : 1e-12;
        using var tree = Tree(fixture);
        using var optimizer = HostedOptimizer.Create("default", type, TrainingFixtures.Args(fixture.GetProperty("args")), [], tree);
        var parameters = ModuleTree.NamedParameters(tree.Root);
        foreach (var (gradients, weights) in fixture.GetProperty("gradients").EnumerateArray().Zip(fixture.GetProperty("weights").EnumerateArray()))
        {
            foreach (var (parameter, gradient) in parameters.Zip(gradients.EnumerateArray()))
            {
                parameter.Parameter.grad = gradient.ValueKind == JsonValueKind.Null ? null : TrainingFixtures.Tensor(gradient);
            }

            using (NewDisposeScope())
            {
                optimizer.Step();
            }

            foreach (var (parameter, weight) in parameters.Zip(TrainingFixtures.Tensors(weights)))
            {
                TrainingFixtures.Close(weight, parameter.Parameter, tolerance, $"{parameter.Name} with {label}");
            }
        }

        var state = optimizer.GetState();
        var tensors = fixture.GetProperty("tensors");
        Assert.Equal(tensors.EnumerateObject().Select(entry => entry.Name).Order(), state.Tensors.Select(entry => entry.Key).Order());
        foreach (var (key, value) in state.Tensors)
        {
            TrainingFixtures.Close(TrainingFixtures.Tensor(tensors.GetProperty(key)), value, tolerance, $"{key} with {label}");
        }

        var scalars = fixture.GetProperty("scalars");
        Assert.Equal(scalars.EnumerateObject().Select(entry => entry.Name).Order(), state.Scalars.Keys.Order());
        Assert.All(state.Scalars, entry => Assert.Equal(scalars.GetProperty(entry.Key).GetDouble(), entry.Value, tolerance));
    }

    [Theory]
    [MemberData(nameof(LbfgsCases))]
    public void StepWithClosure_gives_the_losses_and_weights_of_PyTorch(int index, string label)
    {
        const double Tolerance = 1e-7; // Twenty iterations feed every rounding back into the next.
        using var scope = NewDisposeScope();
        var fixture = TrainingFixtures.Load("lbfgs")[index];
        using var tree = Tree(fixture);
        using var optimizer = HostedOptimizer.Create("default", "LBFGS", TrainingFixtures.Args(fixture.GetProperty("args")), [], tree);
        var batch = Given.Batch(tree, TrainingFixtures.Tensor(fixture.GetProperty("input")), Given.Loss("BCEWithLogitsLoss"), TrainingFixtures.Tensor(fixture.GetProperty("target")));
        foreach (var (loss, weights) in fixture.GetProperty("losses").EnumerateArray().Zip(fixture.GetProperty("weights").EnumerateArray()))
        {
            Assert.Equal(loss.GetDouble(), TrainingStep.Run(tree, batch, new StepOptions(optimizer)).Loss, Tolerance);
            foreach (var (parameter, weight) in ModuleTree.NamedParameters(tree.Root).Zip(TrainingFixtures.Tensors(weights)))
            {
                TrainingFixtures.Close(weight, parameter.Parameter, Tolerance, $"{parameter.Name} in case {label}");
            }
        }
    }

    [Fact]
    public void Fixtures_cover_every_optimizer()
    {
        var covered = TrainingFixtures.Load("optimizers").Select(fixture => fixture.GetProperty("type").GetString()!).Append("LBFGS").Distinct().Order();
        Assert.Equal(ModuleCatalog.Types.Where(type => type.Kind == TypeKind.Optimizer).Select(type => type.Name).Order(), covered);
    }

    private static ModuleTree Tree(JsonElement fixture)
    {
        var tree = ModuleBuilder.Build(Given.Spec("Linear", ("in_features", 4.0), ("out_features", 3.0)), ElementType.Float64, new BuildLimits());
        using var noGrad = no_grad();
        foreach (var (parameter, start) in ModuleTree.NamedParameters(tree.Root).Zip(TrainingFixtures.Tensors(fixture.GetProperty("start"))))
        {
            parameter.Parameter.copy_(start);
        }

        return tree;
    }
}
