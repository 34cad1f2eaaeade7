using Sconce.Engine.Modules;

namespace Sconce.Engine.Catalog.Models;

/// <summary>
/// The built-in models and their blocks, family by family. Most stand for a spec of other types, a Sequential or a Graph, that their arguments
/// say; whatever works on a module that a caller composed works on them.
/// </summary>
internal static class ModelTypes
{
    private static readonly string[] Dropouts = ["dropout", "resid_pdrop", "hidden_dropout_prob"];

    public static IEnumerable<ModuleType> All =>
    [
        .. SmallModels.All,
        .. ResNetModels.All,
        .. VggModels.All,
        .. MobileNetModels.All,
        .. UNetModels.All,
        .. Gpt2Models.All,
        .. BertModels.All,
    ];

    /// <summary>A type that stands for a spec.</summary>
    /// <param name="name">Its name in specs.</param>
    /// <param name="base">PyTorch's base type; where a function of torchvision makes it, the class that it makes.</param>
    /// <param name="arguments">Its arguments.</param>
    /// <param name="inputs">Names of forward's inputs.</param>
    /// <param name="expand">What it stands for.</param>
    /// <param name="initialise">Draws what its constructor draws after its children's initial values.</param>
    /// <param name="drawsAll">Whether that is every value, so that the children need not draw theirs.</param>
    /// <param name="outputs">Names of forward's outputs; null for one.</param>
    public static ModuleType Of(
        string name, string @base, IReadOnlyList<Argument> arguments, IReadOnlyList<string> inputs, Func<BoundArguments, ModuleSpec> expand, Action<ModuleNode, BoundArguments>? initialise = null,
        string[]? outputs = null, bool drawsAll = false) =>
        new(name, @base, "", arguments, inputs, (origin, context) =>
        {
            var spec = expand(origin.Args);
            var parts = new Parts(drawsAll ? context.WithoutValues(() => context.CreateParts(spec, origin)) : context.CreateParts(spec, origin), spec.Wiring, initialise is null ? null : node => initialise(node, origin.Args));
            return spec.Wiring is null ? new SequentialNode(origin, parts) : new GraphNode(origin, parts);
        })
        {
            Kind = TypeKind.Model,
            Outputs = outputs ?? ["output"],

            // As torchvision writes them: classes begin with a capital, the functions that make them do not.
            ClassName = char.IsUpper(name[0]) ? name : @base,
            Draws = arguments.Any(argument => Dropouts.Contains(argument.Name)),
        };
}
