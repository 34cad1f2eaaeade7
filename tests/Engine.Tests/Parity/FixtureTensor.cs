using System.Text.Json;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Parity;

/// <summary>A tensor of a fixture.</summary>
/// <param name="Type">Its dtype.</param>
/// <param name="Shape">Its shape.</param>
/// <param name="Data">Its elements, row-major, little-endian.</param>
internal sealed record FixtureTensor(ElementType Type, long[] Shape, byte[] Data)
{
    public static FixtureTensor Read(JsonElement json)
    {
        Assert.True(ElementTypes.TryParse(json.GetProperty("dtype").GetString()!, out var type));
        return new(type, json.GetProperty("shape").Deserialize<long[]>()!, json.GetProperty("data").GetBytesFromBase64());
    }

    public static FixtureTensor? ReadOrNull(JsonElement json) => json.ValueKind == JsonValueKind.Null ? null : Read(json);

    /// <summary>A tree of tensors as PyTorch's Python values: a tensor, None, or a tuple of such.</summary>
    public static TensorTree ReadTree(JsonElement json, Func<FixtureTensor, Tensor> make) => json.ValueKind switch
    {
        JsonValueKind.Null => TensorTree.None,
        JsonValueKind.Array => TensorTree.Tuple([.. json.EnumerateArray().Select(item => ReadTree(item, make))]),
        _ => TensorTree.Of(make(Read(json))),
    };

    /// <summary>A new tensor of the current dispose scope.</summary>
    public Tensor ToTensor()
    {
        var tensor = empty(Shape, dtype: Type.ToScalarType());
        if (Data.Length > 0)
        {
            tensor.bytes = Data;
        }

        return tensor;
    }

    /// <summary>The same, floating elements in another dtype.</summary>
    public Tensor ToTensor(ElementType floatType) => Type.IsFloatingPoint() ? ToTensor().to_type(floatType.ToScalarType()) : ToTensor();
}
