using Sconce.Engine.Catalog;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Weights;

/// <summary>Which entries of a state dict are read, and in which dtype. The default is all of them as they are.</summary>
public sealed record StateSelection
{
    /// <summary>The submodule; keys are relative to it. Empty is the whole module.</summary>
    public string Path { get; init; } = "";

    /// <summary>Only keys that match one of these patterns; empty is all. At most 10,000.</summary>
    public IReadOnlyList<string> Keys { get; init; } = [];

    /// <summary>Only keys that begin with this; they keep it. Empty is all.</summary>
    public string Prefix { get; init; } = "";

    /// <summary>A floating dtype that floating tensors are cast to; none leaves them. Complex, integer and boolean tensors stay as they are.</summary>
    public ElementType Type { get; init; }

    /// <summary>Refuses what no module could be asked for.</summary>
    /// <exception cref="EngineException">There are too many patterns, or the dtype is no floating one.</exception>
    internal void Check()
    {
        Glob.CheckCount(Keys.Count, "keys");
        if (Type != ElementType.None && !Type.IsFloatingPoint())
        {
            throw EngineException.Invalid("dtype", Type.IsDefined()
                ? $"is {Type.Name()}; floating tensors are cast to float64, float32, float16 or bfloat16, and all others stay as they are"
                : $"is {(int)Type}, which is no dtype");
        }
    }

    /// <summary>Whether an entry is read.</summary>
    internal bool Takes(string key) => key.StartsWith(Prefix, StringComparison.Ordinal) && (Keys.Count == 0 || Keys.Any(pattern => Glob.Matches(pattern, key)));
}
