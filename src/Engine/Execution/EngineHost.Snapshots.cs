using Sconce.Engine.Snapshots;

namespace Sconce.Engine.Execution;

/// <content>Modules out of snapshots.</content>
public sealed partial class EngineHost
{
    /// <summary>The modules that are on disk.</summary>
    /// <exception cref="EngineException">The host has no directory for them.</exception>
    public DurableModules Durable => _services.RequireDurable();

    /// <summary>Whether the host has a directory for snapshots.</summary>
    public bool IsDurable => _services.Durable is not null;

    /// <summary>Whether modules of the last run are still to be restored (<see cref="DurableModules.RestoreAllAsync"/>).</summary>
    public bool IsRestoring => _services.Durable is { IsRestoring: true };

    /// <summary>Whether there is a module of a name still, and not another that was made under it since.</summary>
    internal bool Holds(string name, DateTimeOffset created) => _modules.Find(name)?.State.Created == created;

    /// <summary>Makes a module of what a snapshot holds, in the place of the one that has the name.</summary>
    /// <param name="name">The name that it is to have.</param>
    /// <param name="image">What the snapshot holds; read while the call runs, and stays the caller's.</param>
    /// <param name="ifGeneration">The generation that the module must be at which is there; null takes any.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    /// <exception cref="EngineException">The module does not fit the memory budget, or what builds it has changed; then all is as before.</exception>
    internal async Task<HostedModule> RestoreModuleAsync(string name, ImageReader image, ulong? ifGeneration, CancellationToken cancellationToken)
    {
        Ids.Check(name, "module");
        var once = OnceCall.Current;
        if (_modules.Find(name) is { } former)
        {
            // Both are there for a moment: the old one stays until nothing can fail any more.
            return await former.Change(ifGeneration, () =>
            {
                var made = Restored(name, image, once);
                made.State.Follow(former.State.Generation);
                _modules.Publish(made);
                former.State.DisposeReplaced();
                return made;
            }, cancellationToken).ConfigureAwait(false);
        }

        Reserve(name, isRestored: true);
        try
        {
            return _modules.Publish(await Run(() => Restored(name, image, once), cancellationToken).ConfigureAwait(false));
        }
        catch
        {
            _modules.Unreserve(name);
            throw;
        }
    }

    private HostedModule Restored(string name, ImageReader image, OnceCall? once)
    {
        var charge = new MemoryCharge(Ledger, MemoryUse.Modules, "the module", name);
        var hosted = Host(name, charge, random => image.Tree(_services, random, charge));
        try
        {
            image.Complete(hosted.State);

            // Last, as all before it can fail; and before anybody can repeat one of them on the module.
            if (Recall is { } recall && image.Calls.Count > 0)
            {
                foreach (var call in recall(image.Calls))
                {
                    hosted.State.Calls.Add(call);
                }
            }

            hosted.State.Calls.Made(once);
            return hosted;
        }
        catch
        {
            hosted.State.Dispose();
            throw;
        }
    }
}
