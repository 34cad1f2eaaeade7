using Sconce.Engine.Snapshots;

namespace Sconce.Engine.Execution;

/// <content>Snapshots.</content>
public sealed partial class HostedModule
{
    /// <summary>Copies all of the module, for a snapshot. The module is busy for the copy alone.</summary>
    /// <param name="ifGeneration">The generation that the module must be at; null takes any.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    internal Task<ModuleImage> CaptureAsync(ulong? ifGeneration, CancellationToken cancellationToken) => Read(() =>
    {
        _state.Begin(ifGeneration);
        return ModuleImage.Of(_state, _host.Ledger);
    }, cancellationToken);
}
