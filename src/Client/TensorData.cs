using System.Collections.Immutable;
using System.Numerics.Tensors;
using Google.Protobuf;
using Sconce.Client.Internal;
using Sconce.V1;

namespace Sconce.Client;

/// <summary>
/// A dense tensor on the wire: an element type, a shape and the elements in row-major order. It holds memory and computes nothing.
/// </summary>
/// <remarks>
/// Nothing is copied: a tensor made from an array shares that array (so leave it alone until the call has returned), and a tensor that
/// came from the server shares the message it came in.
/// </remarks>
public sealed class TensorData
{
    private TensorData(DataType dtype, ImmutableArray<long> shape, ReadOnlyMemory<byte> bytes, string? keptId)
    {
        DType = dtype;
        Shape = shape;
        Bytes = bytes;
        KeptId = keptId;
    }

    /// <summary>"No tensor", Python's None: for an input that may be left out and an output gradient that takes no part.</summary>
    public static TensorData None { get; } = new(DataType.Unspecified, [], default, null);

    /// <summary>Element type; unspecified for <see cref="None"/> and for a kept tensor whose type was not given.</summary>
    public DataType DType { get; }

    /// <summary>Sizes of the dimensions, outermost first; empty is a scalar.</summary>
    public ImmutableArray<long> Shape { get; }

    /// <summary>The elements: row-major, little-endian. Empty for a kept tensor.</summary>
    public ReadOnlyMemory<byte> Bytes { get; }

    /// <summary>Id of a tensor kept on the server that this refers to; null where the elements are here.</summary>
    public string? KeptId { get; }

    /// <summary>Whether this is "no tensor".</summary>
    public bool IsNone => DType == DataType.Unspecified && KeptId is null;

    /// <summary>Number of elements.</summary>
    public long Length
    {
        get
        {
            var length = 1L;
            foreach (var size in Shape)
                length *= size;
            return IsNone ? 0 : length;
        }
    }

    /// <summary>A tensor over <paramref name="elements"/>, which it shares.</summary>
    /// <typeparam name="T">The element's type: see <see cref="DataTypes.Of{T}"/>.</typeparam>
    /// <param name="elements">The elements in row-major order.</param>
    /// <param name="shape">
    /// Sizes of the dimensions; left out, the tensor has one dimension. For a scalar see <see cref="Scalar{T}"/>.
    /// </param>
    /// <exception cref="ArgumentException">The shape does not hold that many elements.</exception>
    public static TensorData Create<T>(ReadOnlyMemory<T> elements, params ReadOnlySpan<long> shape)
        where T : unmanaged =>
        FromBytes(DataTypes.Of<T>(), shape.IsEmpty ? [elements.Length] : shape, CastMemory.AsBytes(elements));

