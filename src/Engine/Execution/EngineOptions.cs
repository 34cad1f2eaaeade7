using System.Globalization;

namespace Sconce.Engine.Execution;

/// <summary>What the operator sets about the device, its threads and its budgets. Byte counts are bytes; times are for the clock on the wall.</summary>
public sealed class EngineOptions
{
    /// <summary>The device that the process owns, as PyTorch writes it. Only <c>cpu</c> is in this build.</summary>
    public string Device { get; set; } = "cpu";

    /// <summary>
    /// Compute threads, each running one call at a time. Calls on one module that change it run one after the other, whatever this is. By default half
    /// the cores, at least 2 (so that one long call does not stop all others) and at most 4.
    /// </summary>
    public int Lanes { get; set; } = Math.Clamp(Environment.ProcessorCount / 2, 2, 4);

    /// <summary>
    /// Threads that one operation of libtorch may use. By default all cores up to 4, beyond that half of them: one call alone then has most of the
    /// machine, and all lanes together ask for no more than twice the cores.
    /// </summary>
    public int IntraOpThreads { get; set; } = Math.Max(Math.Min(Environment.ProcessorCount, 4), Environment.ProcessorCount / 2);

    /// <summary>Most that modules, gradients, optimizer state, graphs, kept tensors, state copies and inputs in flight may take together. By default three
    /// quarters of the memory that the process may use (a container's limit counts).</summary>
    public long MemoryBudgetBytes { get; set; } = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 4 * 3;

    /// <summary>Of that, most that live autograd graphs may take (an estimate: see the graph's own comment). By default a third of the budget.</summary>
    public long GraphBudgetBytes { get; set; } = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 4;

    /// <summary>How long a live graph is kept where the call does not say.</summary>
    public TimeSpan GraphTtl { get; set; } = TimeSpan.FromMinutes(5);

    /// <summary>Of the budget, most that kept tensors may take. By default a third of it.</summary>
    public long KeptTensorBudgetBytes { get; set; } = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 4;

    /// <summary>How long a kept tensor lives after its last use where the call does not say.</summary>
    public TimeSpan KeptTensorTtl { get; set; } = TimeSpan.FromHours(1);

    /// <summary>The longest time to live that a call may ask for.</summary>
    public TimeSpan MaxTtl { get; set; } = TimeSpan.FromHours(24);

    /// <summary>Most calls that may wait for their turn, on all modules together.</summary>
    public int MaxQueue { get; set; } = 1024;

    /// <summary>Most calls that may wait for their turn on one module.</summary>
    public int MaxQueuePerModule { get; set; } = 256;

    /// <summary>Most live graphs of one module.</summary>
    public int MaxGraphsPerModule { get; set; } = 256;

    /// <summary>Most modules.</summary>
    public int MaxModules { get; set; } = 1024;

    /// <summary>Most open sessions.</summary>
    public int MaxSessions { get; set; } = 1024;

    /// <summary>Most kept tensors.</summary>
    public int MaxKeptTensors { get; set; } = 10_000;

    /// <summary>Most registered hooks of one module.</summary>
    public int MaxHooksPerModule { get; set; } = 1024;

    /// <summary>Most callers that may watch the hooks of one module at once.</summary>
    public int MaxWatchersPerModule { get; set; } = 64;

    /// <summary>Deepest nesting of a module spec. libtorch and .NET recurse along it, so it cannot be raised at will; and over the wire protobuf
    /// itself stops at a nesting of 100 messages, which is 48 modules, without saying more than that.</summary>
    public int MaxSpecDepth { get; set; } = 40;

    /// <summary>Most submodules in a spec.</summary>
    public int MaxSubmodules { get; set; } = 10_000;

    /// <summary>Most bytes of one answer. Not a setting of its own: a server sets it to what one of its messages may hold.</summary>
    public long MaxAnswerBytes { get; set; } = int.MaxValue;

    /// <summary>Directory for the files of ShareMemory, e.g. <c>/dev/shm</c>; empty refuses them.</summary>
    public string SharedMemoryDir { get; set; } = "";

    /// <summary>Of the budget, most that shared regions may take, which callers of the same host put weights into. By default a third of it.</summary>
    public long SharedRegionBudgetBytes { get; set; } = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 4;

    /// <summary>Most bytes of one shared region. By default all of <see cref="SharedRegionBudgetBytes"/>.</summary>
    public long MaxSharedRegionBytes { get; set; } = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 4;

    /// <summary>Most shared regions at once.</summary>
    public int MaxSharedRegions { get; set; } = 64;

    /// <summary>Whether callers can rent shared regions. Not a setting of its own: a server sets it where it has a socket to hand them out on.</summary>
    public bool OffersSharedRegions { get; set; }

    /// <summary>Directory for snapshots of modules, made where it is missing; empty keeps none. One process has it at a time.</summary>
    public string Data { get; set; } = "";

