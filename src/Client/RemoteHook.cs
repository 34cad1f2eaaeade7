using Sconce.V1;

namespace Sconce.Client;

/// <summary>A hook that was registered on a module; PyTorch's RemovableHandle.</summary>
/// <remarks>It is a name: letting go of it leaves the hook in place. A hook that should go with this process belongs to a session.</remarks>
public sealed class RemoteHook
{
    private readonly RemoteModule _module;

    internal RemoteHook(RemoteModule module, HookInfo info)
    {
        _module = module;
        Id = info.Hook.Id;
        Paths = info.Paths;
    }

    /// <summary>Its id in the module.</summary>
    public string Id { get; }

    /// <summary>Paths of the submodules where it stood when it was registered, from the whole module.</summary>
    public IReadOnlyList<string> Paths { get; }

    /// <summary>Removes it: when this has returned it never fires again. One that is gone already is no error.</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task RemoveAsync(CancellationToken cancellationToken = default)
    {
        try
        {
            await _module.RemoveHookAsync(Id, cancellationToken).ConfigureAwait(false);
        }
        catch (SconceNotFoundException)
        {
            // Removed, its session ended, or its module deleted: what was wanted.
        }
    }

    /// <summary>Reads what it captures, from now on: see <see cref="RemoteModule.WatchHooksAsync"/>.</summary>
    /// <param name="buffer">Captures that the server holds for this reader.</param>
    /// <param name="cancellationToken">Ends it.</param>
    public IAsyncEnumerable<HookEvent> WatchAsync(int buffer = 64, CancellationToken cancellationToken = default) =>
        _module.WatchHooksAsync(Id, buffer, cancellationToken);
}
