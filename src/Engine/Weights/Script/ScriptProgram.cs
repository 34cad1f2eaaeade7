namespace Sconce.Engine.Weights.Script;

/// <summary>A parameter of a method.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Type">Its type as the code writes it, e.g. <c>Optional[Tensor]</c>.</param>
/// <param name="HasDefault">Whether a call may leave it out.</param>
internal sealed record ScriptInput(string Name, string Type, bool HasDefault)
{
    /// <summary>Whether it may be None.</summary>
    public bool TakesNone => Type.StartsWith("Optional[", StringComparison.Ordinal);

    /// <summary>The type that it has where it is not None.</summary>
    public string Plain => TakesNone ? Type["Optional[".Length..^1] : Type;

    /// <summary>Whether a caller can give it: TorchSharp passes tensors and numbers on, not lists and tuples.</summary>
    public bool CanBeGiven => Plain is "Tensor" or "int" or "float" or "bool" or "number";
}

/// <summary>What the code of a checked TorchScript file says of its classes: which the module and its submodules are of, and what their methods take.</summary>
internal sealed class ScriptProgram
{
    private readonly IReadOnlyDictionary<string, ScriptUnit> _units;

    /// <summary>Creates one.</summary>
    /// <param name="units">The archive's code, by qualified name.</param>
    /// <param name="root">Qualified name of the module's class, which the code has.</param>
    public ScriptProgram(IReadOnlyDictionary<string, ScriptUnit> units, string root) => (_units, Root) = (units, root);

    /// <summary>Qualified name of the module's class.</summary>
    public string Root { get; }

    /// <summary>The class of a submodule; null where the code does not tell.</summary>
    /// <param name="of">Qualified name of the class that has it; null for none.</param>
    /// <param name="name">The submodule's name.</param>
    public string? ChildClass(string? of, string name) => of is not null && _units.TryGetValue(of, out var unit) && unit.Types.TryGetValue(name, out var type) && _units.ContainsKey(type) ? type : null;

    /// <summary>The methods of a class, by name; none where the class is not known.</summary>
    /// <param name="of">Its qualified name; null for none.</param>
    public IReadOnlyList<(string Name, IReadOnlyList<ScriptInput> Inputs)> Methods(string? of) =>
        of is not null && _units.TryGetValue(of, out var unit) ? [.. unit.Methods.Select(method => (method.Name, method.Inputs))] : [];
}
