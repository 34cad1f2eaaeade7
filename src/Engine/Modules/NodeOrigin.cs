using Sconce.Engine.Catalog;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Modules;

/// <summary>What a node was made of: enough to make another like it.</summary>
/// <param name="Type">Its type.</param>
/// <param name="Args">Its constructor's arguments.</param>
/// <param name="FloatType">Floating dtype that its parameters were made in.</param>
/// <param name="Given">Children that the spec gave it; those that the type makes by itself are not among them.</param>
/// <param name="Wiring">Wiring of a Graph.</param>
internal sealed record NodeOrigin(
    ModuleType Type, BoundArguments Args, ElementType FloatType, IReadOnlyList<KeyValuePair<string, ModuleNode>> Given, Wiring? Wiring);
