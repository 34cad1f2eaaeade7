using Sconce.Engine.Hooks;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Execution;

/// <summary>Autograd backward through a live graph.</summary>
public sealed class BackwardCall
{
    /// <summary>The graph's id.</summary>
    public required string Graph { get; init; }

    /// <summary>Gradients of the outputs, one for each tensor of the output in order; None for an output that takes no part. May be empty where the
    /// output is one scalar.</summary>
    public IReadOnlyList<TensorInput> OutputGrads { get; init; } = [];

    /// <summary>Whether to keep the graph for another Backward.</summary>
    public bool RetainGraph { get; init; }

    /// <summary>The generation that the module must be at when the call's turn comes; null takes any.</summary>
    public ulong? IfGeneration { get; init; }

    /// <summary>Hooks for this call alone, on the gradients of parameters; those on other gradients go with the Forward that records the graph.</summary>
    public IReadOnlyList<HookSpec> Hooks { get; init; } = [];

    /// <summary>What comes before <c>output_grads[0]</c> in error paths.</summary>
    public string FieldPrefix { get; init; } = "";
}

/// <summary>The gradients of the inputs.</summary>
public sealed class BackwardOutcome : IDisposable
{
    internal BackwardOutcome(IReadOnlyList<TensorExport?> inputGrads, IReadOnlyList<KeyValuePair<string, TensorExport?>> namedInputGrads, ulong generation, HookReport hooks) =>
        (InputGrads, NamedInputGrads, Generation, Hooks) = (inputGrads, namedInputGrads, generation, hooks);

    /// <summary>One for each positional input; null for an input that has no gradient.</summary>
    public IReadOnlyList<TensorExport?> InputGrads { get; }

    /// <summary>Likewise for the named inputs.</summary>
    public IReadOnlyList<KeyValuePair<string, TensorExport?>> NamedInputGrads { get; }

    /// <summary>Generation of the module.</summary>
    public ulong Generation { get; }

    /// <summary>What hooks have to say.</summary>
    public HookReport Hooks { get; }

    /// <inheritdoc/>
    public void Dispose()
    {
        Hooks.Dispose();
        foreach (var gradient in InputGrads)
        {
            gradient?.Dispose();
        }

        foreach (var (_, gradient) in NamedInputGrads)
        {
            gradient?.Dispose();
        }
    }
}
