using System.Text.Json;
using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using Sconce.Engine.Tests.Training;
using Sconce.Engine.Weights;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Parity;

/// <summary>Modules that draw random numbers in training mode have the outcomes that PyTorch has, as often.</summary>
[Collection(nameof(ProcessGenerator))]
public sealed class RandomParityTests : IDisposable
{
    private const int Runs = 1000;

    // Transformers over so few elements divide by small deviations; outcomes are far further apart.
    private static readonly Tolerance Float32 = new(1e-3, 1e-4);

    private readonly int _threads = get_num_threads();

    // Thousands of tiny calls: where cores are busy, threads of libtorch that wait for each other cost ten times the work.
    public RandomParityTests() => set_num_threads(1);

    public static TheoryData<int, string, ElementType> Cases
    {
        get
        {
            var data = new TheoryData<int, string, ElementType>();
            foreach (var (index, fixture) in RandomFixtures.All.Outcomes.Index())
            {
                data.Add(index, fixture.Spec.ToString(), ElementType.Float32);
                data.Add(index, fixture.Spec.ToString(), ElementType.Float64);
            }

            return data;
        }
    }

    public void Dispose() => set_num_threads(_threads);

    [Theory]
    [MemberData(nameof(Cases))]
    public void Train_outcomes_and_gradients_are_PyTorchs_and_as_frequent(int index, string spec, ElementType type)
    {
        var fixture = RandomFixtures.All.Outcomes[index];
        var near = type == ElementType.Float64 ? Tolerance.Float64 : Float32;
        using var scope = NewDisposeScope();
        using var tree = ModuleBuilder.Build(SpecJson.Read(fixture.Spec), type, new BuildLimits());
        StateLoading.Load(tree.Root, [.. Sequences.State(fixture.State).Select(entry => (entry.Key, entry.Value.ToTensor()))], strict: true);
        var wanted = Rows(FixtureTensor.Read(fixture.Outcomes).ToTensor());
        var seen = new int[wanted.Length];
        manual_seed(1);
        for (var run = 0; run < Runs; run++)
        {
            using var each = NewDisposeScope();
            var outcome = Outcome(tree.Root, fixture, type);
            var which = Array.FindIndex(wanted, row => near.Holds(row, outcome));
            Assert.True(which >= 0, $"{spec} gave an outcome that PyTorch has not: {string.Join(", ", outcome)}");
            seen[which]++;
        }

        // Two samples of one distribution: their chi-square is near its degrees of freedom. The seed is fixed, so it is the same each time.
        var total = fixture.Counts.Sum();
        var chiSquare = seen.Zip(fixture.Counts, (ours, theirs) =>
            Math.Pow((ours * Math.Sqrt((double)total / Runs)) - (theirs * Math.Sqrt((double)Runs / total)), 2) / (ours + theirs)).Sum();
        var degrees = seen.Length - 1;
        Assert.True(chiSquare < degrees + (5 * Math.Sqrt(2 * degrees)), $"{spec}: outcomes came {string.Join(", ", seen)} times in {Runs}, in PyTorch {string.Join(", ", fixture.Counts)} in {total}");
    }

    [Fact]
    public void RReLU_slopes_are_spread_as_PyTorchs_and_are_its_gradients()
    {
        using var scope = NewDisposeScope();
        using var tree = ModuleBuilder.Build(new ModuleSpec("RReLU"), ElementType.Float64, new BuildLimits());
        manual_seed(1);
        var input = full([200_000], -1.0, ScalarType.Float64).requires_grad_();
        var output = tree.Root.Call(new CallArguments(TensorTree.Of(input)), new CallContext()).Tensor!;
        output.sum().backward();
        Assert.Equal(0, (output.detach() + input.grad!).abs().max().item<double>());

        var deciles = (-output.detach()).quantile(linspace(0, 1, 11, ScalarType.Float64)).data<double>().ToArray();
        Assert.All(RandomFixtures.All.Slopes.Zip(deciles), pair => Assert.Equal(pair.First, pair.Second, 2e-3));
    }

    // As the generator has it: outputs, gradients of inputs, gradients of parameters, one after another.
    private static double[] Outcome(ModuleNode root, RandomCase fixture, ElementType type)
    {
        var leaves = fixture.Inputs.Select(input => FixtureTensor.Read(input).ToTensor(type).requires_grad_()).ToList();
        var parameters = fixture.WithParameters ? ModuleTree.NamedParameters(root).Select(p => p.Parameter).ToList() : [];
        parameters.ForEach(parameter => parameter.grad = null);
        var output = root.Call(new CallArguments([.. leaves.Select(TensorTree.Of)]), new CallContext());
        Cotangents.Backward(output);
        var gradients = leaves.Concat(parameters).Select(leaf => leaf.grad ?? zeros_like(leaf));
        return Rows(cat([.. output.Flatten().Concat(gradients).Select(part => part.detach().to_type(ScalarType.Float64).flatten())]).unsqueeze(0))[0];
    }

    private static double[][] Rows(Tensor table) => [.. table.contiguous().data<double>().ToArray().Chunk((int)table.shape[1])];
}

/// <summary>What tests/fixtures-generator/randomness.py wrote.</summary>
/// <param name="Outcomes">Modules with few outcomes.</param>
/// <param name="Slopes">Deciles of the slopes that RReLU draws, from the least to the largest.</param>
internal sealed record RandomFixtures(IReadOnlyList<RandomCase> Outcomes, IReadOnlyList<double> Slopes)
{
    public static RandomFixtures All { get; } = Fixtures.Read<RandomFixtures>("random");

    /// <summary>Types whose outcomes are compared.</summary>
    public IEnumerable<string> Types => Outcomes.Select(fixture => fixture.Spec.GetProperty("type").GetString()!).Append("RReLU").Distinct();
}

/// <summary>One module in training mode.</summary>
/// <param name="Spec">How to build it.</param>
/// <param name="State">Its state dict.</param>
/// <param name="Inputs">What it is called with.</param>
/// <param name="WithParameters">Whether an outcome holds gradients of parameters.</param>
/// <param name="Outcomes">One row for each outcome that PyTorch has.</param>
/// <param name="Counts">How often each came.</param>
internal sealed record RandomCase(
    JsonElement Spec, IReadOnlyList<JsonElement> State, IReadOnlyList<JsonElement> Inputs, bool WithParameters, JsonElement Outcomes, IReadOnlyList<int> Counts);
