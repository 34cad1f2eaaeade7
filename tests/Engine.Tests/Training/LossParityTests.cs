using Sconce.Engine.Catalog;
using Sconce.Engine.Tensors;
using Sconce.Engine.Training;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Training;

/// <summary>Losses and their gradients against real PyTorch, in float64, within 1e-10.</summary>
public sealed class LossParityTests
{
    private const double Tolerance = 1e-10;

    public static TheoryData<int, string> Cases => TrainingFixtures.Rows("losses");

    [Theory]
    [MemberData(nameof(Cases))]
    public void Compute_equals_PyTorch(int index, string label)
    {
        using var scope = NewDisposeScope();
        var fixture = TrainingFixtures.Load("losses")[index];
        var outputs = TrainingFixtures.Tensors(fixture.GetProperty("outputs")).Select(output => output.requires_grad_()).ToArray();
        var loss = LossFunction.Create(fixture.GetProperty("type").GetString()!, TrainingFixtures.Args(fixture.GetProperty("args")));
        var value = loss.Compute(TensorTree.Tuple([.. outputs.Select(TensorTree.Of)]), TrainingFixtures.Tensors(fixture.GetProperty("targets")));
        value.mean().backward();
        TrainingFixtures.Close(TrainingFixtures.Tensor(fixture.GetProperty("loss")), value, Tolerance, label);
        foreach (var (expected, output) in TrainingFixtures.Tensors(fixture.GetProperty("gradients")).Zip(outputs))
        {
            TrainingFixtures.Close(expected, output.grad!, Tolerance, $"gradient of {label}");
        }
    }

    [Fact]
    public void Fixtures_cover_every_loss()
    {
        var covered = TrainingFixtures.Load("losses").Select(fixture => fixture.GetProperty("type").GetString()).ToHashSet();
        var known = ModuleCatalog.Types.Where(type => type.Kind == TypeKind.Loss).Select(type => type.Name).ToList();
        Assert.Equal(21, known.Count);
        Assert.All(known, name => Assert.Contains(name, covered));
    }
}
