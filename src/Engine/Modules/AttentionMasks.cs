using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>Makes one additive mask of the two that attention takes.</summary>
internal static class AttentionMasks
{
    /// <param name="Batch">Samples.</param>
    /// <param name="Heads">Attention heads.</param>
    /// <param name="Target">Steps of the query.</param>
    /// <param name="Source">Steps of the key.</param>
    /// <param name="Batched">Whether the caller's inputs have a batch dimension.</param>
    public readonly record struct Sizes(long Batch, long Heads, long Target, long Source, bool Batched);

    /// <summary>The sum of both masks, broadcastable to (batch, heads, target, source), or null; where a bool mask is true nothing is attended.</summary>
    public static Tensor? Combine(Tensor? attention, Tensor? keyPadding, Sizes sizes, ScalarType type, Func<string, EngineException> refuse)
    {
        Tensor? mask = null;
        if (attention is not null)
        {
            var shape = attention.shape;
            var flat = shape.AsSpan().SequenceEqual([sizes.Target, sizes.Source]);
            if (!flat && !shape.AsSpan().SequenceEqual([sizes.Batch * sizes.Heads, sizes.Target, sizes.Source]))
            {
                throw refuse($"takes attn_mask of shape [{sizes.Target}, {sizes.Source}] or [{sizes.Batch * sizes.Heads}, {sizes.Target}, {sizes.Source}]; it was given {CallFailure.Describe(attention)}");
            }

            mask = Additive(attention, type, "attn_mask", refuse);
            mask = flat ? mask.view(1, 1, sizes.Target, sizes.Source) : mask.view(sizes.Batch, sizes.Heads, sizes.Target, sizes.Source);
        }

        if (keyPadding is not null)
        {
            long[] expected = sizes.Batched ? [sizes.Batch, sizes.Source] : [sizes.Source];
            if (!keyPadding.shape.SequenceEqual(expected))
            {
                throw refuse($"takes key_padding_mask of shape [{string.Join(", ", expected)}]; it was given {CallFailure.Describe(keyPadding)}");
            }

            var padding = Additive(keyPadding, type, "key_padding_mask", refuse).view(sizes.Batch, 1, 1, sizes.Source);
            mask = mask is null ? padding.expand(sizes.Batch, 1, sizes.Target, sizes.Source) : mask + padding;
        }

        return mask;
    }

    private static Tensor Additive(Tensor mask, ScalarType type, string name, Func<string, EngineException> refuse)
    {
        var contiguous = mask.contiguous();
        return mask.dtype == ScalarType.Bool ? zeros(mask.shape, dtype: type, device: mask.device).masked_fill(contiguous, double.NegativeInfinity)
            : mask.dtype.ToElementType().IsFloatingPoint() ? contiguous.to_type(type)
            : throw refuse($"takes {name} of bool or a floating dtype; it was given {CallFailure.Describe(mask)}");
    }
}
