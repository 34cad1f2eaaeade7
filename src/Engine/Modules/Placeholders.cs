using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>
/// Parameters and buffers of a lazy module, which exist before they have a shape: who holds one, an optimizer say, holds it still when it has got its
/// memory. Each keeps its dtype and requires_grad.
/// </summary>
/// <param name="tensors">The tensors, in the order that a constructor makes them.</param>
internal sealed class Placeholders(IReadOnlyList<Tensor> tensors)
{
    private int _next;

    /// <summary>The next one, with new memory.</summary>
    /// <param name="make">Makes the memory, of its dtype.</param>
    public Tensor Take(Func<ElementType, Tensor> make)
    {
        var tensor = tensors[_next++];
        using var memory = make(tensor.dtype.ToElementType());
        NativeSetData.SetData(tensor, memory);
        return tensor;
    }
}
