namespace Sconce.Engine.Catalog.Models;

/// <summary>What GPT-2 and BERT have in common.</summary>
internal static class TransformerParts
{
    /// <summary>The activation under Hugging Face's name for it.</summary>
    public static ModuleSpec Activation(string name) => name switch
    {
        "gelu_new" => Compose.Of("GELU", ("approximate", "tanh")),
        "gelu" => Compose.Of("GELU"),
        "silu" => Compose.Of("SiLU"),
        "tanh" => Compose.Of("Tanh"),
        _ => Compose.Of("ReLU"),
    };
}
