namespace Sconce.Engine.Modules;

/// <summary>What <c>train(True)</c> must leave alone, as MMDetection's ResNet has it: <c>norm_eval</c> and frozen stages.</summary>
public sealed class TrainPolicyState
{
    private readonly ModuleNode _root;

    internal TrainPolicyState(ModuleNode root) => _root = root;

    /// <summary>Whether batch-norm-family modules stay in eval.</summary>
    public bool NormEval { get; private set; }

    /// <summary>Paths that stay in eval with requires_grad=False.</summary>
    public IReadOnlyList<string> Frozen { get; private set; } = [];

    /// <summary>Replaces the policy and applies it at once. What was frozen before stays requires_grad=False until it is set otherwise.</summary>
    /// <param name="normEval">Keep BatchNorm*, InstanceNorm* and SyncBatchNorm in eval.</param>
    /// <param name="frozen">Paths to keep in eval with requires_grad=False.</param>
    /// <exception cref="EngineException">A path does not exist; then nothing has changed.</exception>
    public void Set(bool normEval, IReadOnlyList<string> frozen)
    {
        ArgumentNullException.ThrowIfNull(frozen);
        var subtrees = frozen.Select((path, i) => ModuleTree.Find(_root, path)
            ?? throw EngineException.NotFound("submodule", path, $"it is policy.frozen[{i}]; paths are those of DescribeModule")).ToList();
        NormEval = normEval;
        Frozen = [.. frozen];
        foreach (var (_, node) in ModuleTree.Walk(_root))
        {
            node.Frozen = false;
            node.HeldInEval = normEval && (node.IsInstance("_BatchNorm") || node.IsInstance("_InstanceNorm"));
        }

        foreach (var (_, node) in subtrees.SelectMany(ModuleTree.Walk))
        {
            node.Frozen = true;
            node.HeldInEval = true;
            node.SetRequiresGrad(false);
        }
    }

    /// <summary>Takes what another tree's policy says of the part that was copied from it; the nodes already hold their flags.</summary>
    internal void TakeFrom(TrainPolicyState other, string path)
    {
        NormEval = other.NormEval;
        Frozen = [.. other.Frozen.Select(frozen => Relative(frozen, path)).OfType<string>().Distinct()];
    }

    // A frozen path at or above the copied part freezes all of it; one below it freezes that; one beside it says nothing of it.
    private static string? Relative(string frozen, string path)
    {
        if (path.Length == 0)
        {
            return frozen;
        }

        if (frozen.Length == 0 || frozen == path || path.StartsWith(frozen + ".", StringComparison.Ordinal))
        {
            return "";
        }

        return frozen.StartsWith(path + ".", StringComparison.Ordinal) ? frozen[(path.Length + 1)..] : null;
    }
}
