using Sconce.Cli.Data;
using Sconce.Cli.Demo;
using Sconce.Cli.Training;
using Sconce.Client;
using Sconce.V1;

namespace Sconce.Cli.Tests;

public sealed class TrainingDataTests
{
    private static readonly Dataset Numbers = new(
        TensorData.Create(Enumerable.Range(0, 20).Select(i => (float)i).ToArray(), 10, 2),
        TensorData.Create(Enumerable.Range(0, 10).Select(i => (long)i).ToArray(), 10));

    [Fact]
    public void Batches_cut_the_rows_in_order_and_keep_the_rest()
    {
        var batches = Numbers.Batches(4).ToList();

        Assert.Equal([4L, 4L, 2L], batches.Select(batch => batch.Inputs[0].Shape[0]));
        Assert.Equal([8f, 9f, 10f, 11f, 12f, 13f, 14f, 15f], batches[1].Inputs[0].As<float>().ToArray());
        Assert.Equal([8L, 9L], batches[2].Targets[0].As<long>().ToArray());
    }

    [Fact]
    public void ShuffledBatches_hold_every_row_once_with_its_target()
    {
        var batches = Numbers.ShuffledBatches(3, new Random(1)).ToList();
        var targets = batches.SelectMany(batch => batch.Targets[0].As<long>().ToArray()).ToList();

        Assert.Equal(Enumerable.Range(0, 10).Select(i => (long)i), targets.Order());
        Assert.NotEqual(targets.Order(), targets);
        Assert.All(batches, batch => Assert.Equal(
            batch.Targets[0].As<long>().ToArray().SelectMany(row => new[] { row * 2f, (row * 2f) + 1 }), batch.Inputs[0].As<float>().ToArray()));
    }

    [Fact]
    public void Dataset_of_different_lengths_is_refused()
        => Assert.Contains("10 samples against 3", Assert.Throws<UsageException>(() => new Dataset(Numbers.Inputs, TensorData.Create(new long[3]))).Message, StringComparison.Ordinal);

    [Fact]
    public void Dataset_of_images_is_normalised()
    {
        var data = Dataset.Of(new ImageSet(1, 1, 2, [0, 255], [3]));

        Assert.Equal("float32[1, 1, 1, 2]", data.Inputs.ToString());
        Assert.Equal([-0.8102f, 2.0227f], data.Inputs.As<float>().ToArray(), (a, b) => Math.Abs(a - b) < 1e-4);
        Assert.Equal([3L], data.Targets.As<long>().ToArray());
    }

    [Theory]
    [InlineData(DataType.Float16)]
    [InlineData(DataType.Bfloat16)]
    public void WithInputs_rounds_to_the_dtype(DataType dtype)
    {
        var rounded = Numbers.WithInputs(dtype);

        Assert.Equal(dtype, rounded.Inputs.DType);
        Assert.Equal(19, Running.TensorElements.ToDouble(rounded.Inputs, 19));
    }

    [Fact]
    public void FocalLoss_gradient_is_that_of_the_loss()
    {
        float[] logits = [0.5f, -1f, 2f, 0.1f, 0.2f, -0.3f];
        var targets = TensorData.Create(new long[] { 2, 0 });
        var gradient = FocalLoss.Compute(TensorData.Create(logits, 2, 3), targets).Gradient.As<float>();

        for (var i = 0; i < logits.Length; i++)
        {
            const float step = 1e-2f;
            var (up, down) = (Shifted(step), Shifted(-step));
            Assert.Equal((up - down) / (2 * step), gradient.Span[i], 1e-4);

            double Shifted(float by)
            {
                var shifted = logits.ToArray();
                shifted[i] += by;
                return FocalLoss.Compute(TensorData.Create(shifted, 2, 3), targets).Loss;
            }
        }
    }

    [Fact]
    public void FocalLoss_without_focus_would_be_cross_entropy()
    {
        // For a certain answer (1 - p)^2 is almost 1 where p is almost 0: the loss is then -log p.
        var loss = FocalLoss.Compute(TensorData.Create(new[] { 10f, 0f }, 1, 2), TensorData.Create(new long[] { 1 })).Loss;

        Assert.Equal(10, loss, 1e-2);
    }
}
