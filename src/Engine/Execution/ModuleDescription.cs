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
    string Name, string Type, ulong Generation, bool Training, long Parameters, long Bytes, string Device, IReadOnlyList<string> Optimizers, DateTimeOffset Created, int LiveGraphs);

/// <summary>A module's tree.</summary>
/// <param name="Module">Summary of the whole module.</param>
/// <param name="Root">The tree from the path asked for.</param>
/// <param name="Repr">The same as PyTorch prints it.</param>
/// <param name="Policy">The train policy in force.</param>
public sealed record ModuleDescription(ModuleSummary Module, NodeDescription Root, string Repr, TrainPolicy Policy);

/// <summary>What <c>train(True)</c> must leave alone.</summary>
/// <param name="NormEval">Keep batch-norm-family submodules in eval mode.</param>
/// <param name="Frozen">Paths kept in eval mode with requires_grad=False.</param>
public sealed record TrainPolicy(bool NormEval, IReadOnlyList<string> Frozen);

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
    IReadOnlyList<string> Hooks);

/// <summary>A parameter or a buffer.</summary>
/// <param name="Name">Its name in its module.</param>
/// <param name="Type">Element type.</param>
/// <param name="Shape">Sizes of its dimensions.</param>
/// <param name="RequiresGrad">Whether autograd records operations on it.</param>
/// <param name="Persistent">Whether state_dict holds it.</param>
/// <param name="HasGrad">Whether it has a gradient now.</param>
/// <param name="Uninitialized">Whether it has no shape yet: a lazy module's before its first forward.</param>
public sealed record TensorDescription(string Name, ElementType Type, IReadOnlyList<long> Shape, bool RequiresGrad, bool Persistent, bool HasGrad, bool Uninitialized);

/// <summary>What an initialiser was applied to.</summary>
/// <param name="Module">Summary of the module.</param>
/// <param name="Applied">Paths of the submodules, in the order of the visits.</param>
public sealed record ApplyOutcome(ModuleSummary Module, IReadOnlyList<string> Applied);
