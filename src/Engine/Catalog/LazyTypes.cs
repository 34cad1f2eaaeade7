using Sconce.Engine.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Catalog;

/// <summary>How a lazy module learns the one size that its arguments leave out.</summary>
/// <param name="Plain">The type that it becomes.</param>
/// <param name="Size">The argument of that type which it leaves out.</param>
/// <param name="OfInput">The size for an input; null with what is expected where the input has none.</param>
/// <param name="OfState">The size for a tensor of a state dict, by its name and shape; null where that tensor does not tell.</param>
/// <param name="Least">The smallest size there can be.</param>
/// <param name="Repr">What PyTorch prints of it before it has the size, from arguments with a size of 0.</param>
internal sealed record LazyRule(
    ModuleType Plain, string Size, Func<Tensor, (long? Size, string Expected)> OfInput, Func<string, long[], BoundArguments, long?> OfState, Func<BoundArguments, long> Least, Func<BoundArguments, string> Repr)
{
    /// <summary>The arguments of <see cref="Plain"/> for a size.</summary>
    public BoundArguments Arguments(BoundArguments args, long size) => args.With(Plain.Arguments, Size, size);
}

/// <summary>Modules that get their sizes from their first input, and are then of the type without <c>Lazy</c>.</summary>
internal static class LazyTypes
{
    public static IEnumerable<ModuleType> All { get; } =
    [
        Of(new LazyRule(
            LinearTypes.All[0], "in_features", x => (x.Dimensions > 0 ? x.shape[^1] : null, "an input of at least 1 dimension"),
            (name, shape, _) => name == "weight" && shape.Length == 2 ? shape[1] : null, _ => 0,
            a => $"in_features=0, out_features={a.Repr("out_features")}, bias={a.Repr("bias")}"), "Linear"),
        .. Named(ConvolutionTypes.All, "Conv").Select((type, i) => Convolution(type, i + 1, isTransposed: false)),
        .. Named(ConvolutionTypes.All, "ConvTranspose").Select((type, i) => Convolution(type, i + 1, isTransposed: true)),
        .. Named(NormalizationTypes.All, "BatchNorm").Select(type => Norm(type)),
        .. Named(NormalizationTypes.All, "InstanceNorm").Select(type => Norm(type)),
    ];

    private static IEnumerable<ModuleType> Named(IEnumerable<ModuleType> types, string name) => Enumerable.Range(1, 3).Select(n => types.First(type => type.Name == $"{name}{n}d"));

    private static ModuleType Convolution(ModuleType plain, int spatial, bool isTransposed) => Of(new LazyRule(
        plain, "in_channels",
        x => (x.Dimensions == spatial + 1 ? x.shape[0] : x.Dimensions == spatial + 2 ? x.shape[1] : null, $"an input of {spatial + 1} (unbatched) or {spatial + 2} dimensions"),
        (name, shape, args) => name != "weight" || shape.Length != spatial + 2 ? null : isTransposed ? shape[0] : shape[1] * args.Int("groups"),
        args => args.Int("groups"),
        a => ConvolutionTypes.Repr(a, a.Bool("bias"), isTransposed ? "output_padding" : null)), plain.Name);

    private static ModuleType Norm(ModuleType plain) => Of(new LazyRule(
        plain, "num_features", x => (x.Dimensions > 1 ? x.shape[1] : null, "an input of at least 2 dimensions"), (_, shape, _) => shape.Length == 1 ? shape[0] : null, _ => 1,
        a => $"0, eps={a.Repr("eps")}, momentum={a.Repr("momentum")}, affine={a.Repr("affine")}, track_running_stats={a.Repr("track_running_stats")}"), plain.Base);

    private static ModuleType Of(LazyRule rule, string @base) => new(
        "Lazy" + rule.Plain.Name, @base, rule.Plain.Functional, [.. rule.Plain.Arguments.Where(argument => argument.Name != rule.Size).Select(OwnDefault)], [.. rule.Plain.InputList.Select(input => input.ToString())],
        (origin, context) => new LazyNode(origin, context, rule));

    // All lazy norms have both by default; InstanceNorm has neither.
    private static Argument OwnDefault(Argument argument) => argument.Name is "affine" or "track_running_stats" ? argument.Or(true) : argument;
}
