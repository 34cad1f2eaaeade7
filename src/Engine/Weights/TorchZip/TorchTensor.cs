using Sconce.Engine.Tensors;

namespace Sconce.Engine.Weights.TorchZip;

/// <summary>A tensor of the state dict, checked against its storage, and that against its record.</summary>
/// <param name="Key">Its name.</param>
/// <param name="Record">Where its storage is.</param>
/// <param name="Type">Its element type.</param>
/// <param name="Offset">Index of its first element in the storage.</param>
/// <param name="Sizes">Sizes of its dimensions.</param>
/// <param name="Strides">Elements from one index to the next of each.</param>
/// <param name="Bytes">What it takes when it is dense.</param>
internal sealed record TorchTensor(string Key, ZipRecord Record, ElementType Type, long Offset, long[] Sizes, long[] Strides, long Bytes)
{
    /// <summary>Whether its elements follow one another in the storage, in order.</summary>
    public bool IsDense
    {
        get
        {
            var expected = 1L;
            for (var i = Sizes.Length - 1; i >= 0; i--)
            {
                // The stride of a dimension of one index is never used.
                if (Sizes[i] != 1 && Strides[i] != expected)
                {
                    return false;
                }

                expected *= Sizes[i];
            }

            return true;
        }
    }

    /// <summary>Checks what the pickle says.</summary>
    /// <param name="key">The tensor's name.</param>
    /// <param name="tensor">What the pickle says.</param>
    /// <param name="records">The archive's records.</param>
    /// <param name="folder">Where its records of storages are: the archive's folder and <c>data/</c>, as a rule.</param>
    /// <exception cref="EngineException">The tensor is not within its storage, or that is not its record; the tensor is named.</exception>
    public static TorchTensor Check(string key, PickledTensor tensor, IReadOnlyDictionary<string, ZipRecord> records, string folder)
    {
        var (storage, (sizes, strides, offset)) = (tensor.Storage, (tensor.Sizes, tensor.Strides, tensor.Offset));
        if (tensor.Type.Element == ElementType.None)
        {
            throw TorchZipErrors.Unimplemented("DTYPE_UNSUPPORTED", $"tensor {EngineException.Quote(key)} is of {tensor.Type.Name}, which this server does not have; convert it before it is saved");
        }

        if (tensor.Flag is { } flag)
        {
            throw TorchZipErrors.Unimplemented("LAZY_TENSOR", $"tensor {EngineException.Quote(key)} has the {flag} bit set: its bytes are not its values; save {EngineException.Quote(key)}.resolve_{flag}()");
        }

        var name = folder + storage.Key;
        if (!records.TryGetValue(name, out var record))
        {
            throw Wrong(key, $"has its elements in record {EngineException.Quote(name)}, which is missing");
        }

        var itemSize = tensor.Type.Element.Size();
        var unit = storage.Global.Kind == GlobalKind.UntypedStorage ? 1 : itemSize;
        if ((Int128)storage.Count * unit != record.Length)
        {
            throw Wrong(key, $"has a storage of {storage.Count:N0} elements of {unit} bytes; its record {EngineException.Quote(name)} has {record.Length:N0} bytes");
        }

        var bytes = TensorLayout.ByteLength(tensor.Type.Element, sizes, new FieldPath("", "tensors", Key: key));
        var elements = record.Length / itemSize;
        if (strides.Length != sizes.Length)
        {
            throw Wrong(key, $"has {sizes.Length} sizes and {strides.Length} strides");
        }

        Int128 last = offset;
        for (var i = 0; i < sizes.Length; i++)
        {
            if (strides[i] < 0)
            {
                throw Wrong(key, $"has a stride of {strides[i]}; PyTorch has none below 0");
            }

            // No sum overflows: at most 64 products of 126 bits would, so each is compared.
            last += bytes == 0 ? 0 : (Int128)(sizes[i] - 1) * strides[i];
            if (last >= Int128.Max(elements, 1))
            {
                break;
            }
        }

        return offset >= 0 && (bytes == 0 || last < elements) ? new TorchTensor(key, record, tensor.Type.Element, offset, sizes, strides, bytes)
            : throw Wrong(key, $"reaches beyond its storage: offset {offset:N0}, shape [{string.Join(", ", sizes)}], strides [{string.Join(", ", strides)}], and {elements:N0} elements in the storage");
    }

    private static EngineException Wrong(string key, string what) =>
        new(EngineError.InvalidArgument, "TENSOR_MALFORMED", $"tensor {EngineException.Quote(key)} of the PyTorch file {what}");
}
