using System.Collections.Frozen;
using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;

namespace Sconce.Engine.Hooks;

/// <summary>A hook at one submodule.</summary>
/// <param name="Hook">The hook.</param>
/// <param name="Node">The submodule.</param>
/// <param name="Path">Its first path.</param>
/// <param name="Visits">The counter of this hook's visits to it.</param>
internal sealed record HookPlace(Hook Hook, ModuleNode Node, string Path, VisitCounter Visits)
{
    /// <summary>Whether a name is one that the hook asks for.</summary>
    public bool Takes(string name) => Hook.Spec.Names.Count == 0 || Hook.Spec.Names.Any(pattern => Glob.Matches(pattern, name));
}

/// <summary>The hooks at one submodule that calls of it meet, each list in the order they run in.</summary>
internal sealed class NodeHooks
{
    public HookPlace[] ForwardPre { get; private set; } = [];

    public HookPlace[] Forward { get; private set; } = [];

    public HookPlace[] BackwardPre { get; private set; } = [];

    public HookPlace[] Backward { get; private set; } = [];

    public void Add(HookPlace place)
    {
        switch (place.Hook.Spec.Site)
        {
            case HookSite.ForwardPre:
                ForwardPre = [.. ForwardPre, place];
                break;
            case HookSite.Forward:
                Forward = [.. Forward, place];
                break;
            case HookSite.BackwardPre:
                BackwardPre = [.. BackwardPre, place];
                break;
            case HookSite.Backward:
                Backward = [.. Backward, place];
                break;
        }
    }
}

/// <summary>A hook and the submodules that it stands at, each once.</summary>
/// <param name="Hook">The hook.</param>
/// <param name="Matches">The submodules under their first path.</param>
internal sealed record PlannedHook(Hook Hook, IReadOnlyList<(string Path, ModuleNode Node)> Matches);

/// <summary>Which hooks stand where: made once from hooks and a tree, never changed.</summary>
internal sealed class HookPlan
{
    public static readonly HookPlan Empty = new([]);

    private readonly FrozenDictionary<ModuleNode, NodeHooks> _nodes;

    private HookPlan(IReadOnlyList<PlannedHook> entries)
    {
        var nodes = new Dictionary<ModuleNode, NodeHooks>(ReferenceEqualityComparer.Instance);
        var places = new List<HookPlace>();
        foreach (var (hook, matches) in entries)
        {
            foreach (var (path, node) in matches)
            {
                var place = new HookPlace(hook, node, path, hook.VisitsTo(node));
                places.Add(place);
                if (!hook.Spec.IsForward && !hook.Spec.IsBackward)
                {
                    continue;
                }

                if (!nodes.TryGetValue(node, out var at))
                {
                    nodes.Add(node, at = new NodeHooks());
                }

                at.Add(place);
            }
        }

        _nodes = nodes.ToFrozenDictionary(ReferenceEqualityComparer.Instance);
        Entries = entries;
        Hooks = [.. entries.Select(entry => entry.Hook)];
        ParamGrad = [.. At(HookSite.ParamGrad)];
        StateDict = [.. At(HookSite.StateDict)];
        LoadStateDictPre = [.. At(HookSite.LoadStateDictPre)];
        UsesSlots = Hooks.Any(hook => hook.UsesSlots);
        Calls = [.. Hooks.SelectMany(hook => hook.Calls).Distinct(StringComparer.Ordinal)];

        IEnumerable<HookPlace> At(HookSite site) => places.Where(place => place.Hook.Spec.Site == site);
    }

    public bool IsEmpty => Hooks.Count == 0;

    /// <summary>Every hook, in the order they run in.</summary>
    public IReadOnlyList<Hook> Hooks { get; }

    /// <summary>Every hook with the submodules that it stands at, in the same order.</summary>
    public IReadOnlyList<PlannedHook> Entries { get; }

    public IReadOnlyList<HookPlace> ParamGrad { get; }

