using Sconce.Engine.Execution;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>
/// The values of one call of a Graph, by their places. What no later step needs is freed as the call goes; under autograd the graph holds what it needs by
/// itself.
/// </summary>
/// <param name="count">How many places there are.</param>
/// <param name="memory">What large values are charged to; null where nobody counts.</param>
internal sealed class GraphValues(int count, CallMemory? memory)
{
    private readonly TensorTree?[] _values = new TensorTree?[count];

    // Needed no more, but another value is a view of them: their memory is there, and charged, until that is freed too.
    private List<Tensor>? _viewed;

    /// <summary>All of them; null for one that is not there yet, or no more.</summary>
    public IReadOnlyList<TensorTree?> All => _values;

    /// <summary>The value at a place that is there.</summary>
    public TensorTree this[int place]
    {
        get => _values[place]!;
        set => _values[place] = value;
    }

    /// <summary>The values at some places.</summary>
    public TensorTree[] At(int[] places)
    {
        var values = new TensorTree[places.Length];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = _values[places[i]]!;
        }

        return values;
    }

    /// <summary>Frees the values at places that are not needed any more.</summary>
    public void Free(int[] places)
    {
        foreach (var place in places)
        {
            if (_values[place] is { } value)
            {
                _values[place] = null;
                Free(value);
            }
        }

        for (var i = (_viewed?.Count ?? 0) - 1; i >= 0; i--)
        {
            var tensor = _viewed![i];
            if (!IsViewed(tensor))
            {
                _viewed.RemoveAt(i);
                Free(tensor, null);
            }
        }
    }

    /// <summary>Frees a value that has no place. What another value is too, the very same tensor, is left to that one: a child may hand back what it was given.</summary>
    public void Free(TensorTree value)
    {
        foreach (var item in value.Items ?? [])
        {
            Free(item);
        }

        if (value.Tensor is not { IsInvalid: false } tensor || IsHeld(tensor))
        {
            return;
        }

        if (memory is not null && memory.Counts(tensor) && IsViewed(tensor))
        {
            (_viewed ??= []).Add(tensor);
            return;
        }

        Free(tensor, null);
    }

    /// <summary>Ends the call. What the output is a view of lives on in it, and so does the charge.</summary>
    public void End(int[] places, TensorTree output)
    {
        Free(places);
        foreach (var tensor in _viewed ?? [])
        {
            Free(tensor, output);
        }
    }

    private void Free(Tensor tensor, TensorTree? heir)
    {
        memory?.Freed(tensor, heir);
        tensor.Dispose();
    }

    private bool IsHeld(Tensor tensor)
    {
        foreach (var value in _values)
        {
            if (value is not null && value.Holds(tensor))
            {
                return true;
            }
        }

        return false;
    }

    private bool IsViewed(Tensor tensor)
    {
        foreach (var value in _values)
        {
            if (value is not null && CallMemory.ViewOf(tensor, value) is not null)
            {
                return true;
            }
        }

        return false;
    }
}
