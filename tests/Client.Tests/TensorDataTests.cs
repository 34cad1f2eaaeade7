using System.Numerics;
using System.Runtime.InteropServices;
using Sconce.V1;
using Tensor = System.Numerics.Tensors.Tensor;

namespace Sconce.Client.Tests;

public sealed class TensorDataTests
{
    [Fact]
    public void Create_array_sharesIt()
    {
        var array = new[] { 1f, 2f, 3f };
        var tensor = TensorData.Create(array, 3);

        array[1] = 7;

        Assert.Equal([1f, 7f, 3f], MemoryMarshal.Cast<byte, float>(tensor.Bytes.Span).ToArray());
    }

    [Fact]
    public void As_tensorMadeFromAnArray_isThatArray()
    {
        var array = new long[] { 1, 2, 3, 4 };

        Assert.True(MemoryMarshal.TryGetArray(TensorData.Create(array, 2, 2).As<long>(), out var segment));

        Assert.Same(array, segment.Array);
    }

    [Fact]
    public void As_sliceOfMemory_isThatSlice()
    {
        var array = new double[] { 0, 1, 2, 3, 4 };

        Assert.True(MemoryMarshal.TryGetArray(TensorData.Create<double>(array.AsMemory(1, 3), 3).As<double>(), out var segment));

        Assert.Same(array, segment.Array);
        Assert.Equal((1, 3), (segment.Offset, segment.Count));
    }

    [Fact]
    public void ToMessage_array_isWrappedNotCopied()
    {
        var array = new byte[] { 1, 2, 3 };

        var message = TensorData.Create(array).ToMessage();

        Assert.True(MemoryMarshal.TryGetArray(message.Data.Memory, out var segment));
        Assert.Same(array, segment.Array);
    }

    [Fact]
    public void From_message_sharesItsBytes()
    {
        var message = Fakes.Tensor(1, 2);

        var tensor = TensorData.From(message);

        Assert.True(MemoryMarshal.TryGetArray(message.Data.Memory, out var expected));
        Assert.True(MemoryMarshal.TryGetArray(tensor.Bytes, out var actual));
        Assert.Same(expected.Array, actual.Array);
        Assert.Equal([1f, 2f], tensor.As<float>().ToArray());
    }

    [Fact]
    public void Create_denseTensor_sharesItsElements()
    {
        var source = Tensor.Create([1f, 2f, 3f, 4f, 5f, 6f], [2, 3]);
        var tensor = TensorData.Create(source);

        source[1, 2] = 60;

        Assert.Equal([2L, 3L], tensor.Shape);
        Assert.Equal(60, tensor.As<float>().Span[5]);
    }

    [Fact]
    public void Create_stridedTensor_takesItsElementsInRowMajorOrder()
    {
        var transposed = Tensor.PermuteDimensions(Tensor.Create([1f, 2f, 3f, 4f, 5f, 6f], [2, 3]), [1, 0]);
        var sliced = Tensor.Create([1f, 2f, 3f, 4f, 5f, 6f], [2, 3]).Slice(System.Buffers.NRange.All, new System.Buffers.NRange(1, 3));

        Assert.Equal([1f, 4f, 2f, 5f, 3f, 6f], TensorData.Create(transposed).As<float>().ToArray());
        Assert.Equal([2f, 3f, 5f, 6f], TensorData.Create(sliced).As<float>().ToArray());
    }

    [Fact]
    public void Create_tensorCastBackAndForth_survivesCollections()
    {
        var tensor = TensorData.Create(Tensor.Create(Enumerable.Range(0, 1000).ToArray(), [1000]));
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();

        using var pinned = tensor.Bytes[4..].Pin();
        unsafe
        {
            Assert.Equal(1, *(int*)pinned.Pointer);
        }

        Assert.Equal(Enumerable.Range(0, 1000), tensor.As<int>().ToArray());
    }

