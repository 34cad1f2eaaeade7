using Microsoft.Extensions.Logging;

namespace Sconce.Engine.Execution;

/// <summary>What every hosted module shares with its host.</summary>
internal sealed record HostServices(
    EngineOptions Options, LanePool Lanes, Admission Admission, MemoryLedger Ledger, SessionTable Sessions, KeptTensors Tensors, TimeProvider Time, ILogger Logger, Func<string, HostedModule?> FindModule)
{
    /// <summary>What is used of the interface.</summary>
    public required ApiUsage Usage { get; init; }
}
