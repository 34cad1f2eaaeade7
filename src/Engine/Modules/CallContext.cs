using Sconce.Engine.Execution;
using Sconce.Engine.Hooks;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Modules;

/// <summary>What goes with one call through the tree: where it is now, and what it has made.</summary>
/// <param name="path">Path of the module that is called, from the root.</param>
public sealed class CallContext(string path = "")
{
    private readonly List<string> _names = [];

    /// <summary>Whether to add up the bytes that leaves make.</summary>
    public bool CountBytes { get; init; }

    /// <summary>With <see cref="CountBytes"/>: bytes of all outputs of leaf modules and of functions so far, an estimate of what autograd keeps.</summary>
    public long LeafOutputBytes { get; internal set; }

    /// <summary>The hooks that the call meets; null where there are none.</summary>
    internal HookRun? Hooks { get; init; }

    /// <summary>What large results are asked of and charged to; null where nobody counts.</summary>
    internal CallMemory? Memory { get; init; }

    /// <summary>Path from the root of the module that is running now.</summary>
    public string Path => _names.Count == 0 ? path : path.Length == 0 ? string.Join('.', _names) : $"{path}.{string.Join('.', _names)}";

    /// <summary>The field of the request that a bad shape is blamed on.</summary>
    internal string Field { get; set; } = "inputs";

    /// <summary>The field of the request that names the module which is called.</summary>
    internal string PathField => Field[..Math.Max(0, Field.LastIndexOf("inputs", StringComparison.Ordinal))] + (path.Length == 0 ? "module" : "path");

    /// <summary>Whether the module running now is the one that the caller asked for, not one that another module calls.</summary>
    internal bool IsTarget => _names.Count == 0;

    /// <summary>Counts what a leaf or a function has made.</summary>
    /// <param name="output">What it made.</param>
    /// <param name="inputs">What it, or what may share memory with it, was given; null for a value not there yet.</param>
    internal void Made(TensorTree output, IReadOnlyList<TensorTree?> inputs)
    {
        if (CountBytes)
        {
            LeafOutputBytes = TensorSize.Sum(LeafOutputBytes, TensorSize.Of(output));
        }

        Memory?.Made(output, inputs);
    }

    /// <summary>How many levels below the target the module running now is.</summary>
    internal int Depth => _names.Count;

    /// <summary>Comes back up to a level.</summary>
    internal void Return(int depth) => _names.RemoveRange(depth, _names.Count - depth);

    /// <summary>Goes down into a child. Names, not paths, so that a call that succeeds makes no strings.</summary>
    internal void Enter(string name) => _names.Add(name);

    /// <summary>Comes back up.</summary>
    internal void Leave() => _names.RemoveAt(_names.Count - 1);
}
