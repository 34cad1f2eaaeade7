using Sconce.Engine.Modules;
using static Sconce.Engine.Catalog.Argument;

namespace Sconce.Engine.Catalog;

/// <summary>Containers.</summary>
internal static class ContainerTypes
{
    public static IEnumerable<ModuleType> All { get; } =
    [
        new("Sequential", "Module", "", [], ["input"], (origin, _) => new SequentialNode(origin)) { Children = ChildRule.Any },
        new("ModuleList", "Module", "", [], ["input?"], (origin, _) => new ModuleListNode(origin)) { Children = ChildRule.Any, Outputs = [] },
        new("ModuleDict", "Module", "", [], ["input?"], (origin, _) => new ModuleDictNode(origin)) { Children = ChildRule.Any, Outputs = [] },
        new("ParameterList", "Module", "", [Shapes("shapes").AtLeast(0), Dtype()], [], (origin, context) => new ParametersNode(origin, context, names: null)) { Outputs = [] },
        new("ParameterDict", "Module", "", [Texts("names"), Shapes("shapes").AtLeast(0), Dtype()], [], (origin, context) => new ParametersNode(origin, context, origin.Args.Texts("names"))) { Outputs = [] },
        new("Graph", "Module", "", [], [], (origin, _) => new GraphNode(origin)) { Children = ChildRule.Any, Outputs = ["*outputs"] },
    ];
}
