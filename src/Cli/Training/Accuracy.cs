using Sconce.Cli.Running;
using Sconce.Client;

namespace Sconce.Cli.Training;

/// <summary>Counts how often a classifier's largest logit is that of the right class.</summary>
internal static class Accuracy
{
    /// <summary>Runs the module over the whole set, pipelined, and returns the fraction it gets right.</summary>
    public static async Task<double> MeasureAsync(RemoteModule module, Dataset data, int batchSize, CancellationToken cancel)
    {
        var right = 0;
        var targets = data.Batches(batchSize).Select(batch => batch.Targets[0]).GetEnumerator();
        await foreach (var output in module.ForwardStreamAsync(data.Batches(batchSize).Select(batch => batch.Inputs).ToAsyncEnumerable(), cancellationToken: cancel).ConfigureAwait(false))
        {
            targets.MoveNext();
            right += CountRight(output.Tensor, targets.Current);
        }

        return (double)right / data.Count;
    }

    private static int CountRight(TensorData logits, TensorData targets)
    {
        if (logits.Shape.Length != 2 || targets.Shape.Length != 1 || logits.Shape[0] != targets.Shape[0])
            throw new UsageException($"Accuracy needs logits [N, classes] and targets [N]; the module returned {logits} for targets {targets}.");
        var classes = (int)logits.Shape[1];
        var right = 0;
        for (var row = 0; row < targets.Length; row++)
        {
            var best = 0;
            for (var column = 1; column < classes; column++)
            {
                if (TensorElements.ToDouble(logits, (row * classes) + column) > TensorElements.ToDouble(logits, (row * classes) + best))
                    best = column;
            }

            right += best == (long)TensorElements.ToDouble(targets, row) ? 1 : 0;
        }

        return right;
    }
}
