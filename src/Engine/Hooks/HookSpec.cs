namespace Sconce.Engine.Hooks;

/// <summary>Where a hook stands; the values equal those of <c>HookSite</c> in the contract.</summary>
public enum HookSite
{
    /// <summary>Not given.</summary>
    None = 0,

    /// <summary>Before a module runs, on its inputs.</summary>
    ForwardPre = 1,

    /// <summary>After it has run, on its outputs.</summary>
    Forward = 2,

    /// <summary>In backward, on the gradients of its outputs.</summary>
    BackwardPre = 3,

    /// <summary>In backward, on the gradients of its inputs.</summary>
    Backward = 4,

    /// <summary>In backward, on the gradient of each parameter, before it is added to what was there.</summary>
    ParamGrad = 5,

    /// <summary>When a state dict is read, on each entry.</summary>
    StateDict = 6,

    /// <summary>When a state dict has been received and nothing of it checked, on each entry.</summary>
    LoadStateDictPre = 7,
}

/// <summary>How a hook chooses its submodules.</summary>
public enum HookTargetKind
{
    /// <summary>The submodule at a path.</summary>
    Path,

    /// <summary>Those whose path matches a pattern.</summary>
    Glob,

    /// <summary>Those of exactly one type.</summary>
    Type,

    /// <summary>Those of a type or one that derives from it.</summary>
    IsInstance,
}

/// <summary>Which submodules a hook stands at.</summary>
/// <param name="Kind">How they are chosen.</param>
/// <param name="Text">The path, pattern or type.</param>
public readonly record struct HookTarget(HookTargetKind Kind, string Text)
{
    /// <summary>The module itself.</summary>
    public static readonly HookTarget Root = new(HookTargetKind.Path, "");
}

/// <summary>When a hook acts. Visits are counted for each submodule that it stands at.</summary>
/// <param name="FirstCall">First visit to act on.</param>
/// <param name="EndCall">First visit not to act on any more; null is never.</param>
/// <param name="Every">Act on every n-th visit from the first on.</param>
/// <param name="Training">Only in training mode, or only in eval mode; null is both.</param>
/// <param name="MaxFires">Most times to act; null is no limit.</param>
public sealed record HookWhen(ulong FirstCall = 0, ulong? EndCall = null, ulong Every = 1, bool? Training = null, ulong? MaxFires = null)
{
    /// <summary>Always.</summary>
    public static readonly HookWhen Always = new();
}

/// <summary>A hook as a caller asks for it. Fields are checked when it is accepted.</summary>
public sealed record HookSpec
{
    /// <summary>Its id in the module; empty lets the host choose one.</summary>
    public string Id { get; init; } = "";

    /// <summary>Which submodules.</summary>
    public HookTarget Target { get; init; } = HookTarget.Root;

    /// <summary>Where.</summary>
    public HookSite Site { get; init; }

    /// <summary>Which tensor of the inputs or outputs, tuples flattened; null is the first.</summary>
    public uint? TensorIndex { get; init; }

    /// <summary>Patterns of parameter names or of state-dict keys; empty is all.</summary>
    public IReadOnlyList<string> Names { get; init; } = [];

    /// <summary>When it acts.</summary>
    public HookWhen When { get; init; } = HookWhen.Always;

    /// <summary>The part that actions see and change; null is all.</summary>
    public HookSelect? Select { get; init; }

    /// <summary>What to do, in order.</summary>
    public required IReadOnlyList<HookAction> Actions { get; init; }

    /// <summary>The smallest runs first.</summary>
    public int Priority { get; init; }

    /// <summary>The session that owns it; empty for none.</summary>
    public string Session { get; init; } = "";

    /// <summary>Bytes of what a caller can make as long as a message: words and lists of indexes. Operands are counted apart.</summary>
    internal long HeldBytes => (sizeof(long) * (Select?.Dims.Sum(dim => (long)(dim.Indexes?.Count ?? 0)) ?? 0))
        + (sizeof(char) * (Target.Text.Length + Names.Sum(name => (long)name.Length) + Actions.Sum(TextOf)));

    /// <summary>Whether it stands in a forward.</summary>
    internal bool IsForward => Site is HookSite.ForwardPre or HookSite.Forward;

    /// <summary>Whether it stands on the gradients of inputs or outputs.</summary>
    internal bool IsBackward => Site is HookSite.BackwardPre or HookSite.Backward;

    /// <summary>Whether it stands on entries of a state dict.</summary>
    internal bool IsState => Site is HookSite.StateDict or HookSite.LoadStateDictPre;

    private static long TextOf(HookAction action) =>
        (action.Operand?.State?.Length ?? 0) + (action.Calls?.Path.Length ?? 0) + (action is RenameAction rename ? rename.Prefix.Length + rename.Replacement.Length : 0);
}
