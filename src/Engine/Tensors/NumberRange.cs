using static TorchSharp.torch;

namespace Sconce.Engine.Tensors;

/// <summary>The finite numbers of a dtype (PyTorch's <c>finfo</c> and <c>iinfo</c>).</summary>
internal static class NumberRange
{
    /// <summary>The least and the greatest; of a complex dtype, those of its parts. What is as wide as a double or wider has a double's.</summary>
    /// <param name="type">The dtype.</param>
    public static (double Least, double Greatest) Of(ScalarType type) => type switch
    {
        ScalarType.Float16 => (-65504, 65504),
        ScalarType.BFloat16 => (-3.3895313892515355e38, 3.3895313892515355e38),
        ScalarType.Float32 or ScalarType.ComplexFloat32 => (float.MinValue, float.MaxValue),
        ScalarType.Byte => (byte.MinValue, byte.MaxValue),
        ScalarType.Int8 => (sbyte.MinValue, sbyte.MaxValue),
        ScalarType.Int16 => (short.MinValue, short.MaxValue),
        ScalarType.Int32 => (int.MinValue, int.MaxValue),
        _ => (double.MinValue, double.MaxValue),
    };
}
