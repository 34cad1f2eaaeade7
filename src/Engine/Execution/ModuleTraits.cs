using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.PlugIns;

namespace Sconce.Engine.Execution;

/// <summary>What a module's spec says of the random numbers that its calls may draw: libtorch has one generator, so only those that do must wait for each other.</summary>
/// <param name="Draws">Whether a forward in training mode may draw.</param>
/// <param name="AlwaysDraws">Whether a forward in eval mode may too.</param>
internal readonly record struct ModuleTraits(bool Draws, bool AlwaysDraws)
{
    // Parts of the names of types and functions that draw; Transformer's layers have dropout unless told otherwise.
    private static readonly string[] Random = ["dropout", "rrelu", "transformer", "gumbel", "bernoulli", "rand"];

    /// <summary>The traits of a tree: what its spec says, and what is known of the plug-ins in it.</summary>
    public static ModuleTraits Of(ModuleTree tree)
    {
        var traits = Of(tree.Spec);
        foreach (var node in ModuleTree.Walk(tree.Root).Select(at => at.Node).OfType<PlugInNode>().Where(node => ReferenceEquals(node.Whole, node)))
        {
            traits = traits.With(new ModuleTraits(true, node.AlwaysDraws));
        }

        foreach (var node in ModuleTree.Walk(tree.Root).Select(at => at.Node).OfType<Weights.Script.ScriptNode>().Where(node => ReferenceEquals(node.Whole, node)))
        {
            traits = traits.With(new ModuleTraits(node.File.IsStateful, node.File.IsStateful));
        }

        return traits;
    }

    public static ModuleTraits Of(ModuleSpec spec)
    {
        var always = IsFractional(spec.Type);
        var traits = new ModuleTraits(always || IsRandom(spec.Type) || ModuleCatalog.Draws(spec.Type) || IsSet(spec.Args, "dropout"), always);
        foreach (var child in spec.Children.Concat(spec.Added))
        {
            if (child.Spec is { } below)
            {
                traits = traits.With(Of(below));
            }
        }

        foreach (var step in spec.Wiring?.Steps ?? [])
        {
            // A function goes by the module's mode unless its own arguments say otherwise.
            var forced = IsSet(step.Args, "training") || IsSet(step.Args, "dropout_p") || (step.Function is { } name && IsFractional(name));
            traits = traits.With(new ModuleTraits(forced || (step.Function is { } function && IsRandom(function)), forced));
        }

        return traits;
    }

    // Draws its windows in either mode.
    private static bool IsFractional(string name) => name.Replace("_", "", StringComparison.Ordinal).StartsWith("FractionalMaxPool", StringComparison.OrdinalIgnoreCase);

    private static bool IsRandom(string name) => Random.Any(part => name.Contains(part, StringComparison.OrdinalIgnoreCase));

    private static bool IsSet(IReadOnlyDictionary<string, object?> args, string name) =>
        args.TryGetValue(name, out var value) && value is not (null or false or 0 or 0L or 0.0);

    private ModuleTraits With(ModuleTraits other) => new(Draws || other.Draws, AlwaysDraws || other.AlwaysDraws);
}
