using Sconce.Engine.Snapshots;

namespace Sconce.Engine.Execution;

/// <content>Modules out of snapshots.</content>
public sealed partial class EngineHost
{
    /// <summary>Makes a module of what a snapshot holds, in the place of the one that has the name.</summary>
    /// <param name="name">The name that it is to have.</param>
    /// <param name="image">What the snapshot holds; read while the call runs, and stays the caller's.</param>
    /// <param name="ifGeneration">The generation that the module must be at which is there; null takes any.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    /// <exception cref="EngineException">The module does not fit the memory budget, or what builds it has changed; then all is as before.</exception>
    internal async Task<HostedModule> RestoreModuleAsync(string name, ImageReader image, ulong? ifGeneration, CancellationToken cancellationToken)
    {
        Ids.Check(name, "module");
        if (_modules.TryGetValue(name, out var former))
        {
            // Both are there for a moment: the old one stays until nothing can fail any more.
            return await former.Change(ifGeneration, () =>
            {
                var made = Restored(name, image);
                Publish(made);
                former.State.DisposeReplaced();
                return made;
            }, cancellationToken).ConfigureAwait(false);
        }

        Reserve(name);
        try
        {
            return Publish(await Run(() => Restored(name, image), cancellationToken).ConfigureAwait(false));
        }
        catch
        {
            Unreserve(name);
            throw;
        }
    }

    private HostedModule Restored(string name, ImageReader image)
    {
        var charge = new MemoryCharge(Ledger, MemoryUse.Modules, "the module", name);
        var hosted = Host(name, charge, random => image.Tree(_services, random, charge));
        try
        {
            image.Complete(hosted.State);
            return hosted;
        }
        catch
        {
            hosted.State.Dispose();
            throw;
        }
    }
}
