using Sconce.Engine.Hooks;
using static TorchSharp.torch;

namespace Sconce.Engine.Execution;

/// <summary>What a caller is told of a live graph.</summary>
/// <param name="Id">Its id, for Backward.</param>
/// <param name="Expires">When it expires.</param>
/// <param name="EstimatedBytes">Bytes charged for it: an estimate from the outputs that the submodules made, since what autograd saves cannot be counted from outside.</param>
public sealed record GraphInfo(string Id, DateTimeOffset Expires, long EstimatedBytes);

/// <summary>An autograd graph that outlives the call which recorded it. It lives by its roots: to dispose them is to free it.</summary>
/// <param name="table">The module's graphs.</param>
/// <param name="info">What the caller knows.</param>
/// <param name="generation">The module's generation when it was recorded.</param>
/// <param name="outputs">The tensors of the output in order, tuples flattened.</param>
/// <param name="inputs">The positional inputs; null for None.</param>
/// <param name="namedInputs">The named inputs; null for None.</param>
/// <param name="moving">Buffers of submodules that were in training mode.</param>
/// <param name="hooks">The hooks that its forward met, and those of them that came with the call; null for none.</param>
/// <param name="charge">What the ledger holds for it.</param>
/// <param name="owner">The session that owns it, or null.</param>
internal sealed class LiveGraph(
    GraphTable table,
    GraphInfo info,
    ulong generation,
    IReadOnlyList<Tensor> outputs,
    IReadOnlyList<Tensor?> inputs,
    IReadOnlyList<KeyValuePair<string, Tensor?>> namedInputs,
    IReadOnlyList<Tensor> moving,
    (HookRun Run, CallHooks? Call)? hooks,
    MemoryCharge charge,
    Session? owner) : ISessionOwned
{
    public GraphInfo Info => info;

    public ulong Generation => generation;

    public IReadOnlyList<Tensor> Outputs => outputs;

    public IReadOnlyList<Tensor?> Inputs => inputs;

    public IReadOnlyList<KeyValuePair<string, Tensor?>> NamedInputs => namedInputs;

    public Session? Owner => owner;

    /// <summary>The hooks that its forward met, and those of them that came with the call; null for none.</summary>
    public (HookRun Run, CallHooks? Call)? Hooks => hooks;

    /// <summary>
    /// Whether a forward that moves these buffers would spoil it. What was in eval mode computed with its running statistics and needs them again; libtorch
    /// moves them without a trace that autograd could see, and the gradients would be wrong in silence.
    /// </summary>
    public bool IsSpoiltBy(IReadOnlyList<Tensor> nowMoving) =>
        !ReferenceEquals(nowMoving, moving) && nowMoving.Any(buffer => !moving.Any(before => ReferenceEquals(before, buffer)));

    /// <summary>Whether a Backward is running through it; the table's lock guards it.</summary>
    public bool InUse { get; set; }

    /// <summary>Whether it was let go of while it was in use; the table's lock guards it.</summary>
    public bool Doomed { get; set; }

    public void SessionEnded() => table.Drop(this);

    /// <summary>Frees the graph. Called once, by the table.</summary>
    public void Free()
    {
        owner?.Disown(this);
        FreeTensors(outputs, inputs, namedInputs);
        hooks?.Call?.Dispose();
        charge.Dispose();
    }

    /// <summary>Frees the tensors that hold a graph together.</summary>
    public static void FreeTensors(IReadOnlyList<Tensor> outputs, IReadOnlyList<Tensor?> inputs, IReadOnlyList<KeyValuePair<string, Tensor?>> namedInputs)
    {
        foreach (var tensor in outputs)
        {
            tensor.Dispose();
        }

        foreach (var tensor in inputs)
        {
            tensor?.Dispose();
        }

        foreach (var (_, tensor) in namedInputs)
        {
            tensor?.Dispose();
        }
    }
}
