using Sconce.Engine.Tensors;

namespace Sconce.Engine.Catalog;

/// <summary>How to build a module: a type of the catalogue, its arguments, its children, and wiring for <c>Graph</c>.</summary>
/// <param name="Type">PyTorch's type name, or <c>Graph</c>.</param>
public sealed record ModuleSpec(string Type)
{
    /// <summary>Constructor arguments by PyTorch's names. Values: null, <see cref="bool"/>, <see cref="double"/>, <see cref="string"/>, or a
    /// <c>IReadOnlyList&lt;object?&gt;</c> / <c>IReadOnlyDictionary&lt;string, object?&gt;</c> of such values (the shape of JSON).</summary>
    public IReadOnlyDictionary<string, object?> Args { get; init; } = new Dictionary<string, object?>();

    /// <summary>Children of a container, in order.</summary>
    public IReadOnlyList<ChildSpec> Children { get; init; } = [];

    /// <summary>Wiring of a <c>Graph</c>; null for every other type.</summary>
    public Wiring? Wiring { get; init; }

    /// <summary>Children that were added to a type that takes none, or took the place of those that it makes by itself.</summary>
    public IReadOnlyList<ChildSpec> Added { get; init; } = [];

    /// <summary>Of a root: parameters that were registered below it.</summary>
    public IReadOnlyList<RegisteredSpec> Parameters { get; init; } = [];

    /// <summary>Of a root: buffers that were registered below it.</summary>
    public IReadOnlyList<RegisteredSpec> Buffers { get; init; } = [];

    /// <summary>Of a root: paths of the modules with extra state.</summary>
    public IReadOnlyList<string> ExtraStates { get; init; } = [];
}

/// <summary>A parameter or buffer that was registered on a module after it was made. Built again it is zero.</summary>
/// <param name="Path">The module, from the root.</param>
/// <param name="Name">Its name there.</param>
/// <param name="Type">Element type; none for Python's None.</param>
/// <param name="Shape">Sizes of its dimensions.</param>
/// <param name="Share">Of a parameter: the dotted name of the one that it is; empty for one of its own.</param>
/// <param name="Persistent">Of a buffer: whether the state dict holds it.</param>
public sealed record RegisteredSpec(string Path, string Name, ElementType Type, IReadOnlyList<long> Shape, string Share = "", bool Persistent = true);

/// <summary>One named child: a new module, or one built before (<paramref name="Share"/>).</summary>
/// <param name="Name">Its name; empty means its index.</param>
/// <param name="Spec">The new module, or null.</param>
/// <param name="Share">Path from the root of the whole spec of a module built before this one, or null.</param>
public sealed record ChildSpec(string Name, ModuleSpec? Spec, string? Share = null);

/// <summary>What a <c>Graph</c> does: named inputs, steps on named values, named outputs.</summary>
/// <param name="Inputs">Input names, in order; <c>?</c> ends one that may be left out.</param>
/// <param name="Steps">The calls, in order.</param>
/// <param name="Outputs">Names of the values returned.</param>
public sealed record Wiring(IReadOnlyList<string> Inputs, IReadOnlyList<WiringStep> Steps, IReadOnlyList<string> Outputs);

/// <summary>One call of a child or of a function, or one read of a parameter.</summary>
/// <param name="Name">Name of the result.</param>
/// <param name="Module">Child to call, or null.</param>
/// <param name="Function">Function of torch or torch.nn.functional to call, or null.</param>
/// <param name="Inputs">Names of the values passed.</param>
/// <param name="Args">Further arguments of a function.</param>
/// <param name="Unpack">Names for the items of a tuple result; empty where the result is one value.</param>
public sealed record WiringStep(
    string Name, string? Module, string? Function, IReadOnlyList<string> Inputs, IReadOnlyDictionary<string, object?> Args, IReadOnlyList<string> Unpack)
{
    /// <summary>Instead of a call: the parameter or buffer of this dotted name, e.g. <c>scale.0</c>; null where there is a call.</summary>
    public string? Parameter { get; init; }
}
