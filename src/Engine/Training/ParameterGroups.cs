namespace Sconce.Engine.Training;

/// <summary>A group of parameters to make, with options of its own.</summary>
/// <param name="Parameters">Names of parameters, <c>*</c> and <c>?</c> as wildcards; empty, in the only group, means all.</param>
/// <param name="Args">Options that differ from the optimizer's.</param>
public sealed record ParamGroupSpec(IReadOnlyList<string> Parameters, IReadOnlyDictionary<string, object?> Args);

/// <summary>What a group of parameters is.</summary>
/// <param name="Parameters">Names of its parameters, in the module's order.</param>
/// <param name="Options">Its options by PyTorch's names, <c>lr</c> among them.</param>
public sealed record GroupDescription(IReadOnlyList<string> Parameters, IReadOnlyDictionary<string, object?> Options);

/// <summary>One of <c>param_groups</c> in an optimizer's state dict.</summary>
/// <param name="Parameters">Numbers of its parameters, counted through all groups from 0.</param>
/// <param name="Options">Its options by PyTorch's names.</param>
public sealed record StateGroup(IReadOnlyList<int> Parameters, IReadOnlyDictionary<string, object?> Options);
