using static TorchSharp.torch;

namespace Sconce.Engine.Training;

/// <summary><c>Optimizer.state_dict()</c> in PyTorch's layout, flattened.</summary>
/// <param name="Groups"><c>param_groups</c>.</param>
/// <param name="Tensors">State tensors by <c>number.name</c>, e.g. <c>0.exp_avg</c>; references, not copies.</param>
/// <param name="Scalars">State that is one number, likewise, e.g. <c>0.step</c>.</param>
public sealed record OptimizerStateDict(
    IReadOnlyList<StateGroup> Groups, IReadOnlyList<(string Key, Tensor Value)> Tensors, IReadOnlyDictionary<string, double> Scalars);
