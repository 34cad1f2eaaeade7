using System.Collections.Frozen;
using Sconce.Engine.Training.Losses;

namespace Sconce.Engine.Catalog;

/// <summary>The functions that a wiring may call, family by family.</summary>
internal static class FunctionTypes
{
    private static readonly FrozenDictionary<string, FunctionType> Known = new[]
    {
        ModuleTypes.Stateless.Where(type => type.IsFunctionToo).Select(type => type.ToFunction()),
        ElementwiseFunctions.All,
        ReductionFunctions.All,
        ShapeFunctions.All,
        NeuralFunctions.All,
        WeightFunctions.All,
        LossTypes.Functions,
    }.SelectMany(family => family).ToFrozenDictionary(type => type.Name);

    public static IEnumerable<FunctionType> All => Known.Values;

    /// <summary>The function of a name, with or without <c>torch.</c>, <c>torch.nn.functional.</c> or <c>F.</c> before it.</summary>
    public static FunctionType Find(string name, string field)
    {
        var bare = name.StartsWith("torch.nn.functional.", StringComparison.Ordinal) ? name["torch.nn.functional.".Length..]
            : name.StartsWith("torch.", StringComparison.Ordinal) ? name["torch.".Length..]
            : name.StartsWith("F.", StringComparison.Ordinal) ? name["F.".Length..]
            : name;
        return Known.TryGetValue(bare, out var type) ? type : throw ModuleCatalog.Unknown("function", name, field, Known.Keys);
    }
}
