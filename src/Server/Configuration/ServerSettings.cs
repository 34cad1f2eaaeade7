using static Sconce.Server.ServerSetting;

namespace Sconce.Server;

/// <summary>Every setting of the server, in the order in which they are printed.</summary>
public static class ServerSettings
{
    /// <summary>The settings.</summary>
    public static IReadOnlyList<ServerSetting> All { get; } =
    [
        Text("address", "IP address to listen on; none for no TCP. Anything but loopback needs insecure.", o => o.Address, (o, v) => o.Address = v),
        Integer("port", "TCP port; 0 takes a free one and prints it.", o => o.Port, (o, v) => o.Port = v),
        Text("unix_socket", "Path of a Unix socket to listen on as well.", o => o.UnixSocket, (o, v) => o.UnixSocket = v),
        Text("shared_memory_socket", "Path of a Unix socket on which callers of this host and user rent shared memory to load weights from; empty offers none.", o => o.SharedMemorySocket, (o, v) => o.SharedMemorySocket = v),
        Flag("insecure", "Allow plaintext on an address that other machines can reach.", o => o.Insecure, (o, v) => o.Insecure = v),
        Text("address_file", "File to write the chosen addresses to, once the server accepts calls.", o => o.AddressFile, (o, v) => o.AddressFile = v),
        Flag("reflection", "Serve gRPC reflection.", o => o.Reflection, (o, v) => o.Reflection = v),
        Choice("log_level", "Least severe log level written; debug logs every call.", o => o.LogLevel, (o, v) => o.LogLevel = v),
        Choice("log_format", "How log lines are written: text for people, json (compact) for machines.", o => o.LogFormat, (o, v) => o.LogFormat = v),
        Bytes("max_message_bytes", "Most bytes of one message, after decompression.", o => o.MaxMessageBytes, (o, v) => o.MaxMessageBytes = v),
        Integer("max_calls_per_connection", "Most calls open at once on one connection.", o => o.MaxCallsPerConnection, (o, v) => o.MaxCallsPerConnection = v),
        Duration("drain_timeout", "How long work in flight may take to finish at shutdown.", o => o.DrainTimeout, (o, v) => o.DrainTimeout = v),
        Duration("request_id_retention", "How long the answer to a request_id is remembered.", o => o.RequestIdRetention, (o, v) => o.RequestIdRetention = v),
        Integer("request_id_capacity", "Most answers remembered.", o => o.RequestIdCapacity, (o, v) => o.RequestIdCapacity = v),
        Bytes("request_id_max_bytes", "Most bytes of remembered answers together.", o => o.RequestIdMaxBytes, (o, v) => o.RequestIdMaxBytes = v),
        Integer("stream_in_flight", "Most requests of one stream worked on at once.", o => o.StreamInFlight, (o, v) => o.StreamInFlight = v),
        Duration("stream_idle_timeout", "Longest silence within an upload or download of state.", o => o.StreamIdleTimeout, (o, v) => o.StreamIdleTimeout = v),
        Bytes("stream_min_bytes_per_second", "Least average rate of an upload, after a grace of 5 seconds.", o => o.StreamMinBytesPerSecond, (o, v) => o.StreamMinBytesPerSecond = v),
        Duration("upload_ttl", "How long a resumable upload is kept after its stream broke.", o => o.UploadTtl, (o, v) => o.UploadTtl = v),
        Integer("max_uploads", "Most resumable uploads at once.", o => o.MaxUploads, (o, v) => o.MaxUploads = v),
        Duration("session_heartbeat", "Time between heartbeats of an open session.", o => o.SessionHeartbeat, (o, v) => o.SessionHeartbeat = v),
        Text("device", "Device that this process owns, e.g. cpu.", o => o.Engine.Device, (o, v) => o.Engine.Device = v),
        Integer("lanes", "Compute threads.", o => o.Engine.Lanes, (o, v) => o.Engine.Lanes = v),
        Integer("intra_op_threads", "Threads that one operation of libtorch may use.", o => o.Engine.IntraOpThreads, (o, v) => o.Engine.IntraOpThreads = v),
        Bytes("memory_budget_bytes", "Most that modules, tensors, optimizer state and graphs may take together.", o => o.Engine.MemoryBudgetBytes, (o, v) => o.Engine.MemoryBudgetBytes = v),
        Bytes("graph_budget_bytes", "Most that live graphs may take, as estimated.", o => o.Engine.GraphBudgetBytes, (o, v) => o.Engine.GraphBudgetBytes = v),
        Duration("graph_ttl", "How long a live graph is kept where the caller does not say.", o => o.Engine.GraphTtl, (o, v) => o.Engine.GraphTtl = v),
        Bytes("kept_tensor_budget_bytes", "Most that kept tensors may take.", o => o.Engine.KeptTensorBudgetBytes, (o, v) => o.Engine.KeptTensorBudgetBytes = v),
        Duration("kept_tensor_ttl", "How long an unused kept tensor is kept where the caller does not say.", o => o.Engine.KeptTensorTtl, (o, v) => o.Engine.KeptTensorTtl = v),
        Bytes("shared_region_budget_bytes", "Most that shared regions may take.", o => o.Engine.SharedRegionBudgetBytes, (o, v) => o.Engine.SharedRegionBudgetBytes = v),
        Bytes("max_shared_region_bytes", "Most bytes of one shared region.", o => o.Engine.MaxSharedRegionBytes, (o, v) => o.Engine.MaxSharedRegionBytes = v),
        Integer("max_shared_regions", "Most shared regions at once.", o => o.Engine.MaxSharedRegions, (o, v) => o.Engine.MaxSharedRegions = v),
        Duration("max_ttl", "Longest time to live that a caller may ask for.", o => o.Engine.MaxTtl, (o, v) => o.Engine.MaxTtl = v),
        Integer("max_queue", "Most calls waiting for a lane, over all modules.", o => o.Engine.MaxQueue, (o, v) => o.Engine.MaxQueue = v),
        Integer("max_queue_per_module", "Most calls waiting for one module.", o => o.Engine.MaxQueuePerModule, (o, v) => o.Engine.MaxQueuePerModule = v),
        Integer("max_graphs_per_module", "Most live graphs of one module.", o => o.Engine.MaxGraphsPerModule, (o, v) => o.Engine.MaxGraphsPerModule = v),
        Integer("max_modules", "Most modules.", o => o.Engine.MaxModules, (o, v) => o.Engine.MaxModules = v),
        Integer("max_sessions", "Most open sessions.", o => o.Engine.MaxSessions, (o, v) => o.Engine.MaxSessions = v),
        Integer("max_kept_tensors", "Most kept tensors.", o => o.Engine.MaxKeptTensors, (o, v) => o.Engine.MaxKeptTensors = v),
        Integer("max_hooks_per_module", "Most registered hooks of one module.", o => o.Engine.MaxHooksPerModule, (o, v) => o.Engine.MaxHooksPerModule = v),
        Integer("max_watchers_per_module", "Most callers that watch the hooks of one module at once.", o => o.Engine.MaxWatchersPerModule, (o, v) => o.Engine.MaxWatchersPerModule = v),
        Integer("max_spec_depth", "Deepest nesting of a module spec.", o => o.Engine.MaxSpecDepth, (o, v) => o.Engine.MaxSpecDepth = v),
        Integer("max_submodules", "Most submodules of one module.", o => o.Engine.MaxSubmodules, (o, v) => o.Engine.MaxSubmodules = v),
        Text("shared_memory_dir", "Directory for the files of ShareMemory, e.g. /dev/shm; empty refuses them.", o => o.Engine.SharedMemoryDir, (o, v) => o.Engine.SharedMemoryDir = v),
        Text("data", "Directory in which modules that have snapshots are kept across restarts; made where it is missing, empty keeps none.", o => o.Engine.Data, (o, v) => o.Engine.Data = v),
        Text("models_dir", "Directory of weights that callers may load by name; empty offers none.", o => o.Engine.ModelsDir, (o, v) => o.Engine.ModelsDir = v),
        Text("export_dir", "Directory that callers may have weights written to; empty writes none.", o => o.Engine.ExportDir, (o, v) => o.Engine.ExportDir = v),
        Text("plugin_dir", "Directory of plug-in assemblies with module types of their own; empty loads none.", o => o.Engine.PluginDir, (o, v) => o.Engine.PluginDir = v),
        Text("script_dir", "Directory of TorchScript files that callers may make modules of, as its list SHA256SUMS says; empty makes none.", o => o.Engine.ScriptDir, (o, v) => o.Engine.ScriptDir = v),
        Text("script_operators", "Operators that TorchScript files may use beside the server's list, e.g. aten::empty,aten::rename.", o => o.Engine.ScriptOperators, (o, v) => o.Engine.ScriptOperators = v),
        Duration("script_timeout", "How long a call of a TorchScript module, or a backward through it, may run; one that runs on ends the process, for its supervisor.", o => o.Engine.ScriptTimeout, (o, v) => o.Engine.ScriptTimeout = v),
        Bytes("script_trial_memory_bytes", "Most memory that a TorchScript file may take when it is tried.", o => o.Engine.ScriptTrialMemoryBytes, (o, v) => o.Engine.ScriptTrialMemoryBytes = v),
        Duration("script_trial_timeout", "How long the trial of a TorchScript file may take.", o => o.Engine.ScriptTrialTimeout, (o, v) => o.Engine.ScriptTrialTimeout = v),
    ];

