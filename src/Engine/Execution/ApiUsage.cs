using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using Microsoft.Extensions.Logging;
using Sconce.Engine.Modules;

namespace Sconce.Engine.Execution;

/// <summary>
/// What is used of the interface: counted by a meter, and logged once in the life of the process (in the sense of torch's
/// <c>_log_api_usage_once</c>). May be used from any thread.
/// </summary>
public sealed class ApiUsage : IDisposable
{
    /// <summary>Name of the meter; its counters are <c>sconce.modules.created</c> by <c>type</c> and <c>sconce.calls</c> by <c>method</c>.</summary>
    public const string MeterName = "Sconce";

    private readonly ConcurrentDictionary<string, bool> _types = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, bool> _methods = new(StringComparer.Ordinal);
    private readonly Counter<long> _created;
    private readonly Counter<long> _calls;
    private readonly ILogger _log;

    internal ApiUsage(ILogger log)
    {
        _log = log;
        Meter = new Meter(MeterName);
        _created = Meter.CreateCounter<long>("sconce.modules.created", "{module}", "Modules created, submodules included, by type.");
        _calls = Meter.CreateCounter<long>("sconce.calls", "{call}", "Calls begun, by method.");
    }

    /// <summary>The meter: of this host alone, where a process has several.</summary>
    internal Meter Meter { get; }

    /// <summary>A method is called.</summary>
    /// <param name="method">Its full name, e.g. <c>/sconce.v1.ModuleService/Train</c>.</param>
    public void Called(string method)
    {
        ArgumentNullException.ThrowIfNull(method);
        if (_calls.Enabled)
        {
            _calls.Add(1, new KeyValuePair<string, object?>("method", method));
        }

        // Looked up first: that takes no lock, and every call comes by here.
        if (!_methods.ContainsKey(method) && _methods.TryAdd(method, true))
        {
            Log.FirstUse(_log, "method", method);
        }
    }

    /// <summary>Modules are created.</summary>
    internal void Created(ModuleNode root)
    {
        foreach (var (_, node) in ModuleTree.Walk(root))
        {
            var type = node.TypeName;
            _created.Add(1, new KeyValuePair<string, object?>("type", type));
            if (_types.TryAdd(type, true))
            {
                Log.FirstUse(_log, "type", type);
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Meter.Dispose();
}
