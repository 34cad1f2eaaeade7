using System.Numerics;
using Sconce.V1;

namespace Sconce.Client;

/// <summary>What <see cref="DataType"/> says of .NET: element sizes, PyTorch's names and the .NET type of an element.</summary>
public static class DataTypes
{
    private static readonly (DataType DType, string Name, int Size)[] All =
    [
        (DataType.Float32, "float32", 4), (DataType.Float64, "float64", 8), (DataType.Float16, "float16", 2),
        (DataType.Bfloat16, "bfloat16", 2), (DataType.Uint8, "uint8", 1), (DataType.Int8, "int8", 1), (DataType.Int16, "int16", 2),
        (DataType.Int32, "int32", 4), (DataType.Int64, "int64", 8), (DataType.Bool, "bool", 1), (DataType.Complex64, "complex64", 8),
        (DataType.Complex128, "complex128", 16),
    ];

    /// <summary>The dtype whose elements are <typeparamref name="T"/>.</summary>
    /// <typeparam name="T">
    /// float, double, <see cref="Half"/>, <see cref="BFloat16"/>, byte, sbyte, short, int, long, bool, <see cref="Complex64"/> or
    /// <see cref="Complex"/>.
    /// </typeparam>
    /// <exception cref="NotSupportedException">No dtype has such elements.</exception>
    public static DataType Of<T>()
        where T : unmanaged
    {
        // The JIT folds these comparisons into a constant for each T.
        if (typeof(T) == typeof(float)) return DataType.Float32;
        if (typeof(T) == typeof(double)) return DataType.Float64;
        if (typeof(T) == typeof(Half)) return DataType.Float16;
        if (typeof(T) == typeof(BFloat16)) return DataType.Bfloat16;
        if (typeof(T) == typeof(byte)) return DataType.Uint8;
        if (typeof(T) == typeof(sbyte)) return DataType.Int8;
        if (typeof(T) == typeof(short)) return DataType.Int16;
        if (typeof(T) == typeof(int)) return DataType.Int32;
        if (typeof(T) == typeof(long)) return DataType.Int64;
        if (typeof(T) == typeof(bool)) return DataType.Bool;
        if (typeof(T) == typeof(Complex64)) return DataType.Complex64;
        if (typeof(T) == typeof(Complex)) return DataType.Complex128;
        throw new NotSupportedException(
            $"No tensor has elements of type {typeof(T)}. "
            + "Use float, double, Half, BFloat16, byte, sbyte, short, int, long, bool, Complex64 or Complex.");
    }

    /// <summary>Bytes of one element.</summary>
    /// <param name="dtype">The element type.</param>
    /// <exception cref="ArgumentOutOfRangeException">Not a dtype of the contract.</exception>
    public static int SizeOf(DataType dtype) => Find(dtype).Size;

    /// <summary>PyTorch's name, e.g. "float32".</summary>
    /// <param name="dtype">The element type.</param>
    /// <exception cref="ArgumentOutOfRangeException">Not a dtype of the contract.</exception>
    public static string NameOf(DataType dtype) => Find(dtype).Name;

    /// <summary>The dtype of a PyTorch name: "float32", "torch.float32", or one of PyTorch's aliases such as "half" and "long".</summary>
    /// <param name="name">The name.</param>
    /// <exception cref="FormatException">PyTorch has no such dtype, or Sconce does not serve it.</exception>
    public static DataType Parse(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        var plain = name.StartsWith("torch.", StringComparison.Ordinal) ? name["torch.".Length..] : name;
        var canonical = plain switch
        {
            "float" => "float32",
            "double" => "float64",
            "half" => "float16",
            "short" => "int16",
            "int" => "int32",
            "long" => "int64",
            "cfloat" => "complex64",
            "cdouble" => "complex128",
            _ => plain,
        };
        foreach (var entry in All)
        {
            if (entry.Name == canonical)
                return entry.DType;
        }

        throw new FormatException($"'{name}' is not a dtype; expected one of {string.Join(", ", All.Select(e => e.Name))}.");
    }

    private static (DataType DType, string Name, int Size) Find(DataType dtype)
    {
        foreach (var entry in All)
        {
            if (entry.DType == dtype)
                return entry;
        }

        throw new ArgumentOutOfRangeException(nameof(dtype), dtype, "Not an element type.");
    }
}
