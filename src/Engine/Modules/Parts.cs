using Sconce.Engine.Catalog;

namespace Sconce.Engine.Modules;

/// <summary>What a type that is made of other types holds: children, and how they are called.</summary>
/// <param name="Children">The children, in order.</param>
/// <param name="Wiring">How a Graph calls them; null for a Sequential.</param>
/// <param name="Initialiser">Draws the initial values that its constructor draws after its children's; null where it draws none.</param>
internal sealed record Parts(IReadOnlyList<KeyValuePair<string, ModuleNode>> Children, Wiring? Wiring, Action<ModuleNode>? Initialiser)
{
    /// <summary>Draws the initial values of a node of these parts; false where it has none of its own.</summary>
    public bool Initialise(ModuleNode node)
    {
        Initialiser?.Invoke(node);
        return Initialiser is not null;
    }
}
