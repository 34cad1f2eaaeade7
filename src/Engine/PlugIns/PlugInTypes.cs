using System.Collections.Frozen;
using Microsoft.Extensions.Logging;
using Sconce.Engine.Catalog;

namespace Sconce.Engine.PlugIns;

/// <summary>The module types of the plug-ins that the operator installed, and the classes that were refused, with the reason.</summary>
internal sealed class PlugInTypes
{
    /// <summary>No plug-ins.</summary>
    public static readonly PlugInTypes None = new([], []);

    private readonly FrozenDictionary<string, ModuleType> _types;
    private readonly FrozenDictionary<string, string> _refused;

    private PlugInTypes(Dictionary<string, ModuleType> types, Dictionary<string, string> refused)
    {
        _types = types.ToFrozenDictionary(StringComparer.Ordinal);
        _refused = refused.ToFrozenDictionary(StringComparer.Ordinal);
        Descriptions = [.. _types.Values.Distinct().Select(type => type.Describe())];
    }

    /// <summary>The type of TorchScript modules, which is found with those of plug-ins; null for none.</summary>
    public Weights.Script.ScriptTypes? Scripts { get; private init; }

    /// <summary>What the catalogue tells about them, each once.</summary>
    public IReadOnlyList<CatalogType> Descriptions { get; }

    /// <summary>Every name that a spec may use: the full names, and the short ones where they are unique.</summary>
    public IEnumerable<string> Names => _types.Keys;

    /// <summary>Loads what is in a directory. Nothing that is wrong there stops the host: it is logged, and left out.</summary>
    /// <param name="directory">The directory; empty for none.</param>
    /// <param name="log">Says what was loaded, what was refused, and why.</param>
    public static PlugInTypes Load(string directory, ILogger log)
    {
        if (directory.Length == 0)
        {
            return None;
        }

        PlugInFailure.Log = log;
        var loader = new PlugInLoader(log);
        loader.LoadAll(directory);
        var types = new Dictionary<string, ModuleType>(StringComparer.Ordinal);
        foreach (var sameName in loader.Classes.GroupBy(type => type.ShortName))
        {
            // One class of a name that PyTorch does not have is called by it; those that share it, by their full names.
            var isUnique = sameName.Count() == 1 && !ModuleCatalog.IsTypeOrBase(sameName.Key);
            foreach (var one in sameName)
            {
                var type = one.ToModuleType(isUnique ? one.ShortName : one.FullName);
                types[one.FullName] = type;
                types[type.Name] = type;
            }
        }

        return new PlugInTypes(types, loader.Refused);
    }

    /// <summary>These, and TorchScript modules.</summary>
    public PlugInTypes With(Weights.Script.ScriptTypes scripts) => new(_types.ToDictionary(StringComparer.Ordinal), _refused.ToDictionary(StringComparer.Ordinal)) { Scripts = scripts };

    /// <summary>The type of a name, or null.</summary>
    /// <exception cref="EngineException">A class of that name was refused.</exception>
    public ModuleType? Find(string name) =>
        name == Weights.Script.ScriptTypes.TypeName && Scripts is not null ? Scripts.Type
        : _types.TryGetValue(name, out var type) ? type
        : _refused.TryGetValue(name, out var reason) ? throw PlugInFailure.Refused(name, reason)
        : null;
}
