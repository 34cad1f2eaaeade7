using static TorchSharp.torch;

namespace Sconce.Engine.Catalog;

/// <summary>
/// What an <c>einsum</c> makes on its way to its output, to ask for room before it is made: libtorch contracts the operands from left to right, and sums a
/// label as soon as no later operand has it and the output lacks it.
/// </summary>
internal static class EinsumProducts
{
    /// <summary>The shapes of all products in the order in which they are made: the output's dimensions first, then those summed over, of size 1 once they are.</summary>
    /// <param name="equation">The equation.</param>
    /// <param name="operands">The operands.</param>
    /// <returns>None for a single operand, which only shrinks, and where the equation does not fit its operands: libtorch refuses that.</returns>
    public static IReadOnlyList<long[]> Of(string equation, params ReadOnlySpan<Tensor?> operands)
    {
        var sides = equation.Replace(" ", "", StringComparison.Ordinal).Split("->");
        var terms = sides[0].Split(',');
        if (sides.Length > 2 || terms.Length != operands.Length || Layout(sides, terms, operands) is not { } layout)
        {
            return [];
        }

        var (sizes, kept) = layout;
        var uses = new int[sizes[0].Length];
        for (var label = kept; label < uses.Length; label++)
        {
            uses[label] = sizes.Count(operand => operand[label] != 1);
        }

        var products = new List<long[]>();
        var product = sizes[0];
        foreach (var operand in sizes.Skip(1))
        {
            products.Add(product = Contract(product, operand, uses, kept));
        }

        return products;
    }

    private static long[] Contract(long[] left, long[] right, int[] uses, int kept)
    {
        var result = new long[left.Length];
        for (var label = 0; label < result.Length; label++)
        {
            var (inLeft, inRight) = (left[label] != 1, right[label] != 1);
            result[label] = inLeft ? left[label] : right[label];
            if (label < kept || !(inLeft || inRight))
            {
                continue;
            }

            uses[label] -= inLeft && inRight ? 1 : 0;
            if (uses[label] == 1)
            {
                (uses[label], result[label]) = (0, 1);
            }
        }

        return result;
    }

    // The operands' sizes by label, 1 where they lack it, and how many of the labels the output has: those come first.
    private static (long[][] Sizes, int Kept)? Layout(string[] sides, string[] terms, ReadOnlySpan<Tensor?> operands)
    {
        var named = new List<(int Label, long Size)>[terms.Length];
        var ellipsis = 0;
        for (var i = 0; i < terms.Length; i++)
        {
            var shape = operands[i]!.shape;
            var letters = terms[i].Replace("...", "", StringComparison.Ordinal).Length;
            var covered = letters == terms[i].Length ? 0 : shape.Length - letters;
            if (covered < 0 || letters + covered != shape.Length || Labels(terms[i], covered) is not { } labels)
            {
                return null;
            }

            named[i] = [.. labels.Zip(shape)];
            ellipsis = Math.Max(ellipsis, covered);
        }

        var all = named.SelectMany(operand => operand.Select(one => one.Label)).ToList();
        // Without an arrow: the ellipsis, then the letters that are there once, in their order.
        var implied = string.Concat(sides[0].Where(char.IsAsciiLetter).GroupBy(letter => letter).Where(group => group.Count() == 1).Select(group => group.Key).Order());
        if (Labels(sides.Length > 1 ? sides[1] : "..." + implied, ellipsis) is not { } output)
        {
            return null;
        }

        List<int> order = [.. output, .. all.Distinct().Except(output)];
        var sizes = named.Select(operand => order.Select(label => operand.Where(one => one.Label == label).Select(one => one.Size).DefaultIfEmpty(1).Max()).ToArray()).ToArray();
        return (sizes, output.Count);
    }

    // Letters by their code; the dimensions of an ellipsis, which broadcast from the last on, by numbers below 0.
    private static List<int>? Labels(string term, int covered)
    {
        var labels = new List<int>();
        for (var i = 0; i < term.Length; i++)
        {
            if (char.IsAsciiLetter(term[i]))
            {
                labels.Add(term[i]);
            }
            else if (term.AsSpan(i).StartsWith("...") && covered >= 0)
            {
                labels.AddRange(Enumerable.Range(1, covered).Select(k => k - covered - 1));
                (i, covered) = (i + 2, -1);
            }
            else
            {
                return null;
            }
        }

        return labels;
    }
}
