using Sconce.Engine.Modules;
using static Sconce.Engine.Catalog.Argument;

namespace Sconce.Engine.Catalog;

/// <summary>Linear layers and what has no parameters at all.</summary>
internal static class LinearTypes
{
    public static IEnumerable<ModuleType> All { get; } =
    [
        new("Linear", "Module", "linear",
            [Int("in_features").AtLeast(0), Int("out_features").AtLeast(0), Bool("bias", true), Dtype()], ["input"],
            (origin, context) => new LinearNode(origin, context)),
    ];
}
