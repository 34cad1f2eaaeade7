using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>A leaf without parameters: one function of its inputs and of whether it trains.</summary>
/// <param name="origin">What it is made of.</param>
/// <param name="extraRepr">What PyTorch prints of it.</param>
/// <param name="function">What it computes.</param>
internal sealed class FunctionNode(NodeOrigin origin, string extraRepr, FunctionNode.Function function) : ModuleNode(origin)
{
    /// <summary>What a leaf computes.</summary>
    /// <param name="inputs">The inputs; null for one left out.</param>
    /// <param name="training">Whether the module is in training mode.</param>
    public delegate TensorTree Function(Tensor?[] inputs, bool training);

    public override string ExtraRepr => extraRepr;

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var tensors = new Tensor?[inputs.Count];
        for (var i = 0; i < tensors.Length; i++)
        {
            tensors[i] = Inputs[i].Optional ? OptionalTensorAt(inputs, i, context) : TensorAt(inputs, i, context);
        }

        return function(tensors, Training);
    }
}
