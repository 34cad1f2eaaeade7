using Sconce.Engine.Modules;
using TorchSharp.Modules;

namespace Sconce.Engine.Catalog.Models;

/// <summary>The initial values of Hugging Face's models (their <c>_init_weights</c>).</summary>
internal static class TransformerInitial
{
    /// <summary>
    /// Linear layers and embeddings by a normal distribution, with biases and padding rows of 0, norms as new. Parts of other types keep what their own
    /// constructors drew.
    /// </summary>
    /// <param name="model">The model.</param>
    /// <param name="std">Standard deviation of the weights.</param>
    public static void Draw(ModuleNode model, double std)
    {
        foreach (var (_, node) in ModuleTree.Walk(model))
        {
            switch (node)
            {
                case LinearNode linear:
                    Layer(linear.Weight, linear.Bias);
                    break;
                case Conv1DNode layer:
                    Layer(layer.Weight, layer.Bias);
                    break;
                case EmbeddingNode embedding:
                    embedding.Initialise(std);
                    break;
                case LayerNormNode norm:
                    norm.ResetParameters();
                    break;
            }
        }

        void Layer(Parameter weight, Parameter? bias)
        {
            Initial.Normal(weight, std);
            if (bias is not null)
            {
                Initial.Fill(bias, 0);
            }
        }
    }
}
