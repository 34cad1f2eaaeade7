namespace Sconce.Engine.Catalog;

/// <summary>The module types, family by family.</summary>
internal static class ModuleTypes
{
    public static IEnumerable<ModuleType> All =>
    [
        .. ContainerTypes.All,
        .. LinearTypes.All,
        .. ConvolutionTypes.All,
        .. NormalizationTypes.All,
        .. RecurrentTypes.All,
        .. AttentionTypes.All,
        .. LazyTypes.All,
        .. Models.ModelTypes.All,
        .. Stateless.Select(type => type.ToModule()),
    ];

    /// <summary>Those without parameters, most of which are functions too.</summary>
    public static IEnumerable<StatelessType> Stateless =>
    [
        .. ActivationTypes.All,
        .. DropoutTypes.All,
        .. NormalizationTypes.Stateless,
        .. PaddingTypes.All,
        .. PoolingTypes.All,
        .. ShapeTypes.All,
        .. UpsamplingTypes.All,
    ];
}
