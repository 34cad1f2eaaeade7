using System.Buffers;
using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Weights.TorchZip;

/// <summary>A tensor as it is written: a view of a storage.</summary>
/// <param name="Key">Its name.</param>
/// <param name="Storage">Index of its storage.</param>
/// <param name="Offset">Index of its first element there.</param>
/// <param name="Sizes">Sizes of its dimensions.</param>
/// <param name="Strides">Elements from one index to the next of each.</param>
internal sealed record WrittenTensor(string Key, int Storage, long Offset, long[] Sizes, long[] Strides);

/// <summary>
/// Writes the pickle of a state dict, byte for byte as <c>torch.save</c> of an <c>OrderedDict</c> of tensors does: what reads PyTorch's own files by its
/// narrowest rules (<c>weights_only=True</c> among it) reads these.
/// </summary>
internal sealed class StatePickle
{
    // Python's pickler sets so many items at once.
    private const int Batch = 1_000;

    private readonly ArrayBufferWriter<byte> _bytes = new();
    private readonly Dictionary<string, int> _places = new(StringComparer.Ordinal);
    private int _memo;

    private StatePickle()
    {
    }

    /// <summary>The pickle.</summary>
    /// <param name="tensors">The tensors, in order.</param>
    /// <param name="storages">Type and number of elements of each storage.</param>
    public static byte[] Write(IReadOnlyList<WrittenTensor> tensors, IReadOnlyList<(ElementType Type, long Count)> storages)
    {
        var pickle = new StatePickle();
        pickle.Raw([0x80, 2]);
        pickle.EmptyOrderedDict();
        for (var from = 0; from < tensors.Count; from += Batch)
        {
            var count = Math.Min(Batch, tensors.Count - from);
            if (count > 1)
            {
                pickle.Op('(');
            }

            for (var i = from; i < from + count; i++)
            {
                pickle.Text(tensors[i].Key);
                pickle.Put();
                pickle.Tensor(tensors[i], storages[tensors[i].Storage]);
            }

            pickle.Op(count > 1 ? 'u' : 's');
        }

        pickle.Op('.');
        return pickle._bytes.WrittenSpan.ToArray();
    }

    private void Tensor(WrittenTensor tensor, (ElementType Type, long Count) storage)
    {
        Global("torch._utils", "_rebuild_tensor_v2");
        Op('(');
        Op('(');
        Known("storage");
        Global("torch", StorageName(storage.Type));
        Known(tensor.Storage.ToString(CultureInfo.InvariantCulture));
        Known("cpu");
        Int(storage.Count);
        Op('t');
        Put();
        Op('Q');
        Int(tensor.Offset);
        Ints(tensor.Sizes);
        Ints(tensor.Strides);
        Raw([0x89]);
        EmptyOrderedDict();
        Op('t');
        Put();
        Op('R');
        Put();
    }

    private void EmptyOrderedDict()
    {
        Global("collections", "OrderedDict");
        Op(')');
        Op('R');
        Put();
    }

    private void Ints(long[] values)
    {
        if (values.Length > 3)
        {
            Op('(');
        }

        foreach (var value in values)
        {
            Int(value);
        }

        if (values.Length == 0)
        {
            Op(')');
            return;
        }

        Raw([values.Length > 3 ? (byte)'t' : (byte)(0x84 + values.Length)]);
        Put();
    }

    private void Int(long value)
    {
        Span<byte> bytes = stackalloc byte[sizeof(long)];
        BinaryPrimitives.WriteInt64LittleEndian(bytes, value);
        switch (value)
        {
            case <= byte.MaxValue:
                Op('K');
                Raw(bytes[..1]);
                break;
            case <= ushort.MaxValue:
                Op('M');
                Raw(bytes[..2]);
                break;
            case <= int.MaxValue:
                Op('J');
                Raw(bytes[..4]);
                break;
            default:
                // As few bytes as leave the sign bit clear; no number here is below 0.
                var length = (64 - (int)long.LeadingZeroCount(value) + 8) / 8;
                Raw([0x8a, (byte)length]);
                Raw(bytes[..length]);
                break;
        }
    }

    // A string that is written once and referred to afterwards. No global can have the name of one: those have a space.
    private void Known(string text)
    {
        if (!Get(text))
        {
            Text(text);
            Remember(text);
        }
    }

    private void Global(string module, string name)
    {
        var known = $"{module} {name}";
        if (!Get(known))
        {
            Op('c');
            Raw(Encoding.ASCII.GetBytes($"{module}\n{name}\n"));
            Remember(known);
        }
    }

    private void Text(string text)
    {
        var utf8 = Encoding.UTF8.GetBytes(text);
        Op('X');
        Number(utf8.Length);
        Raw(utf8);
    }

    private void Remember(string known)
    {
        _places.Add(known, _memo);
        Put();
    }

    private bool Get(string known)
    {
        if (!_places.TryGetValue(known, out var place))
        {
            return false;
        }

        Place(place, 'h', 'j');
        return true;
    }

    private void Put() => Place(_memo++, 'q', 'r');

    private void Place(int place, char small, char large)
    {
        if (place <= byte.MaxValue)
        {
            Op(small);
            Raw([(byte)place]);
        }
        else
        {
            Op(large);
            Number(place);
        }
    }

    private void Number(int value)
    {
        Span<byte> bytes = stackalloc byte[sizeof(int)];
        BinaryPrimitives.WriteInt32LittleEndian(bytes, value);
        Raw(bytes);
    }

    private void Op(char opcode) => Raw([(byte)opcode]);

    private void Raw(ReadOnlySpan<byte> bytes) => _bytes.Write(bytes);

    private static string StorageName(ElementType type) => type switch
    {
        ElementType.Float32 => "FloatStorage",
        ElementType.Float64 => "DoubleStorage",
        ElementType.Float16 => "HalfStorage",
        ElementType.BFloat16 => "BFloat16Storage",
        ElementType.UInt8 => "ByteStorage",
        ElementType.Int8 => "CharStorage",
        ElementType.Int16 => "ShortStorage",
        ElementType.Int32 => "IntStorage",
        ElementType.Int64 => "LongStorage",
        ElementType.Bool => "BoolStorage",
        ElementType.Complex64 => "ComplexFloatStorage",
        _ => "ComplexDoubleStorage",
    };
}
