using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace Sconce.Engine.Modules;

/// <summary>An LSTM whose hidden state is projected (<c>proj_size</c>), step by step.</summary>
internal static class ProjectedLstm
{
    /// <param name="Layers">Stacked layers.</param>
    /// <param name="Directions">1, or 2 when bidirectional.</param>
    /// <param name="BatchFirst">Whether the input is (batch, step, feature).</param>
    /// <param name="Dropout">Dropout between layers, 0 in eval.</param>
    public readonly record struct Options(long Layers, int Directions, bool BatchFirst, double Dropout);

    public static (Tensor Output, Tensor H, Tensor C) Run(Tensor input, Tensor h0, Tensor c0, IReadOnlyList<NamedParameter> parameters, Options options)
    {
        var each = parameters.Count / (int)(options.Layers * options.Directions);
        var layer = options.BatchFirst ? input.transpose(0, 1) : input;
        var (h, c) = (new List<Tensor>(), new List<Tensor>());
        for (var l = 0; l < options.Layers; l++)
        {
            var outputs = new Tensor[options.Directions];
            for (var d = 0; d < options.Directions; d++)
            {
                var index = (l * options.Directions) + d;
                var weights = parameters.Skip(index * each).Take(each).Select(p => (Tensor)p.Parameter).ToArray();
                var (output, hn, cn) = RunOne(layer, h0[index], c0[index], weights, reverse: d == 1);
                outputs[d] = output;
                h.Add(hn);
                c.Add(cn);
            }

            layer = outputs.Length == 1 ? outputs[0] : cat(outputs, -1);
            if (options.Dropout > 0 && l < options.Layers - 1)
            {
                layer = F.dropout(layer, options.Dropout, true);
            }
        }

        return (options.BatchFirst ? layer.transpose(0, 1) : layer, stack(h), stack(c));
    }

    // Weights: input, hidden, then both biases where there are any, then the projection.
    private static (Tensor Output, Tensor H, Tensor C) RunOne(Tensor input, Tensor h, Tensor c, Tensor[] weights, bool reverse)
    {
        var biased = weights.Length == 5;
        var fromInput = F.linear(input, weights[0], biased ? weights[2] : null!);
        var steps = input.shape[0];
        var outputs = new Tensor[steps];
        for (var s = 0L; s < steps; s++)
        {
            var at = reverse ? steps - 1 - s : s;
            var gates = (fromInput[at] + F.linear(h, weights[1], biased ? weights[3] : null!)).chunk(4, 1);
            c = (gates[1].sigmoid() * c) + (gates[0].sigmoid() * gates[2].tanh());
            h = F.linear(gates[3].sigmoid() * c.tanh(), weights[^1]);
            outputs[at] = h;
        }

        return (stack(outputs), h, c);
    }
}
