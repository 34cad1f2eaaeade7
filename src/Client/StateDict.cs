using Sconce.V1;

namespace Sconce.Client;

/// <summary>Tensors by name in PyTorch's order, as nn.Module.state_dict gives them; also gradients by parameter name.</summary>
public sealed class StateDict : OrderedDictionary<string, TensorData>
{
    /// <summary>An empty one.</summary>
    public StateDict()
    {
    }

    /// <summary>One that holds these tensors.</summary>
    /// <param name="tensors">Key and tensor of each, in order.</param>
    public StateDict(IEnumerable<KeyValuePair<string, TensorData>> tensors)
        : base(tensors)
    {
    }

    /// <summary>Generation of the module when the tensors were copied; 0 where they come from elsewhere.</summary>
    public ulong Generation { get; internal set; }

    /// <summary>Bytes of all tensors together.</summary>
    public long TotalBytes => Values.Sum(tensor => (long)tensor.Bytes.Length);
}

/// <summary>An optimizer's state in PyTorch's layout (Optimizer.state_dict).</summary>
public sealed class OptimizerStateDict
{
    /// <summary>The parameter groups: parameters are numbered through all groups from 0.</summary>
    public required IReadOnlyList<OptimizerStateGroup> Groups { get; init; }

    /// <summary>State that is a tensor, keyed "&lt;parameter number&gt;.&lt;name&gt;", e.g. "0.exp_avg".</summary>
    public required StateDict Tensors { get; init; }

    /// <summary>State that is a number, keyed likewise, e.g. "0.step".</summary>
    public required IReadOnlyDictionary<string, double> Scalars { get; init; }
}
