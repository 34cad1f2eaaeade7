namespace Sconce.Engine.Execution;

/// <summary>What memory is charged for.</summary>
public enum MemoryUse
{
    /// <summary>Parameters and buffers of modules.</summary>
    Modules,

    /// <summary>Gradients.</summary>
    Gradients,

    /// <summary>State of optimizers.</summary>
    Optimizers,

    /// <summary>Live autograd graphs: an estimate from the outputs that the leaves of the module made.</summary>
    Graphs,

    /// <summary>Kept tensors.</summary>
    KeptTensors,

    /// <summary>Copies of state on their way out, and state on its way in.</summary>
    State,

    /// <summary>Inputs of calls that wait or run.</summary>
    Inputs,

    /// <summary>Operands and slots of hooks, and what hooks have captured and nobody has read yet.</summary>
    Hooks,

    /// <summary>Large results within calls that run, and large answers until they are sent.</summary>
    Outputs,

    /// <summary>Memory that callers of the same host have too.</summary>
    SharedRegions,
}

/// <summary>The ledger's figures at one moment, in bytes.</summary>
/// <param name="BudgetBytes">The most that may be charged.</param>
/// <param name="UsedBytes">Charged now.</param>
/// <param name="GraphBytes">Of that, for live graphs.</param>
/// <param name="KeptTensorBytes">Of that, for kept tensors.</param>
/// <param name="SharedRegionBytes">Of that, for shared regions.</param>
/// <param name="ResidentBytes">Resident set size of the process.</param>
public readonly record struct MemoryUsage(long BudgetBytes, long UsedBytes, long GraphBytes, long KeptTensorBytes, long SharedRegionBytes, long ResidentBytes);

/// <summary>
/// Counts the memory that callers made the process take, before it is taken: over a container's limit the kernel kills, so what does not fit must be
/// refused while it is still a number.
/// </summary>
public sealed class MemoryLedger
{
    private readonly long[] _used = new long[Enum.GetValues<MemoryUse>().Length];
    private readonly long _budget;
    private readonly long _graphBudget;
    private readonly long _keptTensorBudget;
    private readonly long _sharedRegionBudget;
    private long _total;

    internal MemoryLedger(EngineOptions options)
    {
        _budget = options.MemoryBudgetBytes;
        _graphBudget = options.GraphBudgetBytes;
        _keptTensorBudget = options.KeptTensorBudgetBytes;
        _sharedRegionBudget = options.SharedRegionBudgetBytes;
    }

    /// <summary>The figures now.</summary>
    public MemoryUsage Usage => new(_budget, UsedBytes, Used(MemoryUse.Graphs), Used(MemoryUse.KeptTensors), Used(MemoryUse.SharedRegions), Environment.WorkingSet);

    /// <summary>Bytes charged now.</summary>
    public long UsedBytes => Interlocked.Read(ref _total);

    /// <summary>Bytes charged now for one use.</summary>
    /// <param name="use">The use.</param>
    public long Used(MemoryUse use) => Interlocked.Read(ref _used[(int)use]);

    /// <summary>Charges bytes, or refuses and charges nothing.</summary>
    /// <param name="use">What for.</param>
    /// <param name="bytes">How many.</param>
    /// <param name="what">What they are for, e.g. <c>the inputs of module</c>.</param>
    /// <param name="name">Its name.</param>
    /// <exception cref="EngineException">The budget would be exceeded.</exception>
    internal void Charge(MemoryUse use, long bytes, string what, string name)
    {
        var (limit, setting) = LimitOf(use);
        Add(ref _used[(int)use], bytes, limit, setting, what, name);
        try
        {
            Add(ref _total, bytes, _budget, "memory_budget_bytes", what, name);
        }
        catch
        {
            Interlocked.Add(ref _used[(int)use], -bytes);
            throw;
        }
    }

    /// <summary>Refuses what could not be charged now, and charges nothing.</summary>
    /// <param name="use">What for.</param>
    /// <param name="bytes">How many.</param>
    /// <param name="what">What they are for.</param>
    /// <param name="name">Its name.</param>
    /// <exception cref="EngineException">The budget would be exceeded.</exception>
    internal void Check(MemoryUse use, long bytes, string what, string name)
    {
        var (limit, setting) = LimitOf(use);
        Check(Used(use), bytes, limit, setting, what, name);
        Check(UsedBytes, bytes, _budget, "memory_budget_bytes", what, name);
    }

    /// <summary>Gives charged bytes back.</summary>
    /// <param name="use">What they were charged for.</param>
    /// <param name="bytes">How many.</param>
    internal void Release(MemoryUse use, long bytes)
    {
        Interlocked.Add(ref _used[(int)use], -bytes);
        Interlocked.Add(ref _total, -bytes);
    }

    /// <summary>Charges what actually exists already, whatever the budget: the next charge is what gets refused.</summary>
    /// <param name="use">What for.</param>
    /// <param name="bytes">How many.</param>
    internal void Record(MemoryUse use, long bytes) => Release(use, -bytes);

    private static void Check(long used, long bytes, long limit, string setting, string what, string name)
    {
        // Written so that it cannot overflow, whatever a caller asks for.
        if (bytes > 0 && bytes > limit - used)
        {
            throw EngineException.Exhausted($"{what} {EngineException.Quote(name)}", new QuotaRef(setting, bytes, used, limit));
        }
    }

    private (long Limit, string Setting) LimitOf(MemoryUse use) => use switch
    {
        MemoryUse.Graphs => (_graphBudget, "graph_budget_bytes"),
        MemoryUse.KeptTensors => (_keptTensorBudget, "kept_tensor_budget_bytes"),
        MemoryUse.SharedRegions => (_sharedRegionBudget, "shared_region_budget_bytes"),
        _ => (long.MaxValue, ""),
    };

    private static void Add(ref long used, long bytes, long limit, string setting, string what, string name)
    {
        var before = Interlocked.Read(ref used);
        while (true)
        {
            Check(before, bytes, limit, setting, what, name);
            var seen = Interlocked.CompareExchange(ref used, before + bytes, before);
            if (seen == before)
            {
                return;
            }

            before = seen;
        }
    }
}