    /// <summary>Finds a setting by name, in any of its spellings: <c>max_queue</c>, <c>max-queue</c>, <c>MaxQueue</c>.</summary>
    /// <param name="name">The name.</param>
    public static ServerSetting? Find(string name)
    {
        var bare = Bare(name);
        return All.FirstOrDefault(setting => string.Equals(Bare(setting.Name), bare, StringComparison.OrdinalIgnoreCase));
    }

    /// <summary>The setting whose name is nearest to a mistyped one, or null where none is near.</summary>
    internal static ServerSetting? Nearest(string name)
    {
        var bare = Bare(name).ToUpperInvariant();
        var (distance, nearest) = All.Select(setting => (Distance(bare, Bare(setting.Name).ToUpperInvariant()), setting)).MinBy(pair => pair.Item1);
        return distance <= Math.Max(2, bare.Length / 3) ? nearest : null;
    }

    private static string Bare(string name) => name.Replace("_", "", StringComparison.Ordinal).Replace("-", "", StringComparison.Ordinal);

    private static int Distance(string a, string b)
    {
        var row = Enumerable.Range(0, b.Length + 1).ToArray();
        for (var i = 1; i <= a.Length; i++)
        {
            var diagonal = row[0];
            row[0] = i;
            for (var j = 1; j <= b.Length; j++)
            {
                (diagonal, row[j]) = (row[j], Math.Min(Math.Min(row[j] + 1, row[j - 1] + 1), diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)));
            }
        }

        return row[^1];
    }
}
