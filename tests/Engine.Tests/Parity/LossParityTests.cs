using System.Text.Json;
using Sconce.Engine.Catalog;
using Sconce.Engine.Tensors;
using Sconce.Engine.Training;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Parity;

/// <summary>Losses and their gradients against real PyTorch.</summary>
public sealed class LossParityTests
{
    public static TheoryData<int, string, ElementType> Cases
    {
        get
        {
            var data = new TheoryData<int, string, ElementType>();
            foreach (var (index, fixture) in LossFixtures.All.Cases.Index())
            {
                data.Add(index, $"{fixture.Type} {JsonSerializer.Serialize(fixture.Args)}", ElementType.Float32);
                data.Add(index, $"{fixture.Type} {JsonSerializer.Serialize(fixture.Args)}", ElementType.Float64);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Compute_values_and_gradients_are_PyTorchs(int index, string label, ElementType type)
    {
        using var scope = NewDisposeScope();
        var fixture = LossFixtures.All.Cases[index];
        var run = fixture.Runs[type.Name()];
        var near = type == ElementType.Float64 ? Tolerance.Float64 : Tolerance.Float32;
        var outputs = fixture.Outputs.Select(output => FixtureTensor.Read(output).ToTensor(type).requires_grad_()).ToArray();
        var targets = fixture.Targets.Select(target => FixtureTensor.Read(target).ToTensor(type)).ToArray();
        var loss = LossFunction.Create(fixture.Type, fixture.Args.ToDictionary(a => a.Key, a => SpecJson.Value(a.Value)));
        var value = loss.Compute(TensorTree.Tuple([.. outputs.Select(TensorTree.Of)]), targets);
        near.Check(FixtureTensor.Read(run.Loss), value, label);

        Cotangents.Backward(TensorTree.Of(value));
        foreach (var (expected, output) in run.Gradients.Zip(outputs))
        {
            near.Check(FixtureTensor.Read(expected), output.grad, $"gradient of {label}");
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Function_of_a_wiring_gives_the_same(int index, string label, ElementType type)
    {
        using var scope = NewDisposeScope();
        var fixture = LossFixtures.All.Cases[index];
        Tensor[] inputs = [.. fixture.Outputs.Concat(fixture.Targets).Select(input => FixtureTensor.Read(input).ToTensor(type))];
        var value = Modules.Spec.Apply(LossFixtures.Types.Single(t => t.Name == fixture.Type).Functional, inputs, [.. fixture.Args.Select(arg => (arg.Key, SpecJson.Value(arg.Value)))]);
        (type == ElementType.Float64 ? Tolerance.Float64 : Tolerance.Float32).Check(FixtureTensor.Read(fixture.Runs[type.Name()].Loss), value.Tensor, label);
    }

    [Fact]
    public void Every_loss_has_a_fixture_for_every_argument_and_reduction() =>
        Assert.Empty(LossFixtures.Types.SelectMany(type => LossFixtures.Of(type).Count == 0 ? [type.Name] : LossFixtures.Missing(type).Select(what => $"{type.Name}: {what}")));
}

/// <summary>What tests/fixtures-generator/losses.py wrote.</summary>
internal sealed record LossFixtures(IReadOnlyList<LossCase> Cases)
{
    public static LossFixtures All { get; } = Fixtures.Read<LossFixtures>("losses");

    /// <summary>The losses of the catalogue.</summary>
    public static IReadOnlyList<CatalogType> Types { get; } = [.. ModuleCatalog.Types.Where(type => type.Kind == TypeKind.Loss)];

    public static IReadOnlyList<LossCase> Of(CatalogType type) => [.. All.Cases.Where(fixture => fixture.Type == type.Name)];

    /// <summary>Arguments with no other value than their default, and choices never taken.</summary>
    public static IEnumerable<string> Missing(CatalogType type) => type.Arguments.SelectMany(argument =>
        TypeCoverage.MissingValues(argument, [.. Of(type).Select(fixture => fixture.Args.TryGetValue(argument.Name, out var value) ? SpecJson.Value(value) : argument.Default)]));
}

/// <summary>One loss of one batch.</summary>
/// <param name="Type">Its type.</param>
/// <param name="Args">Its arguments.</param>
/// <param name="Outputs">What the module returned.</param>
/// <param name="Targets">What goes with it.</param>
/// <param name="Runs">By dtype: value and gradients of the outputs.</param>
internal sealed record LossCase(
    string Type, IReadOnlyDictionary<string, JsonElement> Args, IReadOnlyList<JsonElement> Outputs, IReadOnlyList<JsonElement> Targets, IReadOnlyDictionary<string, LossRun> Runs);

/// <summary>A loss and the gradients of what the module returned.</summary>
internal sealed record LossRun(JsonElement Loss, IReadOnlyList<JsonElement> Gradients);
