using Sconce.Engine.Tensors;

namespace Sconce.Engine.Weights.TorchZip;

/// <summary>What a value of a pickle is.</summary>
internal enum PickleKind : byte
{
    None,
    Bool,
    Int,

    /// <summary>An int of more than 64 bits, whose value nobody asks for.</summary>
    LargeInt,
    Float,
    String,
    Tuple,
    List,
    Dict,
    Global,
    Storage,
    Tensor,

    /// <summary>An object of a class; of TorchScript only.</summary>
    Object,
}

/// <summary>A value of a pickle. Numbers take no object: a file may hold millions.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Number">Of a bool or an int, its value.</param>
/// <param name="Object">Of a string, a container, a global, a storage or a tensor, that.</param>
internal readonly record struct PickleValue(PickleKind Kind, long Number = 0, object? Object = null)
{
    /// <summary>How Python calls it, with an article.</summary>
    public string Described => Kind switch
    {
        PickleKind.None => "None",
        PickleKind.Bool => "a bool",
        PickleKind.Int or PickleKind.LargeInt => "an int",
        PickleKind.Float => "a float",
        PickleKind.String => "a str",
        PickleKind.Tuple => "a tuple",
        PickleKind.List => "a list",
        PickleKind.Dict => "a dict",
        PickleKind.Global => ((PickleGlobal)Object!).Name,
        PickleKind.Storage => "a storage",
        PickleKind.Object => "an object",
        _ => "a tensor",
    };

    /// <summary>Containers within it and itself; 0 for what contains nothing.</summary>
    public int Depth => Object is PickleContainer container ? container.Depth : 0;

    /// <summary>Its text, where it is a string.</summary>
    public string? Text => Kind == PickleKind.String ? (string)Object! : null;

    /// <summary>Its items, where it is a tuple.</summary>
    public IReadOnlyList<PickleValue>? Items => Kind == PickleKind.Tuple ? ((PickleTuple)Object!).Values : null;

    /// <summary>It, where it is a dict.</summary>
    public PickleDict? Dict => Kind == PickleKind.Dict ? (PickleDict)Object! : null;

    /// <summary>It, where it is a tensor.</summary>
    public PickledTensor? Tensor => Kind == PickleKind.Tensor ? (PickledTensor)Object! : null;
}

/// <summary>A value that holds others.</summary>
internal abstract class PickleContainer
{
    /// <summary>Containers within it and itself, as they were when each was put in.</summary>
    public int Depth { get; protected set; } = 1;
}

/// <summary>A tuple, or a <c>torch.Size</c>.</summary>
internal sealed class PickleTuple : PickleContainer
{
    /// <summary>Makes one.</summary>
    /// <param name="values">Its items; kept.</param>
    public PickleTuple(PickleValue[] values)
    {
        Values = values;
        foreach (var value in values)
        {
            Depth = Math.Max(Depth, value.Depth + 1);
        }
    }

    /// <summary>Its items.</summary>
    public IReadOnlyList<PickleValue> Values { get; }
}

/// <summary>A list. Nothing that a state dict needs is in one, so that its items are only counted.</summary>
internal sealed class PickleList : PickleContainer
{
    /// <summary>Adds an item.</summary>
    public void Add(in PickleValue value) => Depth = Math.Max(Depth, value.Depth + 1);
}

/// <summary>A dict or an <c>OrderedDict</c>.</summary>
/// <param name="isOrdered">Whether it is an <c>OrderedDict</c>.</param>
internal sealed class PickleDict(bool isOrdered) : PickleContainer
{
    private readonly List<(PickleValue Key, PickleValue Value)> _entries = [];

    /// <summary>Whether it is an <c>OrderedDict</c>.</summary>
    public bool IsOrdered => isOrdered;

    /// <summary>What was put in, in order; a key may be there twice.</summary>
    public IReadOnlyList<(PickleValue Key, PickleValue Value)> Entries => _entries;

    /// <summary>Whether it is one key with a tensor for each, and at least one.</summary>
    public bool IsState => _entries.Count > 0 && _entries.TrueForAll(entry => entry.Key.Kind == PickleKind.String && entry.Value.Kind == PickleKind.Tensor);

    /// <summary>Adds an entry.</summary>
    public void Add(in PickleValue key, in PickleValue value)
    {
        _entries.Add((key, value));
        Depth = Math.Max(Depth, Math.Max(key.Depth, value.Depth) + 1);
    }
}

/// <summary>A storage: a record's bytes, as elements of one type.</summary>
/// <param name="Key">Its key; the record is <c>data/</c> and that.</param>
/// <param name="Global">Its class.</param>
/// <param name="Count">How many elements it is said to have.</param>
internal sealed record PickledStorage(string Key, PickleGlobal Global, long Count);

/// <summary>A tensor as the pickle describes it. Its numbers are checked when it is chosen, so that errors can tell its name.</summary>
/// <param name="Storage">Where its elements are.</param>
/// <param name="Type">Its element type, by the global that says it.</param>
/// <param name="Offset">Index of its first element in the storage.</param>
/// <param name="Sizes">Sizes of its dimensions.</param>
/// <param name="Strides">Elements from one index to the next of each.</param>
/// <param name="Flag">The lazy flag that it carries, <c>conj</c> or <c>neg</c>; null as a rule.</param>
internal sealed record PickledTensor(PickledStorage Storage, PickleGlobal Type, long Offset, long[] Sizes, long[] Strides, string? Flag);

/// <summary>What a global of the allow-list stands for.</summary>
internal enum GlobalKind : byte
{
    OrderedDict,
    Size,
    Tensor,
    TensorWithType,
    Parameter,
    ParameterWithState,
    Storage,
    UntypedStorage,
    Type,

    /// <summary>Of TorchScript: a class of its code.</summary>
    Class,

    /// <summary>Of TorchScript: tells the element types of a list or dict.</summary>
    TypeTag,

    /// <summary>Of TorchScript: a list of one element type.</summary>
    TypedList,

    /// <summary>Of TorchScript: a device.</summary>
    Device,

    /// <summary>Of TorchScript: a complex number.</summary>
    Complex,
}

/// <summary>A global of the allow-list.</summary>
/// <param name="Name">Its dotted name.</param>
/// <param name="Kind">What it stands for.</param>
/// <param name="Element">Of a storage or a dtype, the element type; none where this server has none such.</param>
internal sealed record PickleGlobal(string Name, GlobalKind Kind, ElementType Element = ElementType.None);
