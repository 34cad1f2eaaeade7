using static TorchSharp.torch;

namespace Sconce.Engine.Catalog;

/// <summary>How wide an element is of what operands make together, to ask for room before it is made.</summary>
internal static class Promotion
{
    /// <summary>Bytes of an element of the dtype that operands promote to, or of a wider one.</summary>
    /// <param name="operands">The operands; null for one left out.</param>
    public static long ElementSize(params ReadOnlySpan<Tensor?> operands)
    {
        // As PyTorch: one without dimensions counts only where its kind of number is above that of those with dimensions.
        var kind = -1;
        foreach (var operand in operands)
        {
            kind = operand is { Dimensions: > 0 } ? Math.Max(kind, Kind(operand.dtype)) : kind;
        }

        long widest = 0;
        bool half = false, brain = false, signed = false, unsigned = false, wide = false, complex = false;
        foreach (var operand in operands)
        {
            if (operand is null || (operand.Dimensions == 0 && Kind(operand.dtype) <= kind))
            {
                continue;
            }

            var type = operand.dtype;
            widest = Math.Max(widest, operand.ElementSize);
            half |= type == ScalarType.Float16;
            brain |= type == ScalarType.BFloat16;
            signed |= type == ScalarType.Int8;
            unsigned |= type == ScalarType.Byte;
            wide |= type == ScalarType.Float64;
            complex |= type == ScalarType.ComplexFloat32;
        }

        // Pairs of which neither holds the other's numbers make a third: float32, int16, complex128.
        return Math.Max(widest, complex && wide ? 16 : half && brain ? 4 : signed && unsigned ? 2 : 0);
    }

    private static int Kind(ScalarType type) => type switch
    {
        ScalarType.Bool => 0,
        ScalarType.Byte or ScalarType.Int8 or ScalarType.Int16 or ScalarType.Int32 or ScalarType.Int64 => 1,
        ScalarType.ComplexFloat32 or ScalarType.ComplexFloat64 => 3,
        _ => 2,
    };
}
