namespace Sconce.Engine.Catalog;

/// <summary>The module types, family by family.</summary>
internal static class ModuleTypes
{
    public static IEnumerable<ModuleType> All =>
    [
        .. ContainerTypes.All,
        .. LinearTypes.All,
        .. ConvolutionTypes.All,
        .. ActivationTypes.All,
    ];
}
