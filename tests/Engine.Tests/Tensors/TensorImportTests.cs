using CsCheck;
using Sconce.Engine.Tensors;
using static Sconce.Engine.Tests.Execution.Testing;

namespace Sconce.Engine.Tests.Tensors;

public sealed class TensorImportTests
{
    private static readonly FieldPath Field = new("", "inputs", 0);

    [Fact]
    public void Every_dtype_comes_back_bit_for_bit()
    {
        foreach (var type in Enum.GetValues<ElementType>().Where(type => type.IsDefined()))
        {
            var bytes = new byte[6 * type.Size()];
            new Random(7).NextBytes(bytes);
            if (type == ElementType.Bool)
            {
                bytes = [0, 1, 1, 0, 0, 1];
            }

            using var tensor = TensorImport.Import(new TensorPayload(type, [2, 3], bytes), Field);
            Assert.Equal(type.ToScalarType(), tensor.dtype);
            using var export = TensorExport.Take(tensor.alias());
            Assert.Equal(type, export.Type);
            Assert.Equal([2L, 3L], export.Shape);
            Assert.Equal(bytes, export.Data.ToArray());
        }
    }

    [Fact]
    public void NaN_payloads_infinities_and_empty_tensors_pass_through()
    {
        float[] values = [BitConverter.Int32BitsToSingle(0x7fc12345), float.NegativeInfinity, -0f];
        using var tensor = TensorImport.Import(Payload([3], values), Field);
        using var export = TensorExport.Take(tensor.alias());
        Assert.Equal(values.Select(BitConverter.SingleToInt32Bits), export.Values().Select(BitConverter.SingleToInt32Bits));
        using var empty = TensorImport.Import(Payload([2, 0, 3]), Field);
        using var none = TensorExport.Take(empty.alias());
        Assert.Equal([2L, 0L, 3L], none.Shape);
        Assert.True(none.Data.IsEmpty);
        using var scalar = TensorImport.Import(Payload([], 5), Field);
        Assert.Equal(5, scalar.item<float>());
    }

    [Theory]
    [InlineData(ElementType.Float32, new long[] { 2 }, 7, "inputs[0].data", "7 bytes", "takes 8")]
    [InlineData(ElementType.Float32, new long[] { 2 }, 9, "inputs[0].data", "9 bytes", "takes 8")]
    [InlineData(ElementType.Float32, new long[] { 2, -1 }, 8, "inputs[0].shape[1]", "is -1", ">= 0")]
    [InlineData(ElementType.Float64, new long[] { 1L << 31, 1L << 28, 2 }, 8, "inputs[0].shape[2]", "2^63")]
    [InlineData(ElementType.Float64, new long[] { 0, long.MaxValue, 3 }, 0, "inputs[0].shape[1]", "2^63")]
    [InlineData((ElementType)13, new long[] { 1 }, 4, "inputs[0].dtype", "13")]
    [InlineData((ElementType)(-1), new long[] { 1 }, 4, "inputs[0].dtype", "-1")]
    [InlineData(ElementType.None, new long[] { 1 }, 4, "inputs[0].dtype", "not given")]
    public void A_malformed_tensor_is_named_with_what_was_expected(ElementType type, long[] shape, int bytes, string field, params string[] words)
    {
        var error = Fails(() => TensorImport.Import(new TensorPayload(type, shape, new byte[bytes]), Field), EngineError.InvalidArgument, words);
        Assert.Equal(field, Assert.Single(error.Fields).Field);
    }

    [Fact]
    public void More_than_64_dimensions_are_refused_and_64_are_not()
    {
        long[] ones = [.. Enumerable.Repeat(1L, 65)];
        Fails(() => TensorImport.Import(Payload(ones, 1), Field), EngineError.InvalidArgument, "65 dimensions", "64");
        using var tensor = TensorImport.Import(Payload(ones[1..], 1), Field);
        Assert.Equal(64, tensor.dim());
    }

