using Sconce.Cli.Data;
using Sconce.Client;
using Sconce.V1;

namespace Sconce.Cli.Training;

/// <summary>Inputs and targets of the same number of rows, cut into batches.</summary>
internal sealed class Dataset
{
    public Dataset(TensorData inputs, TensorData targets)
    {
        if (inputs.Shape.Length == 0 || targets.Shape.Length == 0)
            throw new UsageException($"The inputs are {inputs} and the targets {targets}; both need a first dimension that counts samples.");
        if (inputs.Shape[0] != targets.Shape[0])
            throw new UsageException($"The inputs are {inputs} and the targets {targets}: {inputs.Shape[0]} samples against {targets.Shape[0]}.");
        if (inputs.Shape[0] == 0)
            throw new UsageException($"The inputs are {inputs}: there is no sample.");
        Inputs = inputs;
        Targets = targets;
    }

    public TensorData Inputs { get; }

    public TensorData Targets { get; }

    public int Count => (int)Inputs.Shape[0];

    /// <summary>Images as float32 [count, 1, rows, columns], normalised; labels as int64 [count].</summary>
    public static Dataset Of(ImageSet images)
    {
        // 256 pixel values: a table is faster than arithmetic.
        var normal = new float[256];
        for (var i = 0; i < normal.Length; i++)
            normal[i] = ((i / 255f) - FashionMnist.Mean) / FashionMnist.Deviation;
        var inputs = TensorData.Create(Array.ConvertAll(images.Pixels, pixel => normal[pixel]), images.Count, 1, images.Rows, images.Columns);
        return new Dataset(inputs, TensorData.Create(Array.ConvertAll(images.Labels, label => (long)label), images.Count));
    }

    public int BatchCount(int batchSize) => (Count + batchSize - 1) / batchSize;

    /// <summary>The first rows, or all where there are fewer. Shares memory.</summary>
    public Dataset Take(int count) => count >= Count ? this : new Dataset(Rows(Inputs, 0, count), Rows(Targets, 0, count));

    /// <summary>Batches in order, sharing memory; the last may be smaller.</summary>
    public IEnumerable<TrainBatch> Batches(int batchSize)
    {
        for (var at = 0; at < Count; at += batchSize)
        {
            var size = Math.Min(batchSize, Count - at);
            yield return new TrainBatch(Rows(Inputs, at, size), Rows(Targets, at, size));
        }
    }

    /// <summary>Batches of the rows in a random order; the last may be smaller.</summary>
    public IEnumerable<TrainBatch> ShuffledBatches(int batchSize, Random random)
    {
        var order = Enumerable.Range(0, Count).ToArray();
        random.Shuffle(order);
        for (var at = 0; at < Count; at += batchSize)
        {
            var rows = order.AsMemory(at, Math.Min(batchSize, Count - at));
            yield return new TrainBatch(Gather(Inputs, rows.Span), Gather(Targets, rows.Span));
        }
    }

    /// <summary>The same rows with float32 inputs rounded to another floating dtype.</summary>
    public Dataset WithInputs(DataType dtype)
    {
        var values = Inputs.As<float>().Span;
        switch (dtype)
        {
            case DataType.Float32:
                return this;
            case DataType.Bfloat16:
                var brain = new Sconce.Client.BFloat16[values.Length];
                for (var i = 0; i < brain.Length; i++)
                    brain[i] = (Sconce.Client.BFloat16)values[i];
                return new Dataset(TensorData.Create(brain, Inputs.Shape.AsSpan()), Targets);
            case DataType.Float16:
                var half = new Half[values.Length];
                System.Numerics.Tensors.TensorPrimitives.ConvertToHalf(values, half);
                return new Dataset(TensorData.Create(half, Inputs.Shape.AsSpan()), Targets);
            default:
                throw new NotSupportedException($"Inputs are not converted to {dtype}.");
        }
    }

    private static TensorData Rows(TensorData tensor, int begin, int count)
    {
        var row = RowBytes(tensor);
        return TensorData.FromBytes(tensor.DType, [count, .. tensor.Shape.AsSpan(1..)], tensor.Bytes.Slice(begin * row, count * row));
    }

    private static TensorData Gather(TensorData tensor, ReadOnlySpan<int> rows)
    {
        var row = RowBytes(tensor);
        var from = tensor.Bytes.Span;
        var to = new byte[rows.Length * row];
        for (var i = 0; i < rows.Length; i++)
            from.Slice(rows[i] * row, row).CopyTo(to.AsSpan(i * row));
        return TensorData.FromBytes(tensor.DType, [rows.Length, .. tensor.Shape.AsSpan(1..)], to);
    }

    private static int RowBytes(TensorData tensor) => (int)(tensor.Bytes.Length / tensor.Shape[0]);
}
