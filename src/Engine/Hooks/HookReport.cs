using Sconce.Engine.Execution;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Hooks;

/// <summary>One figure, or one for each element that is left after a reduction.</summary>
/// <param name="Statistic">Which.</param>
/// <param name="Value">The figures.</param>
/// <param name="Indexes">For the largest elements: where they are.</param>
public sealed record StatisticValue(HookStatistic Statistic, TensorExport Value, TensorExport? Indexes);

/// <summary>What a hook copied or measured in one visit. Whoever receives it disposes it.</summary>
public sealed class HookCapture : IDisposable
{
    internal HookCapture(in HookVisit visit, int action, TensorExport? tensor, IReadOnlyList<StatisticValue> statistics, MemoryCharge charge)
    {
        (Hook, Path, Site, TensorIndex, Name, Call) = (visit.Hook.Id, visit.Path, visit.Hook.Spec.Site, visit.TensorIndex, visit.Name, visit.Call);
        (Action, Tensor, Statistics, _charge) = (action, tensor, statistics, charge);
    }

    private readonly MemoryCharge _charge;

    /// <summary>The hook's id.</summary>
    public string Hook { get; }

    /// <summary>Path of the submodule, as it was called.</summary>
    public string Path { get; }

    /// <summary>The site.</summary>
    public HookSite Site { get; }

    /// <summary>Which tensor of the site.</summary>
    public uint TensorIndex { get; }

    /// <summary>The parameter's name or the key; else empty.</summary>
    public string Name { get; }

    /// <summary>The visit, counted from 0.</summary>
    public ulong Call { get; }

    /// <summary>Index of the action in the hook.</summary>
    public int Action { get; }

    /// <summary>For a capture: the copy.</summary>
    public TensorExport? Tensor { get; }

    /// <summary>For a reduction: the figures.</summary>
    public IReadOnlyList<StatisticValue> Statistics { get; }

    /// <inheritdoc/>
    public void Dispose()
    {
        Tensor?.Dispose();
        foreach (var statistic in Statistics)
        {
            statistic.Value.Dispose();
            statistic.Indexes?.Dispose();
        }

        _charge.Dispose();
    }
}

/// <summary>Why a hook was detached.</summary>
/// <param name="Hook">The hook's id.</param>
/// <param name="Path">Path of the submodule where it failed.</param>
/// <param name="Message">What was given, what was expected.</param>
public sealed record HookFailure(string Hook, string Path, string Message);

/// <summary>What the hooks of one call have to say.</summary>
public sealed class HookReport : IDisposable
{
    /// <summary>A report with nothing in it.</summary>
    internal static readonly HookReport Empty = new([], [], "");

    internal HookReport(IReadOnlyList<HookCapture> captures, IReadOnlyList<HookFailure> detached, string stoppedBy) =>
        (Captures, Detached, StoppedBy) = (captures, detached, stoppedBy);

    /// <summary>What was captured for the answer, in the order it happened.</summary>
    public IReadOnlyList<HookCapture> Captures { get; }

    /// <summary>Registered hooks that the call detached because they failed; of more than an answer holds, as many as fit, and then one without a hook that counts the rest.</summary>
    public IReadOnlyList<HookFailure> Detached { get; }

    /// <summary>Id of the hook that stopped the call; empty where none did.</summary>
    public string StoppedBy { get; }

    /// <summary>One report of several, in order; it takes over their captures.</summary>
    internal static HookReport Of(params ReadOnlySpan<HookReport> reports)
    {
        var some = reports.ToArray().Where(report => !report.IsEmpty).ToList();
        return some.Count switch
        {
            0 => Empty,
            1 => some[0],
            _ => new([.. some.SelectMany(report => report.Captures)], [.. some.SelectMany(report => report.Detached)], some.Find(report => report.StoppedBy.Length > 0)?.StoppedBy ?? ""),
        };
    }

    /// <summary>Whether there is nothing in it.</summary>
    public bool IsEmpty => Captures.Count == 0 && Detached.Count == 0 && StoppedBy.Length == 0;

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var capture in Captures)
        {
            capture.Dispose();
        }
    }
}

/// <summary>A registered hook.</summary>
/// <param name="Spec">As registered, with its id.</param>
/// <param name="Paths">Paths of the submodules where it stands now.</param>
/// <param name="Fires">Times it has acted.</param>
/// <param name="Detached">Why it never acts again; null while it does.</param>
/// <param name="Registered">When it was registered.</param>
public sealed record HookInfo(HookSpec Spec, IReadOnlyList<string> Paths, ulong Fires, HookFailure? Detached, DateTimeOffset Registered);

/// <summary>A filled slot.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Type">Element type.</param>
/// <param name="Shape">Sizes of its dimensions.</param>
public sealed record HookSlotInfo(string Name, ElementType Type, IReadOnlyList<long> Shape);

/// <summary>The hooks and filled slots of a module.</summary>
/// <param name="Hooks">In the order they run in.</param>
/// <param name="Slots">By name.</param>
public sealed record HookListing(IReadOnlyList<HookInfo> Hooks, IReadOnlyList<HookSlotInfo> Slots);