    public IReadOnlyList<HookPlace> StateDict { get; }

    public IReadOnlyList<HookPlace> LoadStateDictPre { get; }

    /// <summary>Whether calls need the module to themselves, for its slots.</summary>
    public bool UsesSlots { get; }

    /// <summary>Names of other modules that hooks call.</summary>
    public IReadOnlyList<string> Calls { get; }

    /// <summary>The hooks at a submodule; null where there are none.</summary>
    public NodeHooks? At(ModuleNode node) => _nodes.GetValueOrDefault(node);

    /// <summary>Plans hooks in the order of their priority, equal ones in the order given.</summary>
    /// <param name="tree">The tree.</param>
    /// <param name="hooks">The hooks.</param>
    public static HookPlan Of(ModuleTree tree, IReadOnlyList<Hook> hooks) =>
        hooks.Count == 0 ? Empty : new([.. hooks.OrderBy(hook => hook.Spec.Priority).Select(hook => new PlannedHook(hook, Match(tree, hook.Spec)))]);

    /// <summary>The same without one hook. Looks at no tree, so it may be called while the module runs.</summary>
    public HookPlan Without(Hook hook) => new([.. Entries.Where(entry => entry.Hook != hook)]);

    /// <summary>The submodules that a hook stands at, each once.</summary>
    /// <param name="tree">The tree.</param>
    /// <param name="spec">The hook.</param>
    public static IReadOnlyList<(string Path, ModuleNode Node)> Match(ModuleTree tree, HookSpec spec)
    {
        var (kind, text) = spec.Target;
        return kind switch
        {
            HookTargetKind.Path => ModuleTree.Find(tree.Root, text) is { } node ? [(text, node)] : [],
            HookTargetKind.Type => [.. ModuleTree.Walk(tree.Root).Where(at => at.Node.TypeName == text)],
            HookTargetKind.IsInstance => [.. ModuleTree.Walk(tree.Root).Where(at => at.Node.IsInstance(text))],
            _ => [.. ModuleTree.AllPaths(tree.Root).Where(at => Glob.Matches(text, at.Path)).DistinctBy(at => at.Node)],
        };
    }

    /// <summary>Refuses a hook that stands nowhere.</summary>
    /// <param name="tree">The tree.</param>
    /// <param name="spec">The hook.</param>
    /// <param name="field">Where it stands in the request.</param>
    public static void CheckTarget(ModuleTree tree, HookSpec spec, string field)
    {
        var matches = Match(tree, spec);
        if (spec.Target.Kind == HookTargetKind.Path)
        {
            // For its message, which names paths that there are.
            _ = tree.Find(spec.Target.Text);
        }

        if (matches.Count == 0)
        {
            throw EngineException.NotFound("submodule", spec.Target.Text, $"it is {field}.target, a {spec.Target.Kind.ToString().ToLowerInvariant()} that no submodule matches; DescribeModule lists paths and types");
        }

        if ((spec.IsForward || spec.IsBackward) && matches.FirstOrDefault(at => at.Node is Weights.Script.ScriptNode part && !ReferenceEquals(part.Whole, part)) is { Node: { } silent, Path: var path })
        {
            throw EngineException.Precondition("SCRIPT_PART_HOOK", $"{field}.target matches {silent.Display(path)}, a part of a TorchScript module, whose code calls its parts where no hook sees it; hook the TorchScript module itself");
        }

        if (spec.Site == HookSite.ParamGrad && !matches.Any(at => at.Node.Parameters.Any(parameter => spec.Names.Count == 0 || spec.Names.Any(name => Glob.Matches(name, parameter.Name)))))
        {
            throw EngineException.NotFound("parameter", spec.Names.Count == 0 ? "*" : string.Join(", ", spec.Names), $"it is {field}.names; the {matches.Count} targeted submodule(s) have no such parameter of their own");
        }
    }
}
