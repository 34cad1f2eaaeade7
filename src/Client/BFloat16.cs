using System.Globalization;

namespace Sconce.Client;

/// <summary>The upper half of a <see cref="float"/>: the element of a bfloat16 tensor.</summary>
/// <remarks>Storage and conversion only; compute in <see cref="float"/>.</remarks>
/// <param name="Bits">The 16 bits: sign, 8 of exponent, 7 of fraction.</param>
public readonly record struct BFloat16(ushort Bits) : IFormattable
{
    /// <summary>Rounds to the nearest bfloat16, ties to even, as PyTorch does.</summary>
    /// <param name="value">The value to round.</param>
    public static explicit operator BFloat16(float value)
    {
        var bits = BitConverter.SingleToUInt32Bits(value);
        if (float.IsNaN(value))
        {
            // Rounding could carry a NaN's fraction away and leave an infinity: keep it a quiet NaN.
            return new BFloat16((ushort)((bits >> 16) | 0x40));
        }

        return new BFloat16((ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16));
    }

    /// <summary>Widens to <see cref="float"/>, exactly.</summary>
    /// <param name="value">The value to widen.</param>
    public static implicit operator float(BFloat16 value) => BitConverter.UInt32BitsToSingle((uint)value.Bits << 16);

    /// <summary>Rounds to the nearest bfloat16; the named form of the conversion operator.</summary>
    /// <param name="value">The value to round.</param>
    public static BFloat16 FromSingle(float value) => (BFloat16)value;

    /// <summary>Widens to <see cref="float"/>; the named form of the conversion operator.</summary>
    public float ToSingle() => this;

    /// <inheritdoc/>
    public string ToString(string? format, IFormatProvider? formatProvider) => ToSingle().ToString(format, formatProvider);

    /// <inheritdoc/>
    public override string ToString() => ToString(null, CultureInfo.InvariantCulture);
}
