using Sconce.Engine.Catalog;

namespace Sconce.Engine.Execution;

/// <summary>What a module's spec says of how its calls must be run.</summary>
/// <param name="WritesInputs">Whether it may compute in place, so that it must not be given memory that others see.</param>
/// <param name="Draws">Whether a forward in training mode may draw random numbers.</param>
/// <param name="AlwaysDraws">Whether a forward in eval mode may too.</param>
internal readonly record struct ModuleTraits(bool WritesInputs, bool Draws, bool AlwaysDraws)
{
    public static ModuleTraits Of(ModuleSpec spec)
    {
        var traits = new ModuleTraits(
            WritesInputs: IsSet(spec.Args, "inplace"),
            Draws: IsRandom(spec.Type) || IsSet(spec.Args, "dropout"),
            AlwaysDraws: spec.Type.StartsWith("FractionalMaxPool", StringComparison.Ordinal));
        foreach (var child in spec.Children)
        {
            if (child.Spec is { } below)
            {
                traits = traits.With(Of(below));
            }
        }

        foreach (var step in spec.Wiring?.Steps ?? [])
        {
            // A function takes `training` and `p` as arguments, whatever mode the module is in.
            var draws = step.Function is { } function && IsRandom(function);
            traits = traits.With(new ModuleTraits(step.Function?.EndsWith('_') == true || IsSet(step.Args, "inplace"), draws, draws || IsSet(step.Args, "dropout_p")));
        }

        return traits;
    }

    private static bool IsRandom(string name) =>
        name.Contains("dropout", StringComparison.OrdinalIgnoreCase) || name.Contains("rrelu", StringComparison.OrdinalIgnoreCase)
        || name.Contains("rand", StringComparison.Ordinal) || name.Contains("bernoulli", StringComparison.Ordinal) || name.Contains("gumbel", StringComparison.Ordinal);

    private static bool IsSet(IReadOnlyDictionary<string, object?> args, string name) =>
        args.TryGetValue(name, out var value) && value is not (null or false or 0 or 0L or 0.0);

    private ModuleTraits With(ModuleTraits other) => new(WritesInputs || other.WritesInputs, Draws || other.Draws, AlwaysDraws || other.AlwaysDraws);
}
