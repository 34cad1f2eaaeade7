using Sconce.Engine.Modules;

namespace Sconce.Engine.Catalog;

/// <summary>What children a type takes from a spec.</summary>
internal enum ChildRule
{
    /// <summary>None.</summary>
    None,

    /// <summary>Any, with names or indexes.</summary>
    Any,

    /// <summary>Only those of <see cref="ModuleType.ChildNames"/>; "?" ends one that may be left out.</summary>
    Named,
}

/// <summary>One module type of the catalogue: what it is called, what it takes, how it is made.</summary>
internal sealed class ModuleType
{
    private readonly Func<NodeOrigin, BuildContext, ModuleNode> _create;

    public ModuleType(string name, string @base, string functional, IReadOnlyList<Argument> arguments, IReadOnlyList<string> inputs, Func<NodeOrigin, BuildContext, ModuleNode> create)
    {
        Name = name;
        Base = @base;
        Functional = functional;
        Arguments = arguments;
        InputList = [.. inputs.Select(InputName.Parse)];
        _create = create;
    }

    public string Name { get; }

    public string Base { get; }

    public string Functional { get; }

    public IReadOnlyList<Argument> Arguments { get; }

    public IReadOnlyList<InputName> InputList { get; }

    /// <summary>Names of forward's outputs, in order; "?" ends one that may be None.</summary>
    public IReadOnlyList<string> Outputs { get; init; } = ["output"];

    /// <summary>Methods beside forward that a caller may call by name.</summary>
    public IReadOnlyList<string> Methods { get; init; } = [];

    /// <summary>Name of the class that it makes, as PyTorch prints it: torchvision's resnet18 makes a ResNet.</summary>
    public string ClassName { get => field ?? Name; init; }

    public TypeKind Kind { get; init; } = TypeKind.Module;

    /// <summary>Whether a forward in training mode may draw random numbers, whatever its arguments say.</summary>
    public bool Draws { get; init; }

    public ChildRule Children { get; init; }

    public IReadOnlyList<string> ChildNames { get; init; } = [];

    public ModuleNode Create(NodeOrigin origin, BuildContext context) => _create(origin, context);

    public bool IsOrDerivesFrom(string type) => type == Name || TypeHierarchy.Derives(Base, type);

    public CatalogType Describe() =>
        new(Name, Kind, Base, Functional, [.. Arguments.Select(a => a.Describe())], [.. InputList.Select(i => i.ToString())], Outputs) { Methods = Methods };
}
