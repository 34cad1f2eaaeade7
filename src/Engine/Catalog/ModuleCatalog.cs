using System.Collections.Frozen;
using Sconce.Engine.Training.Losses;
using Sconce.Engine.Training.Optimizers;
using Sconce.Engine.Training.Schedulers;

namespace Sconce.Engine.Catalog;

/// <summary>Everything that can be built or called by name.</summary>
public static class ModuleCatalog
{
    private static readonly FrozenDictionary<string, ModuleType> Modules = ModuleTypes.All.ToFrozenDictionary(type => type.Name);

    /// <summary>All types, ordered by kind, then by name.</summary>
    public static IReadOnlyList<CatalogType> Types { get; } =
    [
        .. Modules.Values.Select(type => type.Describe())
            .Concat(LossTypes.Descriptions).Concat(OptimizerTypes.Descriptions).Concat(SchedulerTypes.Descriptions)
            .Concat(FunctionTypes.All.Select(type => type.Describe()))
            .OrderBy(type => type.Kind).ThenBy(type => type.Name, StringComparer.Ordinal),
    ];

    /// <summary>The module type of a name.</summary>
    /// <param name="name">PyTorch's name.</param>
    /// <param name="field">Where the name stands in the request.</param>
    /// <param name="others">Names beside the catalogue's that may have been meant.</param>
    /// <exception cref="EngineException">It is not known: <see cref="EngineError.Unimplemented"/> with the nearest names.</exception>
    internal static ModuleType Module(string name, string field, IEnumerable<string>? others = null) =>
        Modules.TryGetValue(name, out var type) ? type : throw Unknown("module type", name, field, [.. Modules.Keys, .. others ?? []]);

    /// <summary>The base type of PyTorch's type of a name; <c>Module</c> where there is none.</summary>
    internal static string BaseOf(string name) => Modules.TryGetValue(name, out var type) ? type.Base : "Module";

    /// <summary>Whether a name is a module type or one of PyTorch's base types.</summary>
    internal static bool IsTypeOrBase(string name) =>
        Modules.ContainsKey(name) || TypeHierarchy.Names.Contains(name) || Modules.Values.Any(type => type.ClassName == name);

    /// <summary>Whether a type draws random numbers in training mode whatever its arguments say.</summary>
    internal static bool Draws(string name) => Modules.TryGetValue(name, out var type) && type.Draws;

    /// <summary>The error for a name that is not known.</summary>
    /// <param name="what">Its kind for people.</param>
    /// <param name="name">What was given.</param>
    /// <param name="field">Where it stands in the request.</param>
    /// <param name="known">What there is.</param>
    internal static EngineException Unknown(string what, string name, string field, IEnumerable<string> known)
    {
        var nearest = NearestNames.To(name, known);
        var hint = nearest.Count == 0 ? "ListModuleTypes lists all" : $"the nearest names are {string.Join(", ", nearest)}";
        var message = $"this host has no {what} {EngineException.Quote(name)}; {hint}";
        return new EngineException(EngineError.Unimplemented, "TYPE_UNKNOWN", $"{field}: {message}") { Fields = [new(field, message)] };
    }
}
