using Sconce.Engine.Hooks;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Execution;

/// <summary>The inputs of a call.</summary>
/// <param name="positional">Values by position.</param>
/// <param name="named">Values by name.</param>
/// <param name="fieldPrefix">What comes before <c>inputs[0]</c> in error paths, e.g. <c>forward.</c>; empty where inputs are at the request's top.</param>
public sealed class CallInputs(IReadOnlyList<TensorInput> positional, IReadOnlyList<KeyValuePair<string, TensorInput>>? named = null, string fieldPrefix = "")
{
    /// <summary>Values by position.</summary>
    public IReadOnlyList<TensorInput> Positional { get; } = positional;

    /// <summary>Values by name.</summary>
    public IReadOnlyList<KeyValuePair<string, TensorInput>> Named { get; } = named ?? [];

    /// <summary>What comes before <c>inputs[0]</c> in error paths.</summary>
    public string FieldPrefix { get; } = fieldPrefix;
}

/// <summary>One call of a module.</summary>
public sealed class ForwardCall
{
    /// <summary>The submodule to call; empty is the whole.</summary>
    public string Path { get; init; } = "";

    /// <summary>Its inputs.</summary>
    public required CallInputs Inputs { get; init; }

    /// <summary>The method to call; empty means <c>forward</c>.</summary>
    public string Method { get; init; } = "";

    /// <summary>Whether to keep the autograd graph for Backward.</summary>
    public bool RecordGraph { get; init; }

    /// <summary>With a graph: whether floating and complex inputs require gradients.</summary>
    public bool InputGrads { get; init; } = true;

    /// <summary>With a graph: how long it lives; null takes the host's default.</summary>
    public TimeSpan? GraphTtl { get; init; }

    /// <summary>With a graph: the session that owns it; empty for none.</summary>
    public string Session { get; init; } = "";

    /// <summary>Whether to refuse inputs that hold a NaN or an infinity.</summary>
    public bool RejectNonFinite { get; init; }

    /// <summary>Hooks for this call alone, in order. With a graph, those on gradients stand as long as it does.</summary>
    public IReadOnlyList<HookSpec> Hooks { get; init; } = [];

    /// <summary>The generation that the module must be at when the call's turn comes; null takes any.</summary>
    public ulong? IfGeneration { get; init; }
}

/// <summary>What a module returned. Disposing it frees the output's memory, not the graph.</summary>
public sealed class ForwardOutcome : IDisposable
{
    internal ForwardOutcome(OutputValue output, GraphInfo? graph, ulong generation, HookReport hooks) =>
        (Output, Graph, Generation, Hooks) = (output, graph, generation, hooks);

    /// <summary>The output, in the module's own structure.</summary>
    public OutputValue Output { get; }

    /// <summary>The graph, where one was asked for.</summary>
    public GraphInfo? Graph { get; }

    /// <summary>Generation of the module that ran.</summary>
    public ulong Generation { get; }

    /// <summary>What hooks have to say. Where one stopped the call, the output is None.</summary>
    public HookReport Hooks { get; }

    /// <inheritdoc/>
    public void Dispose()
    {
        Output.Dispose();
        Hooks.Dispose();
    }
}
