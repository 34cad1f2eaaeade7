using static TorchSharp.torch;

namespace Sconce.Engine.Tensors;

/// <summary>What a module takes or returns in one place: a tensor, None, or a tuple of such values.</summary>
public sealed class TensorTree
{
    /// <summary>Python's None.</summary>
    public static readonly TensorTree None = new(null, null);

    private TensorTree(Tensor? tensor, IReadOnlyList<TensorTree>? items)
    {
        Tensor = tensor;
        Items = items;
    }

    /// <summary>The tensor, where this is one.</summary>
    public Tensor? Tensor { get; }

    /// <summary>The items, where this is a tuple.</summary>
    public IReadOnlyList<TensorTree>? Items { get; }

    /// <summary>Whether this is Python's None.</summary>
    public bool IsNone => Tensor is null && Items is null;

    /// <summary>Wraps a tensor; null gives <see cref="None"/>.</summary>
    /// <param name="tensor">The tensor; the tree does not dispose it.</param>
    public static TensorTree Of(Tensor? tensor) => tensor is null ? None : new TensorTree(tensor, null);

    /// <summary>Makes a tuple.</summary>
    /// <param name="items">The items, in order.</param>
    public static TensorTree Tuple(params TensorTree[] items) => new(null, items);

    /// <summary>Makes a tuple.</summary>
    /// <param name="items">The items, in order.</param>
    public static TensorTree Tuple(IReadOnlyList<TensorTree> items) => new(null, items);

    /// <summary>The tensors in order, tuples flattened, None left out.</summary>
    public IEnumerable<Tensor> Flatten() =>
        Tensor is not null ? [Tensor] : Items is null ? [] : Items.SelectMany(item => item.Flatten());

    /// <summary>Whether a tensor, the very object, is among the tensors.</summary>
    internal bool Holds(Tensor tensor)
    {
        if (Items is null)
        {
            return ReferenceEquals(Tensor, tensor);
        }

        foreach (var item in Items)
        {
            if (item.Holds(tensor))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>The same structure with each tensor replaced.</summary>
    /// <param name="map">Gives the replacement of a tensor.</param>
    public TensorTree Map(Func<Tensor, Tensor> map) =>
        Tensor is not null ? Of(map(Tensor)) : Items is null ? None : Tuple([.. Items.Select(item => item.Map(map))]);
}