    /// <summary>Directory of weights that callers may load by name; empty offers none.</summary>
    public string ModelsDir { get; set; } = "";

    /// <summary>Directory that callers may have weights written to by name, e.g. that of <see cref="ModelsDir"/>; empty writes none.</summary>
    public string ExportDir { get; set; } = "";

    /// <summary>Directory of plug-ins, .NET assemblies with module types of their own; empty loads none. It is code that the server runs: only the operator
    /// should be able to write there.</summary>
    public string PluginDir { get; set; } = "";

    /// <summary>Directory of TorchScript files that callers may make modules of by name, and of the list <c>SHA256SUMS</c> of those that they may; empty makes none. It is code that the server runs: only the
    /// operator should be able to write there.</summary>
    public string ScriptDir { get; set; } = "";

    /// <summary>Operators that TorchScript files may use beside those of the server's own list, with commas between, e.g. <c>aten::empty</c>.</summary>
    public string ScriptOperators { get; set; } = "";

    /// <summary>Most memory that a TorchScript file may take in the process that tries it, its weights included.</summary>
    public long ScriptTrialMemoryBytes { get; set; } = 8L << 30;

    /// <summary>How long that process may take to load the file and to run it.</summary>
    public TimeSpan ScriptTrialTimeout { get; set; } = TimeSpan.FromMinutes(2);

    /// <summary>How long one call of a TorchScript module, or one backward through it, may run. One that runs on cannot be stopped: see <see cref="EngineHost.OnScriptOverdue"/>.</summary>
    public TimeSpan ScriptTimeout { get; set; } = TimeSpan.FromMinutes(5);

    /// <summary>Gives the command line by which the program that hosts the engine is started once more with these arguments, for that process. Not a setting: it is for programs that cannot be
    /// started as they were. See <see cref="Weights.Script.ScriptTrialProcess"/>.</summary>
    public Func<IReadOnlyList<string>, System.Diagnostics.ProcessStartInfo> ScriptTrialCommand { get; set; } = Weights.Script.ScriptTrial.Command;

    /// <summary>What is wrong with the options, each as a sentence that names the setting; empty where all is well.</summary>
    public IReadOnlyList<string> Validate()
    {
        var errors = new List<string>();
        if (Device is not "cpu")
        {
            errors.Add($"{nameof(Device)} is \"{Device}\"; it must be \"cpu\": this build has no other device");
        }

        AbsoluteDirectory(SharedMemoryDir, nameof(SharedMemoryDir));
        AbsoluteDirectory(ModelsDir, nameof(ModelsDir));
        AbsoluteDirectory(ExportDir, nameof(ExportDir));
        if (Data.Length > 0 && ExportDir.Length > 0 && (IsIn(Data, ExportDir) || IsIn(ExportDir, Data)))
        {
            errors.Add($"{nameof(ExportDir)} is \"{ExportDir}\" and {nameof(Data)} is \"{Data}\"; neither may be in the other: what callers write could take the place of snapshots");
        }
        AbsoluteDirectory(ScriptDir, nameof(ScriptDir));
        foreach (var (value, name) in ((string, string)[])[(ExportDir, nameof(ExportDir)), (Data, nameof(Data))])
        {
            if (ScriptDir.Length > 0 && value.Length > 0 && (IsIn(value, ScriptDir) || IsIn(ScriptDir, value)))
            {
                errors.Add($"{name} is \"{value}\" and {nameof(ScriptDir)} is \"{ScriptDir}\"; neither may be in the other: what callers have written would be among the files that you vouch for");
            }
        }

        try
        {
            _ = Weights.Script.ScriptOperators.With(ScriptOperators);
        }
        catch (EngineException exception)
        {
            errors.Add($"{nameof(ScriptOperators)} is wrong: {exception.Message}");
        }

        if (PluginDir.Length > 0 && !Directory.Exists(PluginDir))
        {
            errors.Add($"{nameof(PluginDir)} is \"{PluginDir}\"; there is no such directory: make it, or leave the setting empty");
        }

        AtLeast(Lanes, 1, nameof(Lanes));
        AtLeast(IntraOpThreads, 1, nameof(IntraOpThreads));
        AtLeast(MemoryBudgetBytes, 1, nameof(MemoryBudgetBytes));
        AtLeast(GraphBudgetBytes, 0, nameof(GraphBudgetBytes));
        AtLeast(KeptTensorBudgetBytes, 0, nameof(KeptTensorBudgetBytes));
        AtLeast(SharedRegionBudgetBytes, 0, nameof(SharedRegionBudgetBytes));
        AtLeast(MaxSharedRegionBytes, 1, nameof(MaxSharedRegionBytes));
        AtLeast(MaxSharedRegions, 1, nameof(MaxSharedRegions));
        AtMost(MaxSharedRegions, 4096, nameof(MaxSharedRegions));
        AtLeast(MaxQueue, 1, nameof(MaxQueue));
        AtLeast(MaxQueuePerModule, 1, nameof(MaxQueuePerModule));
        AtLeast(MaxGraphsPerModule, 1, nameof(MaxGraphsPerModule));
        AtLeast(MaxModules, 1, nameof(MaxModules));
        AtLeast(MaxSessions, 1, nameof(MaxSessions));
        AtLeast(MaxKeptTensors, 1, nameof(MaxKeptTensors));
        AtLeast(MaxHooksPerModule, 0, nameof(MaxHooksPerModule));
        AtLeast(MaxWatchersPerModule, 0, nameof(MaxWatchersPerModule));
        AtLeast(ScriptTrialMemoryBytes, 1 << 20, nameof(ScriptTrialMemoryBytes));
        Positive(ScriptTrialTimeout, nameof(ScriptTrialTimeout));
        Positive(ScriptTimeout, nameof(ScriptTimeout));
        AtLeast(MaxSpecDepth, 1, nameof(MaxSpecDepth));
        AtLeast(MaxSubmodules, 1, nameof(MaxSubmodules));
        AtMost(Lanes, 256, nameof(Lanes));
        AtMost(MaxSpecDepth, 256, nameof(MaxSpecDepth));
        Positive(GraphTtl, nameof(GraphTtl));
        Positive(KeptTensorTtl, nameof(KeptTensorTtl));
        Positive(MaxTtl, nameof(MaxTtl));
        NotAboveMax(GraphTtl, nameof(GraphTtl));
        NotAboveMax(KeptTensorTtl, nameof(KeptTensorTtl));
        return errors;

        static bool IsIn(string inner, string outer) =>
            (Path.TrimEndingDirectorySeparator(Path.GetFullPath(inner)) + Path.DirectorySeparatorChar).StartsWith(
                Path.TrimEndingDirectorySeparator(Path.GetFullPath(outer)) + Path.DirectorySeparatorChar, StringComparison.Ordinal);

        void AbsoluteDirectory(string value, string name)
        {
            if (value.Length > 0 && !(Path.IsPathRooted(value) && Directory.Exists(value)))
            {
                errors.Add($"{name} is \"{value}\"; it must be the absolute path of a directory that exists, or empty");
            }
        }

        void AtLeast(long value, long least, string name)
        {
            if (value < least)
            {
                errors.Add($"{name} is {value}; it must be >= {least}");
            }
        }

        void AtMost(long value, long most, string name)
        {
            if (value > most)
            {
                errors.Add($"{name} is {value}; it must be <= {most}");
            }
        }

        void Positive(TimeSpan value, string name)
        {
            if (value <= TimeSpan.Zero)
            {
                errors.Add($"{name} is {Seconds(value)}; it must be > 0s");
            }
        }

        void NotAboveMax(TimeSpan value, string name)
        {
            if (value > MaxTtl)
            {
                errors.Add($"{name} is {Seconds(value)}; it must be <= {nameof(MaxTtl)}, which is {Seconds(MaxTtl)}");
            }
        }
    }