    [Fact]
    public void ToTensor_matrix_hasShapeAndElements()
    {
        var tensor = TensorData.Create([1, 2, 3, 4, 5, 6], 2, 3).ToTensor<int>();

        Assert.Equal([2, 3], tensor.Lengths.ToArray());
        Assert.Equal(6, tensor[1, 2]);
    }

    [Fact]
    public void ToTensor_scalar_keepsItsValueInOneDimension()
    {
        var tensor = TensorData.Scalar(2.5f).ToTensor<float>();

        Assert.Equal([1], tensor.Lengths.ToArray());
        Assert.Equal(2.5f, tensor[0]);
        Assert.Equal([0, 3], TensorData.Create(Array.Empty<float>(), 0, 3).ToTensor<float>().Lengths.ToArray());
    }

    [Fact]
    public void Scalar_value_hasNoDimensions()
    {
        var tensor = TensorData.Scalar(2.5);

        Assert.Empty(tensor.Shape);
        Assert.Equal((1L, 2.5), (tensor.Length, tensor.Item<double>()));
        Assert.Equal("float64[]", tensor.ToString());
    }

    [Fact]
    public void Create_zeroSize_isLegal()
    {
        var tensor = TensorData.Create(Array.Empty<float>(), 0, 4);

        Assert.Equal([0L, 4L], tensor.Shape);
        var message = tensor.ToMessage();
        Assert.True(message.HasData);
        Assert.Equal(0, TensorData.From(message).As<float>().Length);
    }

    [Theory]
    [InlineData(new long[] { 2, 2 }, "A float32 tensor of shape [2, 2] has 16 bytes, and 12 were given.")]
    [InlineData(new long[] { 3_000_000_000, 3_000_000_000, 3_000_000_000 }, "has 108000000000000000000000000000 bytes")]
    public void Create_shapeThatDoesNotFit_namesBothSizes(long[] shape, string expected)
    {
        var error = Assert.Throws<ArgumentException>(() => TensorData.Create([1f, 2f, 3f], shape));

        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Create_negativeDimension_isRefused() => Assert.Throws<ArgumentOutOfRangeException>(() => TensorData.Create([1f], -1, -1));

    [Fact]
    public void As_otherType_namesBoth()
    {
        var error = Assert.Throws<InvalidOperationException>(() => TensorData.Create([1f], 1).As<long>());

        Assert.Contains("float32[1]", error.Message, StringComparison.Ordinal);
        Assert.Contains("int64", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void As_keptTensor_saysWhereTheElementsAre()
    {
        var error = Assert.Throws<InvalidOperationException>(() => TensorData.Kept("weights").As<float>());

        Assert.Contains("GetTensorAsync", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ToMessage_none_isAnEmptyMessage() => Assert.Equal(new V1.Tensor(), TensorData.None.ToMessage());

    [Fact]
    public void Create_everyElementType_keepsItsBits()
    {
        Check(DataType.Float32, 1.5f, float.NaN);
        Check(DataType.Float64, 1.5, double.NegativeInfinity);
        Check(DataType.Float16, (Half)1.5, Half.Epsilon);
        Check(DataType.Bfloat16, (BFloat16)1.5f, new BFloat16(1));
        Check(DataType.Uint8, (byte)1, (byte)255);
        Check(DataType.Int8, (sbyte)1, (sbyte)-128);
        Check(DataType.Int16, (short)1, (short)-32768);
        Check(DataType.Int32, 1, int.MinValue);
        Check(DataType.Int64, 1L, long.MinValue);
        Check(DataType.Bool, true, false);
        Check(DataType.Complex64, new Complex64(1, 2), new Complex64(3, 4));
        Check(DataType.Complex128, new Complex(1, 2), new Complex(3, 4));

        static void Check<T>(DataType dtype, T first, T second)
            where T : unmanaged
        {
            var tensor = TensorData.From(TensorData.Create(new[] { first, second }).ToMessage());
            Assert.Equal(dtype, tensor.DType);
            Assert.Equal(DataTypes.SizeOf(dtype) * 2, tensor.Bytes.Length);
            Assert.Equal([first, second], tensor.As<T>().ToArray());
        }
    }
}
