using System.Numerics;
using System.Runtime.InteropServices;
using Sconce.Client;
using Sconce.V1;

namespace Sconce.Cli.Running;

/// <summary>Elements of any dtype to and from double: for printing, for what people type, and for small sums. Not for bulk data.</summary>
internal static class TensorElements
{
    /// <exception cref="UsageException">A value does not fit the dtype.</exception>
    public static TensorData FromDoubles(DataType dtype, ReadOnlySpan<long> shape, IReadOnlyList<double> values) => dtype switch
    {
        DataType.Float32 => TensorData.FromBytes(dtype, shape, Bytes(values, value => (float)value)),
        DataType.Float64 => TensorData.FromBytes(dtype, shape, Bytes(values, value => value)),
        DataType.Float16 => TensorData.FromBytes(dtype, shape, Bytes(values, value => (Half)value)),
        DataType.Bfloat16 => TensorData.FromBytes(dtype, shape, Bytes(values, value => (Sconce.Client.BFloat16)(float)value)),
        DataType.Uint8 => TensorData.FromBytes(dtype, shape, Bytes(values, Whole<byte>)),
        DataType.Int8 => TensorData.FromBytes(dtype, shape, Bytes(values, Whole<sbyte>)),
        DataType.Int16 => TensorData.FromBytes(dtype, shape, Bytes(values, Whole<short>)),
        DataType.Int32 => TensorData.FromBytes(dtype, shape, Bytes(values, Whole<int>)),
        DataType.Int64 => TensorData.FromBytes(dtype, shape, Bytes(values, Whole<long>)),
        DataType.Bool => TensorData.FromBytes(dtype, shape, Bytes(values, value => value != 0)),
        DataType.Complex64 => TensorData.FromBytes(dtype, shape, Bytes(values, value => new Vector2((float)value, 0))),
        DataType.Complex128 => TensorData.FromBytes(dtype, shape, Bytes(values, value => new Complex(value, 0))),
        _ => throw new UsageException($"{dtype} is no dtype for values."),
    };

    public static TensorData FromWholes(ReadOnlySpan<long> shape, List<long> values) =>
        TensorData.FromBytes(DataType.Int64, shape, MemoryMarshal.AsBytes(CollectionsMarshal.AsSpan(values)).ToArray());

    /// <summary>One element: the real part of a complex one.</summary>
    public static double ToDouble(TensorData tensor, int index) => tensor.DType switch
    {
        DataType.Float32 => At<float>(tensor, index),
        DataType.Float64 => At<double>(tensor, index),
        DataType.Float16 => (double)At<Half>(tensor, index),
        DataType.Bfloat16 => At<Sconce.Client.BFloat16>(tensor, index),
        DataType.Uint8 or DataType.Bool => At<byte>(tensor, index),
        DataType.Int8 => At<sbyte>(tensor, index),
        DataType.Int16 => At<short>(tensor, index),
        DataType.Int32 => At<int>(tensor, index),
        DataType.Int64 => At<long>(tensor, index),
        DataType.Complex64 => At<Vector2>(tensor, index).X,
        DataType.Complex128 => At<Complex>(tensor, index).Real,
        _ => throw new InvalidOperationException($"{tensor} holds no elements here."),
    };

    /// <summary>The imaginary part of a complex element.</summary>
    public static double Imaginary(TensorData tensor, int index)
        => tensor.DType == DataType.Complex64 ? At<Vector2>(tensor, index).Y : At<Complex>(tensor, index).Imaginary;

    /// <exception cref="UsageException">It has a fraction, or does not fit.</exception>
    public static T Whole<T>(double value)
        where T : struct, INumber<T> => Whole<T, double>(value);

    /// <exception cref="UsageException">It has a fraction, or does not fit.</exception>
    public static T Whole<T>(decimal value)
        where T : struct, INumber<T> => Whole<T, decimal>(value);

    private static TTo Whole<TTo, TFrom>(TFrom value)
        where TTo : struct, INumber<TTo>
        where TFrom : struct, INumber<TFrom>
    {
        try
        {
            var whole = TTo.CreateChecked(value);
            return TFrom.CreateChecked(whole) == value ? whole : throw new UsageException($"{value} is not a whole number.");
        }
        catch (OverflowException e)
        {
            throw new UsageException($"{value} does not fit {DataTypes.NameOf(NameOf<TTo>())}.", e);
        }
    }

    private static byte[] Bytes<T>(IReadOnlyList<double> values, Func<double, T> convert)
        where T : unmanaged
    {
        var elements = new T[values.Count];
        for (var i = 0; i < elements.Length; i++)
            elements[i] = convert(values[i]);
        return MemoryMarshal.AsBytes<T>(elements).ToArray();
    }

    private static DataType NameOf<T>() => default(T) switch
    {
        byte => DataType.Uint8,
        sbyte => DataType.Int8,
        short => DataType.Int16,
        int => DataType.Int32,
        _ => DataType.Int64,
    };

    private static T At<T>(TensorData tensor, int index)
        where T : unmanaged
        => MemoryMarshal.Cast<byte, T>(tensor.Bytes.Span)[index];
}
