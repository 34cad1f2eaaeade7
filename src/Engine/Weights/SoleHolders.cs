using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Weights;

/// <summary>
/// Which parameters and buffers of a module have their memory for themselves. Such a one can take the memory of what is loaded instead of copying it, and nobody can tell: it is
/// the same object with the same dtype, shape and strides. One that shares memory with another (as after an assigned load of two views) must be written to where it is.
/// </summary>
internal sealed class SoleHolders
{
    private readonly HashSet<Tensor> _sharing = new(ModuleTree.Same);
    private readonly bool _anyUnknown;

    /// <param name="root">The whole module.</param>
    public unsafe SoleHolders(ModuleNode root)
    {
        _anyUnknown = ModuleTree.Walk(root).Any(at => !at.Node.IsKnown);
        if (_anyUnknown)
        {
            return;
        }

        var ranges = ModuleTree.Walk(root).SelectMany(at => ModuleTree.TensorsOf(at.Node)).Distinct(ModuleTree.Same).Where(tensor => !tensor.is_sparse && tensor.numel() > 0)
            .Select(tensor => (First: (nuint)NativeTensors.Address(tensor), Tensor: tensor)).OrderBy(range => range.First).ToList();
        var (end, last) = ((nuint)0, (Tensor?)null);
        foreach (var (first, tensor) in ranges)
        {
            if (last is not null && first < end)
            {
                _sharing.Add(last);
                _sharing.Add(tensor);
            }

            if (first + Reach(tensor) is var reached && reached > end)
            {
                (end, last) = (reached, tensor);
            }
        }
    }

    /// <summary>Whether a tensor may take the memory of a value.</summary>
    /// <param name="target">A parameter or persistent buffer of the module.</param>
    /// <param name="value">The value, of the same shape, whose memory is nobody else's.</param>
    public bool MayTake(Tensor target, Tensor value) =>
        !_anyUnknown && !_sharing.Contains(target) && !target.is_sparse && target.dtype == value.dtype && target.device_type == value.device_type
        && target.is_contiguous() && value.is_contiguous();

    // Bytes from its first element to the end of its last.
    private static nuint Reach(Tensor tensor)
    {
        var (shape, strides) = (tensor.shape, tensor.stride());
        return (nuint)((1 + shape.Zip(strides).Sum(dim => (dim.First - 1) * dim.Second)) * tensor.ElementSize);
    }
}