    [Fact]
    public void A_bool_that_is_neither_0_nor_1_is_refused()
    {
        var error = Fails(() => TensorImport.Import(new TensorPayload(ElementType.Bool, [3], new byte[] { 0, 1, 2 }), Field), EngineError.InvalidArgument, "2 at byte 2");
        Assert.Equal("inputs[0].data", Assert.Single(error.Fields).Field);
    }

    [Fact]
    public void Field_paths_name_lists_keys_and_prefixes()
    {
        Assert.Equal("forward.inputs[2]", new FieldPath("forward.", "inputs", 2).ToString());
        Assert.Equal("inputs[\"a\\\"b\"].shape[0]", new FieldPath("", "inputs", Key: "a\"b").Child("shape[0]"));
        Assert.Equal("tensor", new FieldPath("", "tensor").ToString());
    }

    [Fact]
    public void A_large_tensor_shares_the_memory_it_was_given_unless_told_not_to()
    {
        var memory = new byte[NativeTensors.ShareFrom];
        var payload = new TensorPayload(ElementType.UInt8, [memory.Length], memory);
        using var shared = TensorImport.Import(payload, Field);
        using var copied = TensorImport.Import(payload, Field, mayShare: false);
        memory[5] = 9;
        using var one = shared[5];
        using var other = copied[5];
        Assert.Equal((9, 0), (one.item<byte>(), other.item<byte>()));
    }

    [Fact]
    public void Memory_that_is_not_aligned_for_its_dtype_is_copied()
    {
        var memory = new byte[NativeTensors.ShareFrom + 1];
        using var tensor = TensorImport.Import(new TensorPayload(ElementType.Float64, [NativeTensors.ShareFrom / 8], memory.AsMemory(1)), Field);
        memory.AsSpan().Fill(1);
        using var sum = tensor.sum();
        Assert.Equal(0, sum.item<double>());
    }

    [Fact]
    public void Views_are_exported_dense_and_conjugates_as_they_look()
    {
        using var tensor = TensorImport.Import(Payload([2, 3], 1, 2, 3, 4, 5, 6), Field);
        using var transposed = TensorExport.Take(tensor.t());
        Assert.Equal([3L, 2L], transposed.Shape);
        Assert.Equal([1f, 4f, 2f, 5f, 3f, 6f], transposed.Values());
        var complex = new TensorPayload(ElementType.Complex64, [1], Payload([2], 3, 4).Data);
        using var number = TensorImport.Import(complex, Field);
        using var conjugate = TensorExport.Take(number.conj());
        Assert.Equal([3f, -4f], conjugate.Values());
    }

    [Fact]
    public void An_export_cannot_be_read_after_it_is_disposed()
    {
        var export = TensorExport.Take(TensorImport.Import(Payload([2], 1, 2), Field));
        var data = export.Data;
        Assert.Equal([1f], System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(export.Slice(0, 4).Span).ToArray());
        Assert.Throws<ArgumentOutOfRangeException>(() => export.Slice(4, 5));
        export.Dispose();
        export.Dispose();
        Assert.Throws<ObjectDisposedException>(() => data.Span.Length);
    }

    [Fact]
    public void Byte_length_is_the_product_or_an_error_whatever_the_shape() =>
        Gen.Long[-3, 1L << 40].Array[0, 5].Select(Gen.Int[1, 12]).Sample((shape, number) =>
        {
            var type = (ElementType)number;
            System.Numerics.BigInteger product = type.Size(), padded = type.Size();
            foreach (var size in shape)
            {
                product *= size;
                padded *= Math.Max(size, 1);
            }

            var fits = shape.All(size => size >= 0) && padded <= long.MaxValue;
            try
            {
                return TensorLayout.ByteLength(type, shape, Field) == product && fits;
            }
            catch (EngineException exception)
            {
                return !fits && exception.Fields.Count == 1;
            }
        });
}
