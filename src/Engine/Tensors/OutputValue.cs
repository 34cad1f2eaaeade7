namespace Sconce.Engine.Tensors;

/// <summary>What a module returned, ready to be sent: a tensor, None, or a tuple of such values.</summary>
public sealed class OutputValue : IDisposable
{
    private OutputValue(TensorExport? tensor, IReadOnlyList<OutputValue>? items)
    {
        Tensor = tensor;
        Items = items;
    }

    /// <summary>The tensor, where this is one.</summary>
    public TensorExport? Tensor { get; }

    /// <summary>The items, where this is a tuple.</summary>
    public IReadOnlyList<OutputValue>? Items { get; }

    /// <summary>Whether this is Python's None.</summary>
    public bool IsNone => Tensor is null && Items is null;

    /// <summary>What is held for it as long as it lives.</summary>
    internal IDisposable? Charge { get; set; }

    /// <inheritdoc/>
    public void Dispose()
    {
        Charge?.Dispose();
        Tensor?.Dispose();
        foreach (var item in Items ?? [])
        {
            item.Dispose();
        }
    }

    /// <summary>Exports every tensor of a tree. The tree's own tensors stay with their owner: what is exported is a detached alias.</summary>
    /// <param name="tree">The tree.</param>
    /// <param name="limit">Most bytes of the message that it goes into. A view of few bytes may show many, and one tensor may be there many times.</param>
    internal static OutputValue Export(TensorTree tree, long limit)
    {
        TensorSize.CheckAnswer(tree, limit);
        return Export(tree);
    }

    private static OutputValue Export(TensorTree tree)
    {
        if (tree.Tensor is { } tensor)
        {
            return new OutputValue(TensorExport.Take(tensor.detach()), null);
        }

        if (tree.Items is null)
        {
            return new OutputValue(null, null);
        }

        var items = new List<OutputValue>(tree.Items.Count);
        try
        {
            foreach (var item in tree.Items)
            {
                items.Add(Export(item));
            }
        }
        catch
        {
            items.ForEach(item => item.Dispose());
            throw;
        }

        return new OutputValue(null, items);
    }
}
