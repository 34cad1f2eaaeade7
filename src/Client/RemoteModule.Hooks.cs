using System.Runtime.CompilerServices;
using Google.Protobuf.Collections;
using Grpc.Core;
using Sconce.Client.Internal;
using Sconce.V1;

namespace Sconce.Client;

public sealed partial class RemoteModule
{
    /// <summary>Registers a hook that stays until it is removed, or until its session ends.</summary>
    /// <param name="hook">The hook; its path or glob is from here. One for a type stands in the whole module, and is registered there.</param>
    /// <param name="examples">Inputs of the whole module to try it with, on a copy; null is no trial.</param>
    /// <param name="session">The session that owns it; null for none.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    /// <exception cref="InvalidOperationException">The hook is for a type, and this is a submodule.</exception>
    public async Task<RemoteHook> RegisterHookAsync(
        Hook hook, Inputs? examples = null, RemoteSession? session = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(hook);
        examples?.RefuseNamed(nameof(examples));
        // The contract has no type below a path. A hook that goes with a call may have one: it sees no more than the call runs.
        if (Path.Length > 0 && (hook.HasType || hook.HasIsinstance))
        {
            throw new InvalidOperationException(
                $"'{Name}' is narrowed to '{Path}' here, and the hook is for the type '{(hook.HasType ? hook.Type : hook.Isinstance)}', which would stand in all "
                + $"of '{Name}': give it a path or a glob (OnGlob) from here, or register it on the module without GetSubmodule.");
        }

        var request = new RegisterHookRequest { Module = Name, Hook = FromHere(hook), RequestId = NewRequestId() };
        if (session is not null)
            request.Hook.Session = session.Id;
        examples?.CopyTo(request.ExampleInputs);
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        var response = await SendAsync(Rpc.Hooks.RegisterHookAsync, request, cancellationToken).ConfigureAwait(false);
        return new RemoteHook(OfHandle, response.Hook);
    }

    /// <summary>
    /// Registers a hook before this module runs (nn.Module.register_forward_pre_hook):
    /// <c>model.RegisterForwardPreHookAsync(hook => hook.Clamp(-1, 1))</c>.
    /// </summary>
    /// <param name="write">Says what it does.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<RemoteHook> RegisterForwardPreHookAsync(Action<Hook> write, CancellationToken cancellationToken = default) =>
        RegisterAsync(Client.Hooks.ForwardPre(), write, cancellationToken);

    /// <summary>Registers a hook after this module has run (nn.Module.register_forward_hook).</summary>
    /// <param name="write">Says what it does.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<RemoteHook> RegisterForwardHookAsync(Action<Hook> write, CancellationToken cancellationToken = default) =>
        RegisterAsync(Client.Hooks.Forward(), write, cancellationToken);

    /// <summary>Registers a hook on the gradients of this module's inputs (nn.Module.register_backward_hook, which PyTorch replaced by the full one).</summary>
    /// <param name="write">Says what it does.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<RemoteHook> RegisterBackwardHookAsync(Action<Hook> write, CancellationToken cancellationToken = default) =>
        RegisterFullBackwardHookAsync(write, cancellationToken);

    /// <summary>Registers a hook on the gradients of this module's inputs (nn.Module.register_full_backward_hook).</summary>
    /// <param name="write">Says what it does.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<RemoteHook> RegisterFullBackwardHookAsync(Action<Hook> write, CancellationToken cancellationToken = default) =>
        RegisterAsync(Client.Hooks.Backward(), write, cancellationToken);

    /// <summary>Registers a hook on the gradients of this module's outputs (nn.Module.register_full_backward_pre_hook).</summary>
    /// <param name="write">Says what it does.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<RemoteHook> RegisterFullBackwardPreHookAsync(Action<Hook> write, CancellationToken cancellationToken = default) =>
        RegisterAsync(Client.Hooks.BackwardPre(), write, cancellationToken);

    /// <summary>Registers a hook on the entries of this module's state dict when it is read (nn.Module.register_state_dict_post_hook).</summary>
    /// <param name="write">Says what it does.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<RemoteHook> RegisterStateDictHookAsync(Action<Hook> write, CancellationToken cancellationToken = default) =>
        RegisterAsync(Client.Hooks.StateDict(), write, cancellationToken);

