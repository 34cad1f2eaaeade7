using Sconce.Engine.Catalog;

namespace Sconce.Engine.Training.Optimizers;

/// <summary>The optimizers there are. One rule serves every optimizer of its type: it keeps nothing itself.</summary>
internal static class OptimizerTypes
{
    private static readonly Dictionary<string, OptimizerRule> Rules = new OptimizerRule[]
    {
        new Adadelta(),
        new Adagrad(),
        new Adam(decoupled: false),
        new Adam(decoupled: true),
        new Adamax(),
        new Asgd(),
        new LbfgsRule(),
        new NAdam(),
        new RAdam(),
        new RmsProp(),
        new Rprop(),
        new Sgd(),
    }.ToDictionary(rule => rule.Type, StringComparer.Ordinal);

    /// <summary>Their descriptions, by name.</summary>
    public static IReadOnlyList<CatalogType> Descriptions { get; } = [.. Rules.Values.Select(rule => rule.Description)];

    /// <summary>The rule of a type.</summary>
    /// <exception cref="EngineException">There is no such type.</exception>
    public static OptimizerRule Find(string type, string field) =>
        Rules.TryGetValue(type, out var rule) ? rule : throw ModuleCatalog.Unknown("optimizer type", type, field, Rules.Keys);
}
