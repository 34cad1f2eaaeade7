using Sconce.Engine.Training;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Training;

/// <summary>Steps must leave nothing behind but state. Not beside other tests: tensors are counted for the process.</summary>
[Collection(nameof(ProcessGenerator))]
public sealed class TrainingMemoryTests
{
    [Theory]
    [InlineData("Adam", 4)]
    [InlineData("SGD", 0)]
    [InlineData("LBFGS", null)]
    public void Run_many_times_keeps_the_state_and_nothing_else(string type, int? stateTensors)
    {
        using var tree = Given.Linear();
        using var optimizer = Given.Optimizer(tree, type);
        var loss = Given.Loss("CrossEntropyLoss", ("weight", new List<object?> { 1.0, 2.0, 3.0 }), ("label_smoothing", 0.1));
        var clip = new GradientClip(1, null);
        if (stateTensors is { } expected)
        {
            Learn();
            Assert.Equal(expected, optimizer.GetState().Tensors.Count);
        }

        // LBFGS fills its history first: at most a hundred pairs.
        for (var i = 0; i < 30; i++)
        {
            Learn();
        }

        var before = Live();
        for (var i = 0; i < 30; i++)
        {
            Learn();
        }

        var most = stateTensors is null ? 2 * 100 : 0;
        Assert.InRange(Live() - before, long.MinValue, most);

        void Learn()
        {
            using var scope = NewDisposeScope();
            var outcome = TrainingStep.Run(
                tree,
                Given.Batch(tree, rand(4, 4), loss, randint(0, 3, [4], ScalarType.Int64)) with { ReturnOutput = true },
                new StepOptions(optimizer, Clip: clip));
            Assert.NotNull(outcome.Output);
        }
    }

    [Fact]
    public void Dispose_frees_the_state()
    {
        using var tree = Given.Linear();
        var before = Live();
        var optimizer = Given.Optimizer(tree, "Adam");
        using (NewDisposeScope())
        {
            foreach (var (_, parameter) in tree.Root.Parameters)
            {
                parameter.grad = ones_like(parameter);
            }

            optimizer.Step();
            optimizer.LoadState(optimizer.GetState());
            optimizer.ConvertState();
        }

        Assert.Equal(4, Live() - before);
        optimizer.Dispose();
        Assert.Equal(0, Live() - before);
    }

    private static long Live()
    {
        // Tensors that other tests left to the finalizer go first, so that they are not counted as freed between two looks.
        GC.Collect();
        GC.WaitForPendingFinalizers();
        return Tensor.TotalCount;
    }
}
