using Sconce.V1;

namespace Sconce.Client;

/// <summary>
/// What a module returned: one tensor, or a tuple of values in PyTorch's own structure (an LSTM gives <c>(output, (h_n, c_n))</c>).
/// </summary>
public sealed class RemoteValue
{
    private readonly TensorData? _tensor;
    private readonly RemoteValue[]? _items;

    internal RemoteValue(Value value, ulong generation)
    {
        Generation = generation;
        switch (value.KindCase)
        {
            case Value.KindOneofCase.Tensor:
                _tensor = TensorData.From(value.Tensor);
                break;
            case Value.KindOneofCase.Tuple:
                _items = new RemoteValue[value.Tuple.Items.Count];
                for (var i = 0; i < _items.Length; i++)
                    _items[i] = new RemoteValue(value.Tuple.Items[i], generation);
                break;
            default:
                throw new InvalidDataException("The server's answer holds neither a tensor nor a tuple: it speaks another contract.");
        }
    }

    /// <summary>Generation of the module that ran: it rises with every change of parameters, buffers or structure.</summary>
    public ulong Generation { get; }

    /// <summary>What hooks have to say; nothing on the items of a tuple. Where one stopped the call, this is <see cref="TensorData.None"/>.</summary>
    public HookResults Hooks { get; internal init; } = HookResults.Empty;

    /// <summary>Whether this is a tuple.</summary>
    public bool IsTuple => _items is not null;

    /// <summary>The tensor.</summary>
    /// <exception cref="InvalidOperationException">This is a tuple.</exception>
    public TensorData Tensor =>
        _tensor ?? throw new InvalidOperationException($"The module returned a tuple of {_items!.Length}: take an item, e.g. value[0].Tensor.");

    /// <summary>The items of a tuple.</summary>
    /// <exception cref="InvalidOperationException">This is one tensor.</exception>
    public IReadOnlyList<RemoteValue> Items =>
        _items ?? throw new InvalidOperationException("The module returned one tensor, not a tuple: use Tensor.");

    /// <summary>An item of a tuple.</summary>
    /// <param name="index">Its index.</param>
    public RemoteValue this[int index] => Items[index];

    /// <summary>The tensor of a value that is one.</summary>
    /// <param name="value">The value.</param>
    public static implicit operator TensorData(RemoteValue value)
    {
        ArgumentNullException.ThrowIfNull(value);
        return value.Tensor;
    }

    /// <summary>The tensor; the named form of the conversion operator.</summary>
    public TensorData ToTensorData() => Tensor;

    /// <summary>The elements of the tensor, without a copy.</summary>
    /// <typeparam name="T">The element's type.</typeparam>
    /// <exception cref="InvalidOperationException">This is a tuple, or the tensor holds other elements.</exception>
    public ReadOnlyMemory<T> As<T>()
        where T : unmanaged => Tensor.As<T>();

    /// <summary>All tensors in order, tuples flattened.</summary>
    public IEnumerable<TensorData> Flatten() => _items is null ? [_tensor!] : _items.SelectMany(item => item.Flatten());

    /// <summary>Types and shapes, e.g. "(float32[5, 1, 20], (float32[2, 1, 20], float32[2, 1, 20]))".</summary>
    public override string ToString() => _items is null ? _tensor!.ToString() : $"({string.Join(", ", (IEnumerable<RemoteValue>)_items)})";
}