    /// <inheritdoc cref="Create{T}(ReadOnlyMemory{T}, ReadOnlySpan{long})"/>
    public static TensorData Create<T>(T[] elements, params ReadOnlySpan<long> shape)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(elements);
        return Create((ReadOnlyMemory<T>)elements, shape);
    }

    /// <summary>A tensor over the elements of <paramref name="tensor"/>, which it shares where that is dense.</summary>
    /// <typeparam name="T">The element's type: see <see cref="DataTypes.Of{T}"/>.</typeparam>
    /// <param name="tensor">The tensor.</param>
    public static TensorData Create<T>(Tensor<T> tensor)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(tensor);
        var shape = ImmutableArray.CreateBuilder<long>(tensor.Rank);
        foreach (var size in tensor.Lengths)
            shape.Add(size);
        return new TensorData(DataTypes.Of<T>(), shape.MoveToImmutable(), CastMemory.AsBytes(CastMemory.Of(tensor)), null);
    }

    /// <summary>A tensor of no dimensions.</summary>
    /// <typeparam name="T">The element's type: see <see cref="DataTypes.Of{T}"/>.</typeparam>
    /// <param name="value">Its one element.</param>
    public static TensorData Scalar<T>(T value)
        where T : unmanaged =>
        FromBytes(DataTypes.Of<T>(), [], CastMemory.AsBytes<T>(new[] { value }));

    /// <summary>A tensor over bytes, which it shares.</summary>
    /// <param name="dtype">Element type.</param>
    /// <param name="shape">Sizes of the dimensions; empty is a scalar.</param>
    /// <param name="bytes">The elements: row-major, little-endian, exactly as many bytes as type and shape say.</param>
    /// <exception cref="ArgumentException">The shape is negative or needs another number of bytes.</exception>
    public static TensorData FromBytes(DataType dtype, ReadOnlySpan<long> shape, ReadOnlyMemory<byte> bytes)
    {
        var expected = (Int128)DataTypes.SizeOf(dtype);
        foreach (var size in shape)
        {
            ArgumentOutOfRangeException.ThrowIfNegative(size, nameof(shape));
            expected *= size;
        }

        if (expected != bytes.Length)
        {
            throw new ArgumentException(
                $"A {DataTypes.NameOf(dtype)} tensor of shape [{string.Join(", ", shape.ToArray())}] has {expected} bytes, "
                + $"and {bytes.Length} were given.",
                nameof(bytes));
        }

        return new TensorData(dtype, [.. shape], bytes, null);
    }

    /// <summary>A reference to a tensor kept on the server (<see cref="SconceClient.PutTensorAsync"/>).</summary>
    /// <param name="id">Its id.</param>
    public static TensorData Kept(string id)
    {
        ArgumentException.ThrowIfNullOrEmpty(id);
        return new TensorData(DataType.Unspecified, [], default, id);
    }

    /// <summary>The elements, without a copy.</summary>
    /// <typeparam name="T">The element's type, that of <see cref="DType"/>.</typeparam>
    /// <exception cref="InvalidOperationException">The tensor holds other elements, or none here.</exception>
    public ReadOnlyMemory<T> As<T>()
        where T : unmanaged
    {
        if (KeptId is not null)
        {
            throw new InvalidOperationException(
                $"The elements of kept tensor '{KeptId}' are on the server: get them with SconceClient.GetTensorAsync.");
        }

        var asked = DataTypes.Of<T>();
        if (asked != DType)
            throw new InvalidOperationException($"The tensor is {this}: its elements are not {typeof(T).Name} ({DataTypes.NameOf(asked)}).");
        return CastMemory.Cast<byte, T>(Bytes);
    }

    /// <summary>The one element of a tensor that has one (PyTorch's item()).</summary>
    /// <typeparam name="T">The element's type, that of <see cref="DType"/>.</typeparam>
    /// <exception cref="InvalidOperationException">The tensor holds more or fewer than one element, or other elements.</exception>
    public T Item<T>()
        where T : unmanaged
    {
        var elements = As<T>().Span;
        return elements.Length == 1
            ? elements[0]
            : throw new InvalidOperationException($"The tensor is {this}: it has {elements.Length} elements, not one.");
    }

    /// <summary>
    /// The tensor as .NET's own tensor type. Copies the elements once, since that type can only wrap a T[]. It has no tensors without dimensions that
    /// hold an element, so a scalar becomes one of lengths [1].
    /// </summary>
    /// <typeparam name="T">The element's type, that of <see cref="DType"/>.</typeparam>
    /// <exception cref="InvalidOperationException">The tensor holds other elements, or none here.</exception>
    public Tensor<T> ToTensor<T>()
        where T : unmanaged
    {
        var elements = As<T>();
        Span<nint> lengths = stackalloc nint[Math.Max(Shape.Length, 1)];
        lengths[0] = 1;
        for (var i = 0; i < Shape.Length; i++)
            lengths[i] = checked((nint)Shape[i]);
        return System.Numerics.Tensors.Tensor.Create(elements.ToArray(), lengths);
    }

    /// <summary>The same elements in another shape, shared (PyTorch's reshape, without -1).</summary>
    /// <param name="shape">Sizes of the dimensions.</param>
    /// <exception cref="ArgumentException">The shape does not hold that many elements.</exception>
    public TensorData Reshape(params ReadOnlySpan<long> shape) => FromBytes(DType, shape, Bytes);

    /// <summary>Type and shape, e.g. "float32[32, 784]".</summary>
    public override string ToString()
    {
        if (IsNone)
            return "None";
        var type = DType == DataType.Unspecified ? "" : DataTypes.NameOf(DType);
        return KeptId is null ? $"{type}[{string.Join(", ", Shape)}]" : $"kept tensor '{KeptId}'";
    }

    internal static TensorData From(V1.Tensor tensor)
    {
        if (tensor.HasKeptId)
            return new TensorData(tensor.Dtype, [.. tensor.Shape], default, tensor.KeptId);
        return tensor.Dtype == DataType.Unspecified ? None : FromBytes(tensor.Dtype, [.. tensor.Shape], tensor.Data.Memory);
    }

    internal static TensorData KeptAs(KeptTensor kept) => new(kept.Dtype, [.. kept.Shape], default, kept.Id);

    internal V1.Tensor ToMessage()
    {
        var message = new V1.Tensor();
        if (KeptId is not null)
        {
            message.KeptId = KeptId;
            return message;
        }

        if (IsNone)
            return message;
        message.Dtype = DType;
        message.Shape.AddRange(Shape.AsSpan());
        message.Data = UnsafeByteOperations.UnsafeWrap(Bytes);
        return message;
    }
}
