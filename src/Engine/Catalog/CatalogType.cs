namespace Sconce.Engine.Catalog;

/// <summary>What a type of the catalogue is used for; the values equal those of <c>TypeKind</c> in the contract.</summary>
public enum TypeKind
{
    /// <summary>Not given.</summary>
    None = 0,

    /// <summary>A module, for <see cref="ModuleSpec.Type"/>.</summary>
    Module = 1,

    /// <summary>A loss.</summary>
    Loss = 2,

    /// <summary>A function, for <see cref="WiringStep.Function"/>.</summary>
    Function = 3,

    /// <summary>An optimizer.</summary>
    Optimizer = 4,

    /// <summary>A learning-rate scheduler.</summary>
    Scheduler = 5,

    /// <summary>A built-in model or a block of one, for <see cref="ModuleSpec.Type"/>.</summary>
    Model = 6,
}

/// <summary>What the catalogue tells about a type.</summary>
/// <param name="Name">PyTorch's name.</param>
/// <param name="Kind">What it is used for.</param>
/// <param name="Base">PyTorch's base type; <c>Module</c> where there is no other.</param>
/// <param name="Functional">Its counterpart in <c>torch.nn.functional</c>; empty where there is none.</param>
/// <param name="Arguments">Arguments by PyTorch's names, in PyTorch's order.</param>
/// <param name="Inputs">Names of forward's inputs; <c>?</c> ends those that may be left out.</param>
/// <param name="Outputs">Names of forward's outputs; <c>?</c> ends those that may be None. a tuple among them is written as one. One name beginning with <c>*</c> is as many as the arguments or the wiring say; empty where there is no forward.</param>
public sealed record CatalogType(
    string Name, TypeKind Kind, string Base, string Functional, IReadOnlyList<CatalogArgument> Arguments, IReadOnlyList<string> Inputs, IReadOnlyList<string> Outputs)
{
    /// <summary>Methods beside forward that may be called by name.</summary>
    public IReadOnlyList<string> Methods { get; init; } = [];
}

/// <summary>What the catalogue tells about an argument.</summary>
/// <param name="Name">PyTorch's name.</param>
/// <param name="Type">Its type for people, e.g. <c>int or list of int</c>.</param>
/// <param name="Required">Whether it must be given.</param>
/// <param name="Default">The default in the shape of JSON; null is Python's None.</param>
public sealed record CatalogArgument(string Name, string Type, bool Required, object? Default);
