using Sconce.Engine.Catalog;

namespace Sconce.Engine.Training.Losses;

/// <summary>The losses there are: those of torch.nn that have no parameters of their own.</summary>
internal static class LossTypes
{
    private static readonly Dictionary<string, LossRule> Rules = new LossRule[]
    {
        new CosineEmbedding(),
        new CrossEntropy(),
        new Ctc(),
        new GaussianLoss(),
        new KullbackLeiblerLoss(),
        new MarginRanking(),
        new MultiLabelMargin(),
        new MultiLabelSoftMargin(),
        new MultiMargin(),
        new NegativeLogLikelihood(),
        new TripletMargin(withDistance: false),
        new TripletMargin(withDistance: true),
    }.Concat(ElementwiseLoss.All).ToDictionary(rule => rule.Type, StringComparer.Ordinal);

    /// <summary>Their descriptions.</summary>
    public static IReadOnlyList<CatalogType> Descriptions { get; } = [.. Rules.Values.Select(rule => rule.Description)];

    /// <summary>The functions of torch.nn.functional that compute them.</summary>
    public static IEnumerable<FunctionType> Functions => Rules.Values.Select(rule => rule.Function);

    /// <summary>The rule of a type.</summary>
    /// <exception cref="EngineException">There is no such type.</exception>
    public static LossRule Find(string type, string field) =>
        Rules.TryGetValue(type, out var rule) ? rule : throw ModuleCatalog.Unknown("loss type", type, field, Rules.Keys);
}
