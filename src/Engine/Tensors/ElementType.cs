using static TorchSharp.torch;

namespace Sconce.Engine.Tensors;

/// <summary>Element type of a tensor; the values equal those of <c>DataType</c> in the contract.</summary>
public enum ElementType
{
    /// <summary>Not given.</summary>
    None = 0,

    /// <summary>IEEE 754 binary32.</summary>
    Float32 = 1,

    /// <summary>IEEE 754 binary64.</summary>
    Float64 = 2,

    /// <summary>IEEE 754 binary16.</summary>
    Float16 = 3,

    /// <summary>The upper half of a binary32.</summary>
    BFloat16 = 4,

    /// <summary>Unsigned 8-bit integer.</summary>
    UInt8 = 5,

    /// <summary>Signed 8-bit integer.</summary>
    Int8 = 6,

    /// <summary>Signed 16-bit integer.</summary>
    Int16 = 7,

    /// <summary>Signed 32-bit integer.</summary>
    Int32 = 8,

    /// <summary>Signed 64-bit integer.</summary>
    Int64 = 9,

    /// <summary>Boolean, one byte, 0 or 1.</summary>
    Bool = 10,

    /// <summary>Two binary32: real, imaginary.</summary>
    Complex64 = 11,

    /// <summary>Two binary64: real, imaginary.</summary>
    Complex128 = 12,
}

/// <summary>What an <see cref="ElementType"/> is to TorchSharp and to people.</summary>
public static class ElementTypes
{
    private static readonly (ElementType Type, ScalarType Scalar, int Size, string Name)[] Table =
    [
        (ElementType.None, default, 0, "none"),
        (ElementType.Float32, ScalarType.Float32, 4, "float32"),
        (ElementType.Float64, ScalarType.Float64, 8, "float64"),
        (ElementType.Float16, ScalarType.Float16, 2, "float16"),
        (ElementType.BFloat16, ScalarType.BFloat16, 2, "bfloat16"),
        (ElementType.UInt8, ScalarType.Byte, 1, "uint8"),
        (ElementType.Int8, ScalarType.Int8, 1, "int8"),
        (ElementType.Int16, ScalarType.Int16, 2, "int16"),
        (ElementType.Int32, ScalarType.Int32, 4, "int32"),
        (ElementType.Int64, ScalarType.Int64, 8, "int64"),
        (ElementType.Bool, ScalarType.Bool, 1, "bool"),
        (ElementType.Complex64, ScalarType.ComplexFloat32, 8, "complex64"),
        (ElementType.Complex128, ScalarType.ComplexFloat64, 16, "complex128"),
    ];

    /// <summary>Whether the value is one of the twelve types (not <see cref="ElementType.None"/>, not an unknown number).</summary>
    /// <param name="type">The value.</param>
    public static bool IsDefined(this ElementType type) => type > ElementType.None && (int)type < Table.Length;

    /// <summary>Bytes of one element.</summary>
    /// <param name="type">The type.</param>
    public static int Size(this ElementType type) => Table[(int)type].Size;

    /// <summary>PyTorch's name, e.g. <c>float32</c>; of an unknown value its number, since errors tell what was given.</summary>
    /// <param name="type">The type.</param>
    public static string Name(this ElementType type) => (uint)type < (uint)Table.Length ? Table[(int)type].Name : type.ToString("D");

    /// <summary>Whether it is float16, bfloat16, float32 or float64.</summary>
    /// <param name="type">The type.</param>
    public static bool IsFloatingPoint(this ElementType type) => type is >= ElementType.Float32 and <= ElementType.BFloat16;

    /// <summary>Whether it is complex64 or complex128.</summary>
    /// <param name="type">The type.</param>
    public static bool IsComplex(this ElementType type) => type is ElementType.Complex64 or ElementType.Complex128;

    /// <summary>TorchSharp's name for it.</summary>
    /// <param name="type">The type; not <see cref="ElementType.None"/>.</param>
    public static ScalarType ToScalarType(this ElementType type) => Table[(int)type].Scalar;

    /// <summary>The element type of a tensor.</summary>
    /// <param name="scalar">TorchSharp's name for it.</param>
    /// <exception cref="EngineException">The type has no place in the contract (quantized types, float8).</exception>
    public static ElementType ToElementType(this ScalarType scalar)
    {
        for (var i = 1; i < Table.Length; i++)
        {
            if (Table[i].Scalar == scalar)
            {
                return Table[i].Type;
            }
        }

        throw new EngineException(EngineError.Unimplemented, "DTYPE_UNSUPPORTED", $"a tensor of dtype {scalar} cannot be sent; convert it to one of the dtypes of the contract");
    }

    /// <summary>Parses PyTorch's name, with or without <c>torch.</c>, and PyTorch's aliases (float, double, half, long…).</summary>
    /// <param name="name">The name.</param>
    /// <param name="type">The type, where the name is known.</param>
    public static bool TryParse(string name, out ElementType type)
    {
        var bare = name.StartsWith("torch.", StringComparison.Ordinal) ? name["torch.".Length..] : name;
        bare = bare switch
        {
            "float" => "float32",
            "double" => "float64",
            "half" => "float16",
            "short" => "int16",
            "int" => "int32",
            "long" => "int64",
            "cfloat" => "complex64",
            "cdouble" => "complex128",
            _ => bare,
        };
        type = ElementType.None;
        for (var i = 1; i < Table.Length; i++)
        {
            if (Table[i].Name == bare)
            {
                type = Table[i].Type;
                return true;
            }
        }

        return false;
    }
}
