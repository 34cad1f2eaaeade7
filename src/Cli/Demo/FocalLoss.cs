using Sconce.Client;

namespace Sconce.Cli.Demo;

/// <summary>
/// The focal loss (https://arxiv.org/abs/1708.02002), mean over the batch: one that torch.nn lacks, so its value and its gradient are computed
/// here, in the client, and only the gradient crosses the wire.
/// </summary>
internal static class FocalLoss
{
    private const double Gamma = 2;

    /// <param name="logits">float32 [N, classes].</param>
    /// <param name="targets">int64 [N].</param>
    /// <returns>The loss, and its gradient with respect to the logits.</returns>
    public static (double Loss, TensorData Gradient) Compute(TensorData logits, TensorData targets)
    {
        var (rows, classes) = ((int)logits.Shape[0], (int)logits.Shape[1]);
        var z = logits.As<float>().Span;
        var y = targets.As<long>().Span;
        var gradient = new float[rows * classes];
        var p = new double[classes];
        double loss = 0;
        for (var row = 0; row < rows; row++)
        {
            Softmax(z.Slice(row * classes, classes), p);
            var right = Math.Max(p[(int)y[row]], 1e-12);
            var wrong = 1 - right;
            loss -= Math.Pow(wrong, Gamma) * Math.Log(right);
            // dL/dz_j = (gamma (1-p)^(gamma-1) p log p - (1-p)^gamma) (1[j=y] - p_j), p being the probability of the right class.
            var slope = (Gamma * Math.Pow(wrong, Gamma - 1) * right * Math.Log(right)) - Math.Pow(wrong, Gamma);
            for (var j = 0; j < classes; j++)
                gradient[(row * classes) + j] = (float)(slope * ((j == y[row] ? 1 : 0) - p[j]) / rows);
        }

        return (loss / rows, TensorData.Create(gradient, rows, classes));
    }

    private static void Softmax(ReadOnlySpan<float> z, Span<double> p)
    {
        double highest = double.NegativeInfinity, sum = 0;
        foreach (var value in z)
            highest = Math.Max(highest, value);
        for (var j = 0; j < z.Length; j++)
            sum += p[j] = Math.Exp(z[j] - highest);
        for (var j = 0; j < z.Length; j++)
            p[j] /= sum;
    }
}
