using Sconce.Engine.Modules;
using Sconce.Engine.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Training;

public sealed class GradientsTests
{
    public static TheoryData<int, string> ClipCases => TrainingFixtures.Rows("clip");

    [Theory]
    [MemberData(nameof(ClipCases))]
    public void Clip_equals_PyTorch_within_1e_12(int index, string label)
    {
        using var scope = NewDisposeScope();
        var fixture = TrainingFixtures.Load("clip")[index];
        using var tree = ModuleBuilder.Build(Given.Spec("Linear", ("in_features", 4.0), ("out_features", 3.0)), Engine.Tensors.ElementType.Float64, new BuildLimits());
        var parameters = ModuleTree.NamedParameters(tree.Root);
        foreach (var (parameter, gradient) in parameters.Zip(TrainingFixtures.Tensors(fixture.GetProperty("before"))))
        {
            parameter.Parameter.grad = gradient;
        }

        var value = fixture.GetProperty("value").GetDouble();
        var byNorm = fixture.GetProperty("method").GetString() == "max_norm";
        var norm = Gradients.Clip(tree.Root, new GradientClip(byNorm ? value : null, byNorm ? null : value, TrainingFixtures.Number(fixture.GetProperty("norm_type"))));
        foreach (var (parameter, gradient) in parameters.Zip(TrainingFixtures.Tensors(fixture.GetProperty("after"))))
        {
            TrainingFixtures.Close(gradient, parameter.Parameter.grad!, 1e-12, $"gradient of {parameter.Name} in case {label}");
        }

        Assert.Equal(byNorm, norm is not null);
        if (byNorm)
        {
            Assert.Equal(fixture.GetProperty("norm").GetDouble(), norm!.Value, 1e-12);
        }
    }

    [Fact]
    public void Clip_without_gradients_has_a_norm_of_0()
    {
        using var tree = Given.Linear();
        Assert.Equal(0, Gradients.Clip(tree.Root, new GradientClip(1, null)));
    }

    [Theory]
    [InlineData(null, null, 2, "clip")]
    [InlineData(1.0, 1.0, 2, "clip")]
    [InlineData(0.0, null, 2, "clip.max_norm")]
    [InlineData(double.NaN, null, 2, "clip.max_norm")]
    [InlineData(null, -1.0, 2, "clip.clip_value")]
    [InlineData(1.0, null, 0, "clip.norm_type")]
    public void Clip_with_numbers_that_make_no_sense_names_the_field(double? maxNorm, double? clipValue, double normType, string field)
    {
        using var tree = Given.Linear();
        var error = Assert.Throws<EngineException>(() => Gradients.Clip(tree.Root, new GradientClip(maxNorm, clipValue, normType)));
        Assert.Equal(EngineError.InvalidArgument, error.Error);
        Assert.Equal(field, error.Fields[0].Field);
    }

    [Fact]
    public void Zero_drops_the_gradients_or_keeps_them_as_zeros()
    {
        using var scope = NewDisposeScope();
        using var tree = Given.Linear();
        _ = TrainingStep.ForwardBackward(tree, Given.Batch(tree, rand(2, 4), Given.Loss("MSELoss"), rand(2, 3)));
        var weight = tree.Root.Parameters[0].Parameter;
        Gradients.Zero(tree.Root, setToNone: false);
        Assert.Equal(0, weight.grad!.abs().max().ToDouble());
        Gradients.Zero(tree.Root, setToNone: true);
        Assert.Null(weight.grad);
    }

    [Fact]
    public void Collect_gives_the_chosen_gradients_that_there_are()
    {
        using var scope = NewDisposeScope();
        using var tree = Given.TwoLayers();
        tree.Find("0").Parameters[0].Parameter.requires_grad = false;
        _ = TrainingStep.ForwardBackward(tree, Given.Batch(tree, rand(2, 4), Given.Loss("MSELoss"), rand(2, 3)));
        Assert.Equal(["0.bias", "2.weight", "2.bias"], Gradients.Collect(tree.Root, []).Select(entry => entry.Key));
        Assert.Equal(["2.weight"], Gradients.Collect(tree.Root, ["*.weight"]).Select(entry => entry.Key));
        var error = Assert.Throws<EngineException>(() => Gradients.Collect(tree.Root, ["3.*"]));
        Assert.Equal(EngineError.NotFound, error.Error);
    }
}
