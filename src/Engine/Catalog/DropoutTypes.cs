using Sconce.Engine.Tensors;
using static Sconce.Engine.Catalog.Argument;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace Sconce.Engine.Catalog;

/// <summary>Dropout. As functions they follow the mode of the Graph that calls them, as <c>F.dropout(x, training=self.training)</c> does.</summary>
internal static class DropoutTypes
{
    public static IReadOnlyList<StatelessType> All { get; } =
    [
        Of("Dropout", "dropout", 0, (x, p) => F.dropout(x, p, true)),
        Of("Dropout1d", "dropout1d", 2, (x, p) => F.dropout1d(x, p, true)),
        Of("Dropout2d", "dropout2d", 0, (x, p) => F.dropout2d(x, p, true)),
        Of("Dropout3d", "dropout3d", 4, (x, p) => F.dropout3d(x, p, true)),
        Of("AlphaDropout", "alpha_dropout", 0, (x, p) => F.alpha_dropout(x, p, true)),
        Of("FeatureAlphaDropout", "feature_alpha_dropout", 0, (x, p) => F.feature_alpha_dropout(x, p, true)),
    ];

    // An input of `unbatched` dimensions is one sample: whole channels are dropped, and its first dimension is the channels.
    private static StatelessType Of(string name, string functional, int unbatched, Func<Tensor, double, Tensor> drop) =>
        new(name, "_DropoutNd", functional, [Float("p").Between(0, 1).Or(0.5), Bool("inplace", false)], a => $"p={a.Repr("p")}, inplace={a.Repr("inplace")}", args =>
        {
            var p = args.Float("p");
            return (inputs, mode) =>
            {
                var x = inputs[0]!;
                return TensorTree.Of(!mode.Training ? x : x.Dimensions == unbatched && unbatched > 0 ? drop(x.unsqueeze(0), p).squeeze(0) : drop(x, p));
            };
        })
        { DependsOnMode = true };
}
