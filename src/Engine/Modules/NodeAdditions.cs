namespace Sconce.Engine.Modules;

/// <summary>What was registered on a node after it was made, by name: its type and arguments do not tell it.</summary>
internal sealed class NodeAdditions
{
    /// <summary>Parameters that its constructor did not make a place for.</summary>
    public HashSet<string> Parameters { get; } = [];

    /// <summary>Those, and its own ones that are another object, or None where they were not, or the other way round.</summary>
    public HashSet<string> Bound { get; } = [];

    /// <summary>Buffers that its constructor did not make a place for.</summary>
    public HashSet<string> Buffers { get; } = [];

    /// <summary>Those, and its own ones that were registered again.</summary>
    public HashSet<string> BoundBuffers { get; } = [];

    /// <summary>Children that were added or replaced.</summary>
    public HashSet<string> Children { get; } = [];

    /// <summary>Whether there is anything.</summary>
    public bool Any => Bound.Count > 0 || BoundBuffers.Count > 0 || Children.Count > 0;
}
