namespace Sconce.Engine.Weights.TorchZip;

/// <summary>What the globals of the allow-list make of their arguments: descriptions of tensors, never tensors.</summary>
internal static class PickleBuilder
{
    /// <summary>A storage, as <c>torch.save</c>'s persistent ids name one: <c>('storage', class, key, location, number of elements)</c>.</summary>
    /// <param name="id">The id.</param>
    /// <param name="at">Byte of the opcode.</param>
    public static PickledStorage Storage(in PickleValue id, int at)
    {
        // Where the storage was does not matter: it is read into host memory.
        if (id.Items is not [{ Text: "storage" }, { Object: PickleGlobal { Kind: GlobalKind.Storage or GlobalKind.UntypedStorage } type }, { Text: { } key }, { Text: not null }, { Kind: PickleKind.Int } count])
        {
            throw PickleErrors.Refused(at, "opcode BINPERSID of something else than ('storage', a storage class, key, location, number of elements)");
        }

        return count.Number >= 0 ? new PickledStorage(key, type, count.Number)
            : throw PickleErrors.Malformed(at, $"storage {EngineException.Quote(key)} has {count.Number:N0} elements");
    }

    /// <summary>Calls a global.</summary>
    /// <param name="global">It.</param>
    /// <param name="arguments">Its arguments.</param>
    /// <param name="at">Byte of the opcode.</param>
    public static PickleValue Reduce(PickleGlobal global, IReadOnlyList<PickleValue> arguments, int at) => global.Kind switch
    {
        GlobalKind.OrderedDict when arguments.Count == 0 => new PickleValue(PickleKind.Dict, Object: new PickleDict(isOrdered: true)),
        GlobalKind.Size when arguments is [{ Kind: PickleKind.Tuple } sizes] => sizes,
        GlobalKind.Tensor when arguments.Count is 6 or 7 => Tensor(global, arguments, at),
        GlobalKind.TensorWithType when arguments.Count is 7 or 8 => Tensor(global, arguments, at),

        // What requires a gradient is the module's matter, and attributes of a parameter nobody's.
        GlobalKind.Parameter when arguments is [{ Kind: PickleKind.Tensor } data, { Kind: PickleKind.Bool }, var hooks] && IsEmpty(hooks) => data,
        GlobalKind.ParameterWithState when arguments is [{ Kind: PickleKind.Tensor } data, { Kind: PickleKind.Bool }, var hooks, _] && IsEmpty(hooks) => data,
        GlobalKind.Storage or GlobalKind.UntypedStorage or GlobalKind.Type => throw PickleErrors.Refused(at, $"opcode REDUCE of {global.Name}"),
        _ => throw Arguments(global, at),
    };

    // storage, storage_offset, size, stride, requires_grad, backward_hooks; the type where the storage has none; what else is set of it.
    private static PickleValue Tensor(PickleGlobal global, IReadOnlyList<PickleValue> arguments, int at)
    {
        if (arguments is not [{ Object: PickledStorage storage }, { Kind: PickleKind.Int } offset, { Items: { } sizes }, { Items: { } strides }, { Kind: PickleKind.Bool }, var hooks, ..]
            || !IsEmpty(hooks))
        {
            throw Arguments(global, at);
        }

        var type = storage.Global;
        var next = 6;
        if (global.Kind == GlobalKind.TensorWithType)
        {
            type = arguments[next++].Object is PickleGlobal { Kind: GlobalKind.Type } given ? given : throw Arguments(global, at);
        }
        else if (type.Kind != GlobalKind.Storage)
        {
            throw PickleErrors.Malformed(at, $"{global.Name} is called with an untyped storage");
        }

        var flag = next < arguments.Count ? Flag(arguments[next], global, at) : null;
        return new PickleValue(PickleKind.Tensor, Object: new PickledTensor(storage, type, offset.Number, Numbers(sizes, "size", at), Numbers(strides, "stride", at), flag));
    }

    private static string? Flag(in PickleValue metadata, PickleGlobal global, int at)
    {
        if (metadata.Kind == PickleKind.None)
        {
            return null;
        }

        foreach (var (key, value) in (metadata.Dict ?? throw Arguments(global, at)).Entries)
        {
            if (key.Text is not ("conj" or "neg") || value.Kind != PickleKind.Bool)
            {
                throw PickleErrors.Refused(at, $"a tensor with {(key.Text is { } name ? EngineException.Quote(name) : key.Described)} in its metadata");
            }

            if (value.Number != 0)
            {
                return key.Text;
            }
        }

        return null;
    }

    private static long[] Numbers(IReadOnlyList<PickleValue> values, string what, int at)
    {
        var numbers = new long[values.Count];
        for (var i = 0; i < numbers.Length; i++)
        {
            numbers[i] = values[i].Kind == PickleKind.Int ? values[i].Number : throw PickleErrors.Malformed(at, $"a tensor's {what} holds {values[i].Described}; it must be ints of at most 64 bits");
        }

        return numbers;
    }

    // Hooks are code: PyTorch saves them never, and always says so by an empty dict.
    private static bool IsEmpty(in PickleValue hooks) => hooks.Kind == PickleKind.None || hooks.Dict is { Entries.Count: 0 };

    private static EngineException Arguments(PickleGlobal global, int at) => PickleErrors.Malformed(at, $"{global.Name} is called with arguments that PyTorch does not give it");
}
