using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Execution;

/// <summary>What a call changes and on what condition; the default is the whole module, unconditionally.</summary>
/// <param name="Path">The submodule; empty is the whole.</param>
/// <param name="IfGeneration">The generation that the module must be at when the call's turn comes; null takes any.</param>
public readonly record struct ChangeTarget(string Path, ulong? IfGeneration)
{
    /// <summary>The submodule; empty is the whole.</summary>
    public string Path { get => field ?? ""; init; } = Path;
}

/// <summary>The summary of a hosted module.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Type">Type of its root.</param>
/// <param name="Generation">Rises with every change of parameters, buffers or structure made by a call.</param>
/// <param name="Training">Whether its root is in training mode.</param>
/// <param name="Parameters">Number of elements of all parameters, shared ones once.</param>
/// <param name="Bytes">Bytes of parameters and buffers, shared ones once.</param>
/// <param name="Device">Device that its tensors are on.</param>
/// <param name="Optimizers">Names of its optimizers.</param>
/// <param name="Created">When it was created.</param>
/// <param name="LiveGraphs">Live graphs recorded on it.</param>
public sealed record ModuleSummary(
    string Name, string Type, ulong Generation, bool Training, long Parameters, long Bytes, string Device, IReadOnlyList<string> Optimizers, DateTimeOffset Created, int LiveGraphs)
{
    /// <summary>Steps that its optimizers have taken, all together, those of deleted ones among them.</summary>
    public long Steps { get; init; }

    /// <summary>How many of the steps its newest snapshot holds: what is there after a crash. Null where it has none.</summary>
    public long? DurableSteps { get; init; }
}

/// <summary>A module's tree.</summary>
/// <param name="Module">Summary of the whole module.</param>
/// <param name="Root">The tree from the path asked for.</param>
/// <param name="Repr">The same as PyTorch prints it.</param>
/// <param name="Policy">The train policy in force.</param>
public sealed record ModuleDescription(ModuleSummary Module, NodeDescription Root, string Repr, TrainPolicy Policy);

/// <summary>What <c>train(True)</c> must leave alone.</summary>
/// <param name="NormEval">Keep batch-norm-family submodules in eval mode.</param>
/// <param name="Frozen">Paths kept in eval mode with requires_grad=False.</param>
public sealed record TrainPolicy(bool NormEval, IReadOnlyList<string> Frozen)
{
    /// <summary>Rules by path.</summary>
    public IReadOnlyList<TrainRule> Rules { get; init; } = [];
}

/// <summary>One submodule.</summary>
/// <param name="Name">Its name in its parent; empty for the one asked for.</param>
/// <param name="Path">Its path from the module's root.</param>
/// <param name="Type">Its type.</param>
/// <param name="ExtraRepr">What PyTorch's extra_repr says of it.</param>
/// <param name="Training">Whether it is in training mode.</param>
/// <param name="Parameters">Its own parameters, in order.</param>
/// <param name="Buffers">Its own buffers, in order.</param>
/// <param name="Children">Its children, in order.</param>
/// <param name="Hooks">Ids of the hooks that stand at it, in the order they run in.</param>
public sealed record NodeDescription(
    string Name, string Path, string Type, string ExtraRepr, bool Training, IReadOnlyList<TensorDescription> Parameters, IReadOnlyList<TensorDescription> Buffers, IReadOnlyList<NodeDescription> Children,
    IReadOnlyList<string> Hooks)
{
    /// <summary>Where it is a submodule that has another name too: the path of the first; empty otherwise.</summary>
    public string AliasOf { get; init; } = "";

    /// <summary>The mode that the train policy holds it in; null for none.</summary>
    public bool? HeldMode { get; init; }

    /// <summary>The requires_grad that the train policy holds its parameters at; null for none.</summary>
    public bool? HeldRequiresGrad { get; init; }

    /// <summary>Bytes of its extra state; null where it has none.</summary>
    public long? ExtraStateBytes { get; init; }
}

/// <summary>A parameter or a buffer.</summary>
/// <param name="Name">Its name in its module.</param>
/// <param name="Type">Element type.</param>
/// <param name="Shape">Sizes of its dimensions.</param>
/// <param name="RequiresGrad">Whether autograd records operations on it.</param>
/// <param name="Persistent">Whether state_dict holds it.</param>
/// <param name="HasGrad">Whether it has a gradient now.</param>
public sealed record TensorDescription(string Name, ElementType Type, IReadOnlyList<long> Shape, bool RequiresGrad, bool Persistent, bool HasGrad)
{
    /// <summary>Whether it is None: a name without a tensor.</summary>
    public bool IsNone { get; init; }

    /// <summary>Where it has another name too: the first, from the module's root; empty otherwise.</summary>
    public string AliasOf { get; init; } = "";

    /// <summary>Whether it has no shape yet: a lazy module's before its first forward.</summary>
    public bool Uninitialized { get; init; }

    /// <summary>How its elements lie in memory.</summary>
    public MemoryFormat Format { get; init; } = MemoryFormat.Contiguous;
}

/// <summary>One parameter or buffer with its value.</summary>
/// <param name="Info">What it is.</param>
/// <param name="Value">A copy of its value, to be disposed; null for None.</param>
/// <param name="Generation">Generation of the module at the copy.</param>
public sealed record NamedValue(TensorDescription Info, StateSnapshot? Value, ulong Generation);

/// <summary>A file with a copy of a state dict.</summary>
/// <param name="File">Its path.</param>
/// <param name="Bytes">Its size.</param>
/// <param name="Generation">Generation of the module at the copy.</param>
public sealed record SharedStateCopy(string File, long Bytes, ulong Generation);

/// <summary>What a conversion did.</summary>
/// <param name="Module">Summary of the module.</param>
/// <param name="Warnings">What PyTorch warns of in such a conversion, in its words.</param>
public sealed record ConversionOutcome(ModuleSummary Module, IReadOnlyList<string> Warnings);

/// <summary>What an initialiser was applied to.</summary>
/// <param name="Module">Summary of the module.</param>
/// <param name="Visits">Every submodule that was visited, in order.</param>
public sealed record ApplyOutcome(ModuleSummary Module, IReadOnlyList<ApplyVisit> Visits)
{
    /// <summary>Paths of those that it was applied to, in the order of the visits.</summary>
    public IReadOnlyList<string> Applied => [.. Visits.Where(visit => visit.Applied).Select(visit => visit.Path)];
}

/// <summary>One visit of <c>nn.Module.apply</c>.</summary>
/// <param name="Path">The submodule, from where the walk began.</param>
/// <param name="Repr">The submodule as PyTorch prints it, without its children.</param>
/// <param name="Applied">Whether the function was applied to it.</param>
public sealed record ApplyVisit(string Path, string Repr, bool Applied);
