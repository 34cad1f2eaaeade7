using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Parity;

/// <summary>The gradients that a backward begins with, as the generators have them: exact in every dtype.</summary>
internal static class Cotangents
{
    /// <summary>Backward from the sum of output * cotangent.</summary>
    public static void Backward(TensorTree output)
    {
        var terms = output.Flatten().Where(tensor => tensor.requires_grad).Select(tensor => (tensor * Of(tensor)).sum());
        terms.Aggregate((sum, term) => sum + term).backward();
    }

    private static Tensor Of(Tensor output) => ((arange(output.NumberOfElements) * 7 % 17 - 8).to_type(output.dtype) / 8).reshape(output.shape);
}
