using Sconce.Engine.Modules;

namespace Sconce.Engine.Catalog.Models;

/// <summary>The initial values that torchvision's models draw once their modules are made, in the order of <c>modules()</c>.</summary>
internal static class VisionInitial
{
    /// <summary>Convolutions by kaiming_normal_ with fan_out and biases of 0, norms as new, and linear layers by a normal distribution.</summary>
    /// <param name="model">The model.</param>
    /// <param name="linearStd">Standard deviation of the weights of linear layers, whose biases are then 0; null leaves them as they are.</param>
    public static void Draw(ModuleNode model, double? linearStd = null)
    {
        foreach (var (_, node) in ModuleTree.Walk(model))
        {
            switch (node)
            {
                case ConvNode conv:
                    Initial.KaimingNormalByFanOut(conv.Weight);
                    Zero(conv.Bias);
                    break;
                case BatchNormNode norm:
                    norm.ResetParameters();
                    break;
                case LinearNode linear when linearStd is { } std:
                    Initial.Normal(linear.Weight, std);
                    Zero(linear.Bias);
                    break;
            }
        }

        static void Zero(TorchSharp.Modules.Parameter? bias)
        {
            if (bias is not null)
            {
                Initial.Fill(bias, 0);
            }
        }
    }
}
