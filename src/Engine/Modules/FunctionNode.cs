using Sconce.Engine.Catalog;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>A leaf without parameters: one function of its inputs and of whether it trains.</summary>
/// <param name="origin">What it is made of.</param>
/// <param name="extraRepr">What PyTorch prints of it.</param>
/// <param name="function">What it computes.</param>
internal sealed class FunctionNode(NodeOrigin origin, string extraRepr, TensorFunction function) : ModuleNode(origin)
{
    public override string ExtraRepr => extraRepr;

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var tensors = new Tensor?[inputs.Count];
        for (var i = 0; i < tensors.Length; i++)
        {
            tensors[i] = Inputs[i].Optional ? OptionalTensorAt(inputs, i, context) : TensorAt(inputs, i, context);
        }

        return function(tensors, new FunctionMode(Training, context.Memory));
    }
}