    /// <summary>The values in force by setting name, e.g. <c>max_queue</c>.</summary>
    public IReadOnlyDictionary<string, string> Describe() => new SortedDictionary<string, string>(StringComparer.Ordinal)
    {
        ["device"] = Device,
        ["lanes"] = Number(Lanes),
        ["intra_op_threads"] = Number(IntraOpThreads),
        ["memory_budget_bytes"] = Number(MemoryBudgetBytes),
        ["graph_budget_bytes"] = Number(GraphBudgetBytes),
        ["graph_ttl"] = Seconds(GraphTtl),
        ["kept_tensor_budget_bytes"] = Number(KeptTensorBudgetBytes),
        ["kept_tensor_ttl"] = Seconds(KeptTensorTtl),
        ["shared_region_budget_bytes"] = Number(SharedRegionBudgetBytes),
        ["max_shared_region_bytes"] = Number(MaxSharedRegionBytes),
        ["max_shared_regions"] = Number(MaxSharedRegions),
        ["max_ttl"] = Seconds(MaxTtl),
        ["max_queue"] = Number(MaxQueue),
        ["max_queue_per_module"] = Number(MaxQueuePerModule),
        ["max_graphs_per_module"] = Number(MaxGraphsPerModule),
        ["max_modules"] = Number(MaxModules),
        ["max_sessions"] = Number(MaxSessions),
        ["max_kept_tensors"] = Number(MaxKeptTensors),
        ["max_hooks_per_module"] = Number(MaxHooksPerModule),
        ["max_watchers_per_module"] = Number(MaxWatchersPerModule),
        ["max_spec_depth"] = Number(MaxSpecDepth),
        ["max_submodules"] = Number(MaxSubmodules),
    };

    private static string Number(long value) => value.ToString(CultureInfo.InvariantCulture);

    /// <summary>A duration as settings are written.</summary>
    internal static string Seconds(TimeSpan value) => string.Create(CultureInfo.InvariantCulture, $"{value.TotalSeconds}s");
}
