using static TorchSharp.torch;

namespace Sconce.Engine.Tensors;

/// <summary>Bytes of tensors, and of answers that carry them. Sums and products stop at the largest number instead of wrapping: a caller chooses their terms.</summary>
internal static class TensorSize
{
    /// <summary>What a tensor takes in a message besides its elements and shape: tags, lengths, dtype, and those of the values around it.</summary>
    private const int MessageOverhead = 64;

    /// <summary>A varint of 64 bits.</summary>
    private const int MostPerDimension = 10;

    /// <summary>Bytes of a tensor's elements, whether or not each has memory of its own.</summary>
    public static long Of(Tensor tensor) => Product(tensor.NumberOfElements, tensor.ElementSize);

    /// <summary>Bytes of all tensors of a value.</summary>
    public static long Of(TensorTree value)
    {
        if (value.Tensor is { } tensor)
        {
            return Of(tensor);
        }

        var sum = 0L;
        foreach (var item in value.Items ?? [])
        {
            sum = Sum(sum, Of(item));
        }

        return sum;
    }

    /// <summary>The product of sizes, none of which is negative.</summary>
    public static long Product(params ReadOnlySpan<long> sizes)
    {
        var product = (Int128)1;
        foreach (var size in sizes)
        {
            if (size == 0)
            {
                return 0;
            }

            product = Int128.Min(product * size, long.MaxValue);
        }

        return (long)product;
    }

    /// <summary>The sum of two sizes.</summary>
    public static long Sum(long a, long b) => a > long.MaxValue - b ? long.MaxValue : a + b;

    /// <summary>Refuses an answer that is larger than a message may be, before a byte of it is made.</summary>
    /// <param name="output">What is to be sent.</param>
    /// <param name="limit">Most bytes of a message.</param>
    public static void CheckAnswer(TensorTree output, long limit) => CheckAnswer(InMessage(output), limit);

    /// <summary>The same for several tensors.</summary>
    public static void CheckAnswer(IEnumerable<Tensor> tensors, long limit) =>
        CheckAnswer(tensors.Aggregate(0L, (sum, tensor) => Sum(sum, InMessage(tensor))), limit);

    /// <summary>The same for bytes that were counted.</summary>
    public static void CheckAnswer(long bytes, long limit)
    {
        if (bytes > limit)
        {
            throw new EngineException(EngineError.ResourceExhausted, "MESSAGE_TOO_LARGE",
                $"the answer would be larger than a message may be: up to {bytes:N0} bytes, of {limit:N0} allowed; ask for less at once (a smaller batch, a part of the output), or raise max_message_bytes on the server")
            {
                Quota = new QuotaRef("max_message_bytes", bytes, 0, limit),
            };
        }
    }

    /// <summary>Most bytes that a value takes in a message.</summary>
    public static long InMessage(TensorTree value)
    {
        if (value.Tensor is { } tensor)
        {
            return InMessage(tensor);
        }

        var sum = (long)MessageOverhead;
        foreach (var item in value.Items ?? [])
        {
            sum = Sum(sum, InMessage(item));
        }

        return sum;
    }

    private static long InMessage(Tensor tensor) => Sum(Of(tensor), MessageOverhead + (MostPerDimension * tensor.Dimensions));
}
