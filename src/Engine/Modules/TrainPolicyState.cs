using Sconce.Engine.Catalog;

namespace Sconce.Engine.Modules;

/// <summary>One rule of a train policy.</summary>
/// <param name="Path">Paths of the submodules that it holds with all below them, <c>*</c> and <c>?</c> as wildcards; empty is the root.</param>
/// <param name="Mode">The mode that they are held in, whatever <c>train</c> says: true for training, false for eval; null leaves it.</param>
/// <param name="RequiresGrad">The requires_grad that their parameters are held at; null leaves it.</param>
public sealed record TrainRule(string Path, bool? Mode, bool? RequiresGrad = null);

/// <summary>
/// What <c>train()</c> must leave alone: <c>norm_eval</c> and frozen stages, as MMDetection's ResNet has them, and rules by path. Where several speak of
/// a submodule, a later rule goes before an earlier one, rules before <c>norm_eval</c>, and frozen before all.
/// </summary>
public sealed class TrainPolicyState
{
    // Each rule looks at every name, whenever the tree changes.
    private const int MaxRules = 1024;
    private const int MaxFrozen = 10_000;

    private readonly ModuleNode _root;

    internal TrainPolicyState(ModuleNode root) => _root = root;

    /// <summary>Whether batch-norm-family modules stay in eval.</summary>
    public bool NormEval { get; private set; }

    /// <summary>Paths that stay in eval with requires_grad=False.</summary>
    public IReadOnlyList<string> Frozen { get; private set; } = [];

    /// <summary>The rules, in order.</summary>
    public IReadOnlyList<TrainRule> Rules { get; private set; } = [];

    /// <summary>Replaces the policy and applies it at once. What was frozen before stays requires_grad=False until it is set otherwise.</summary>
    /// <param name="normEval">Keep BatchNorm*, InstanceNorm* and SyncBatchNorm in eval.</param>
    /// <param name="frozen">Paths to keep in eval with requires_grad=False.</param>
    /// <param name="rules">Rules by path.</param>
    /// <exception cref="EngineException">A path does not exist, or a rule holds nothing; then nothing has changed.</exception>
    public void Set(bool normEval, IReadOnlyList<string> frozen, IReadOnlyList<TrainRule>? rules = null)
    {
        ArgumentNullException.ThrowIfNull(frozen);
        rules ??= [];
        if (rules.Count > MaxRules || frozen.Count > MaxFrozen)
        {
            var (field, count, most) = rules.Count > MaxRules ? ("rules", rules.Count, MaxRules) : ("frozen", frozen.Count, MaxFrozen);
            throw EngineException.Invalid($"policy.{field}", $"has {count} entries; at most {most} are taken: say more with patterns");
        }

        for (var i = 0; i < frozen.Count; i++)
        {
            if (ModuleTree.Find(_root, frozen[i]) is null)
            {
                throw EngineException.NotFound("submodule", frozen[i], $"it is policy.frozen[{i}]; paths are those of DescribeModule");
            }
        }

        var names = ModuleTree.AllPaths(_root).ToList();
        for (var i = 0; i < rules.Count; i++)
        {
            var rule = rules[i];
            if (rule.Mode is null && rule.RequiresGrad is null)
            {
                throw EngineException.Invalid($"policy.rules[{i}]", "holds neither a mode nor requires_grad; set at least one");
            }

            if (!names.Any(at => Glob.Matches(rule.Path, at.Path)))
            {
                throw EngineException.NotFound("submodule", rule.Path, $"it is policy.rules[{i}].path and matches nothing; paths are those of DescribeModule");
            }
        }

        (NormEval, Frozen, Rules) = (normEval, [.. frozen], [.. rules]);
        Apply(isNew: true);
    }

    /// <summary>Holds what the policy says; called again when the tree has changed. Parameters that come under a hold follow it at once.</summary>
    internal void Apply(bool isNew = false)
    {
        var before = new Dictionary<ModuleNode, bool?>(ReferenceEqualityComparer.Instance);
        foreach (var (_, node) in ModuleTree.Walk(_root))
        {
            before[node] = node.HeldRequiresGrad;
            node.HeldRequiresGrad = null;
            node.HeldMode = NormEval && (node.IsInstance("_BatchNorm") || node.IsInstance("_InstanceNorm")) ? false : null;
        }

        List<(string Path, ModuleNode Node)> names = Rules.Count == 0 ? [] : [.. ModuleTree.AllPaths(_root)];
        foreach (var rule in Rules)
        {
            Hold(names.Where(at => Glob.Matches(rule.Path, at.Path)), rule.Mode, rule.RequiresGrad);
        }

        // A path that went with a subtree that was replaced holds nothing.
        Hold(Frozen.Select(path => (path, ModuleTree.Find(_root, path)!)).Where(at => at.Item2 is not null), mode: false, requiresGrad: false);
        foreach (var (_, node) in ModuleTree.Walk(_root))
        {
            if (isNew || !before.TryGetValue(node, out var held) || held != node.HeldRequiresGrad)
            {
                node.HoldRequiresGrad();
            }
        }
    }

    /// <summary>Takes up the policy of a snapshot. Parts that it names may have gone since it was set.</summary>
    internal void Restore(bool normEval, IReadOnlyList<string> frozen, IReadOnlyList<TrainRule> rules)
    {
        (NormEval, Frozen, Rules) = (normEval, frozen, rules);
        Apply();
    }

    /// <summary>Takes what another tree's policy says of the part that was copied from it; the nodes already hold their flags.</summary>
    internal void TakeFrom(TrainPolicyState other, string path)
    {
        NormEval = other.NormEval;
        Frozen = [.. other.Frozen.Select(frozen => Relative(frozen, path)).OfType<string>().Distinct()];
        Rules = path.Length == 0 ? other.Rules : [.. other.Rules.SelectMany(rule => Relative(rule, other._root, path))];
    }

    private static void Hold(IEnumerable<(string Path, ModuleNode Node)> tops, bool? mode, bool? requiresGrad)
    {
        foreach (var (_, node) in tops.DistinctBy(top => top.Node).SelectMany(top => ModuleTree.Walk(top.Node)).DistinctBy(at => at.Node))
        {
            node.HeldMode = mode ?? node.HeldMode;
            node.HeldRequiresGrad = requiresGrad ?? node.HeldRequiresGrad;
        }
    }

    // What a pattern over the whole says of a part has no pattern of its own in general, so the part's rules name what it matched.
    private static IEnumerable<TrainRule> Relative(TrainRule rule, ModuleNode root, string path) => ModuleTree.AllPaths(root)
        .Where(at => Glob.Matches(rule.Path, at.Path)).Select(at => Relative(at.Path, path)).OfType<string>().Distinct().Select(relative => rule with { Path = relative });

    // A path at or above the copied part speaks of all of it; one below it of that; one beside it not of it.
    private static string? Relative(string held, string path)
    {
        if (path.Length == 0)
        {
            return held;
        }

        if (held.Length == 0 || held == path || path.StartsWith(held + ".", StringComparison.Ordinal))
        {
            return "";
        }

        return held.StartsWith(path + ".", StringComparison.Ordinal) ? held[(path.Length + 1)..] : null;
    }
}