    /// <summary>Registers a hook on the entries of a state dict before it is loaded (nn.Module.register_load_state_dict_pre_hook).</summary>
    /// <param name="write">Says what it does.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<RemoteHook> RegisterLoadStateDictPreHookAsync(Action<Hook> write, CancellationToken cancellationToken = default) =>
        RegisterAsync(Client.Hooks.LoadStateDictPre(), write, cancellationToken);

    /// <summary>The registered hooks that stand here or below, in the order they run in, and the filled slots of the module.</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<ListHooksResponse> ListHooksAsync(CancellationToken cancellationToken = default) =>
        SendAsync(Rpc.Hooks.ListHooksAsync, new ListHooksRequest { Module = Name, Path = Path }, cancellationToken);

    /// <summary>Removes a registered hook; no other is touched.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task RemoveHookAsync(string id, CancellationToken cancellationToken = default)
    {
        var request = new RemoveHookRequest { Module = Name, Hook = id, RequestId = NewRequestId() };
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        await SendAsync(Rpc.Hooks.RemoveHookAsync, request, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>
    /// Reads what registered hooks of the module capture: <c>await foreach (var seen in model.WatchHooksAsync())</c>. The first event is empty and
    /// comes as soon as nothing is missed any more. It ends when the hook is removed. A reader that is too slow loses whole captures and is told
    /// how many. Opening it is repeated and limited in time as a call is; one that breaks later throws, since captures may have been missed.
    /// </summary>
    /// <param name="hook">The hook's id; empty watches all.</param>
    /// <param name="buffer">Captures that the server holds for this reader.</param>
    /// <param name="cancellationToken">Ends it.</param>
    /// <exception cref="ArgumentOutOfRangeException">The buffer is negative.</exception>
    public IAsyncEnumerable<HookEvent> WatchHooksAsync(string hook = "", int buffer = 64, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(hook);
        ArgumentOutOfRangeException.ThrowIfNegative(buffer);
        return WatchAsync(new WatchHookRequest { Module = Name, Hook = hook, Buffer = (uint)buffer }, cancellationToken);
    }

    internal ModuleRef ToRef() => new() { Module = Name, Path = Path };

    /// <summary>Adds hooks to a request, their paths from the whole module.</summary>
    internal void CopyHooks(IReadOnlyList<Hook> hooks, RepeatedField<Hook> to)
    {
        foreach (var hook in hooks)
            to.Add(FromHere(hook));
    }

    private async IAsyncEnumerable<HookEvent> WatchAsync(WatchHookRequest request, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        using var watch = await LastingStream.OpenAsync(Rpc, Rpc.Hooks.WatchHook, request, _settings, cancellationToken).ConfigureAwait(false);
        using var stop = cancellationToken.Register(watch.Cancel);
        do
        {
            var message = watch.Current;
            yield return new HookEvent(message.Capture is null ? null : new HookObservation(message.Capture), message.Detached, (long)message.Dropped);
        }
        while (await NextAsync().ConfigureAwait(false));

        async Task<bool> NextAsync()
        {
            try
            {
                return await watch.MoveNextAsync().ConfigureAwait(false);
            }
            catch (RpcException e)
            {
                throw Rpc.Broken(e, nameof(WatchHookRequest), cancellationToken);
            }
        }
    }

    private Task<RemoteHook> RegisterAsync(Hook hook, Action<Hook> write, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(write);
        write(hook);
        return RegisterHookAsync(hook, cancellationToken: cancellationToken);
    }

    // The server counts paths from the whole module.
    private Hook FromHere(Hook hook)
    {
        var placed = hook.Clone();
        if (Path.Length > 0)
        {
            if (placed.HasGlob)
                placed.Glob = $"{Path}.{placed.Glob}";
            else if (!placed.HasType && !placed.HasIsinstance) // a type: of what the call runs, which begins here
                placed.Path = placed.Path.Length == 0 ? Path : $"{Path}.{placed.Path}";
        }

        return placed;
    }
}
