namespace Sconce.Engine.Tensors;

/// <summary>Checks a dtype and a shape that a caller sent, before libtorch sees them.</summary>
internal static class TensorLayout
{
    /// <summary>libtorch's own iterators stop at 64 dimensions.</summary>
    public const int MaxRank = 64;

    /// <summary>Bytes of a dense tensor of this type and shape.</summary>
    /// <exception cref="EngineException">The dtype is unknown, a size is negative, or the product overflows.</exception>
    public static long ByteLength(ElementType type, IReadOnlyList<long> shape, in FieldPath field)
    {
        if (!type.IsDefined())
        {
            throw EngineException.Invalid(field.Child("dtype"), type == ElementType.None ? "is not given; it is required with data" : $"is {(int)type}, which is no dtype of this contract");
        }

        var rank = shape.Count;
        if (rank > MaxRank)
        {
            throw EngineException.Invalid(field.Child("shape"), $"has {rank} dimensions; at most {MaxRank} are possible");
        }

        // Sizes beside a zero count too, as they do in libtorch: [0, 2^62, 2^62] has strides that overflow.
        long bytes = type.Size();
        var empty = false;
        for (var i = 0; i < rank; i++)
        {
            var size = shape[i];
            if (size < 0)
            {
                throw EngineException.Invalid(field.Child($"shape[{i}]"), $"is {size}; it must be >= 0");
            }

            empty |= size == 0;
            var wide = (Int128)bytes * Math.Max(size, 1);
            if (wide > long.MaxValue)
            {
                throw EngineException.Invalid(field.Child($"shape[{i}]"), $"is {size}; with it the tensor would have 2^63 bytes or more");
            }

            bytes = (long)wide;
        }

        return empty ? 0 : bytes;
    }

    /// <summary>Checks that the content of a boolean tensor is zeros and ones: libtorch takes other values and computes nonsense.</summary>
    public static unsafe void CheckBooleans(ReadOnlySpan<byte> data, string field)
    {
        fixed (byte* memory = data)
        {
            CheckBooleans(memory, data.Length, field);
        }
    }

    /// <summary>Checks that the content of a boolean tensor, which may be longer than a span, is zeros and ones.</summary>
    public static unsafe void CheckBooleans(byte* data, long length, string field)
    {
        var at = IndexOfNoBoolean(data, length);
        if (at >= 0)
        {
            throw EngineException.Invalid(field, $"has {data[at]} at byte {at}; a bool is 0 or 1");
        }
    }

    /// <summary>Index of the first byte that is neither 0 nor 1; -1 where there is none.</summary>
    /// <param name="data">The bytes.</param>
    /// <param name="length">How many.</param>
    /// <param name="piece">How many are looked at at once: a span has no more than 2^31.</param>
    public static unsafe long IndexOfNoBoolean(byte* data, long length, int piece = 1 << 30)
    {
        for (var offset = 0L; offset < length; offset += piece)
        {
            var at = new ReadOnlySpan<byte>(data + offset, (int)Math.Min(piece, length - offset)).IndexOfAnyExceptInRange((byte)0, (byte)1);
            if (at >= 0)
            {
                return offset + at;
            }
        }

        return -1;
    }
}
