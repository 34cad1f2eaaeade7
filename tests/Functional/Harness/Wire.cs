using System.Runtime.InteropServices;
using Google.Protobuf;
using Sconce.V1;

namespace Sconce.Functional.Harness;

/// <summary>Makes and reads the contract's tensors.</summary>
internal static class Wire
{
    /// <summary>A float32 tensor.</summary>
    public static Tensor Floats(long[] shape, params float[] values) => Of(DataType.Float32, shape, MemoryMarshal.AsBytes<float>(values));

    /// <summary>A float32 tensor of a repeating pattern between -1 and 1.</summary>
    public static Tensor Pattern(params long[] shape)
    {
        var values = new float[shape.Aggregate(1L, (a, b) => a * b)];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = (i * 37 % 201 / 100f) - 1;
        }

        return Floats(shape, values);
    }

    /// <summary>An int64 tensor.</summary>
    public static Tensor Longs(long[] shape, params long[] values) => Of(DataType.Int64, shape, MemoryMarshal.AsBytes<long>(values));

    /// <summary>A tensor of raw bytes.</summary>
    public static Tensor Of(DataType type, long[] shape, ReadOnlySpan<byte> bytes) => new() { Dtype = type, Shape = { shape }, Data = ByteString.CopyFrom(bytes) };

    /// <summary>A tensor kept on the server.</summary>
    public static Tensor Kept(string id) => new() { KeptId = id };

    /// <summary>The elements of a float32 tensor.</summary>
    public static float[] Floats(this Tensor tensor)
    {
        Assert.Equal(DataType.Float32, tensor.Dtype);
        return MemoryMarshal.Cast<byte, float>(tensor.Data.Span).ToArray();
    }

    /// <summary>The elements of what a Forward returned, where that is one float32 tensor.</summary>
    public static float[] Floats(this ForwardResponse response) => response.Output.Tensor.Floats();
}
