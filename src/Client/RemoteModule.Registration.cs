using Google.Protobuf;
using Sconce.V1;

namespace Sconce.Client;

public sealed partial class RemoteModule
{
    /// <summary>
    /// Registers a parameter (nn.Module.register_parameter): a new one, or the value of an existing one, which keeps its shape and its place in optimizers.
    /// </summary>
    /// <param name="name">Its name here: no ".", and no other kind of attribute's name.</param>
    /// <param name="tensor">Its value; <see cref="TensorData.None"/> registers None.</param>
    /// <param name="requiresGrad">Whether autograd is to follow it; only floating and complex ones can be followed.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<Module> RegisterParameterAsync(string name, TensorData tensor, bool requiresGrad = true, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        ArgumentNullException.ThrowIfNull(tensor);
        var request = new RegisterParameterRequest
        {
            Module = Name,
            Path = Path,
            Name = name,
            Tensor = tensor.ToMessage(),
            RequiresGrad = requiresGrad,
            RequestId = NewRequestId(),
        };
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        return (await SendAsync(Rpc.Modules.RegisterParameterAsync, request, cancellationToken).ConfigureAwait(false)).Module;
    }

    /// <summary>
    /// Makes a parameter the same one as another, as <c>lm_head.weight = wte.weight</c> in Python: <c>model.GetSubmodule("lm_head").TieParameterAsync("weight", "wte.weight")</c>.
    /// </summary>
    /// <param name="name">Its name here.</param>
    /// <param name="share">Dotted name of the other, from the root of the whole module.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<Module> TieParameterAsync(string name, string share, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        ArgumentException.ThrowIfNullOrEmpty(share);
        var request = new RegisterParameterRequest { Module = Name, Path = Path, Name = name, Share = share, RequestId = NewRequestId() };
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        return (await SendAsync(Rpc.Modules.RegisterParameterAsync, request, cancellationToken).ConfigureAwait(false)).Module;
    }

    /// <summary>Registers a buffer (nn.Module.register_buffer), or registers an existing one anew.</summary>
    /// <param name="name">Its name here: no ".", and no other kind of attribute's name.</param>
    /// <param name="tensor">Its value; <see cref="TensorData.None"/> registers None.</param>
    /// <param name="persistent">Whether the state dict holds it.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<Module> RegisterBufferAsync(string name, TensorData tensor, bool persistent = true, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        ArgumentNullException.ThrowIfNull(tensor);
        var request = new RegisterBufferRequest
        {
            Module = Name,
            Path = Path,
            Name = name,
            Tensor = tensor.ToMessage(),
            Persistent = persistent,
            RequestId = NewRequestId(),
        };
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        return (await SendAsync(Rpc.Modules.RegisterBufferAsync, request, cancellationToken).ConfigureAwait(false)).Module;
    }

    /// <summary>
    /// Adds a new child (nn.Module.add_module), in the place of the one of that name or after the others: so the head of a trained
    /// network is replaced. It is in training mode, save where a train policy holds it.
    /// </summary>
    /// <param name="name">Its name here: no ".", and no other kind of attribute's name.</param>
    /// <param name="spec">What to build.</param>
    /// <param name="seed">Seed of the initial values; null draws them from the module's random stream.</param>
    /// <param name="dtype">Floating dtype of its parameters and buffers; null is float32.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    /// <returns>The child.</returns>
    public Task<RemoteModule> AddModuleAsync(
        string name, ModuleSpec spec, long? seed = null, DataType? dtype = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(spec);
        var request = new AddModuleRequest { Spec = spec, Dtype = dtype ?? DataType.Unspecified };
        if (seed is { } number)
            request.Seed = number;
        return AddModuleAsync(name, request, cancellationToken);
    }

    /// <summary>Adds a child that is in the module already: both names are then the same module, sharing its parameters.</summary>
    /// <param name="name">Its name here.</param>
    /// <param name="child">A submodule of the same module.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    /// <returns>The child under its new name.</returns>
    public Task<RemoteModule> AddModuleAsync(string name, RemoteModule child, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(child);
        if (child.Name != Name || child.Rpc != Rpc)
        {
            throw new ArgumentException($"'{child}' is no submodule of '{Name}' on its server; modules are shared within one module only.", nameof(child));
        }

        return AddModuleAsync(name, new AddModuleRequest { Share = child.Path }, cancellationToken);
    }

    /// <summary>The same as <see cref="AddModuleAsync(string, ModuleSpec, long?, DataType?, CancellationToken)"/> (nn.Module.register_module).</summary>
    /// <param name="name">Its name here.</param>
    /// <param name="spec">What to build.</param>
    /// <param name="seed">Seed of the initial values; null draws them from the module's random stream.</param>
    /// <param name="dtype">Floating dtype of its parameters and buffers; null is float32.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    /// <returns>The child.</returns>
    public Task<RemoteModule> RegisterModuleAsync(
        string name, ModuleSpec spec, long? seed = null, DataType? dtype = null, CancellationToken cancellationToken = default) =>
        AddModuleAsync(name, spec, seed, dtype, cancellationToken);

    /// <summary>Sets the extra state (nn.Module.set_extra_state): bytes that state dicts carry as uint8 under "&lt;path&gt;._extra_state".</summary>
    /// <param name="state">The bytes; null takes the extra state away.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<Module> SetExtraStateAsync(ReadOnlyMemory<byte>? state, CancellationToken cancellationToken = default)
    {
        var request = new SetExtraStateRequest { Module = Name, Path = Path, RequestId = NewRequestId() };
        if (state is { } bytes)
            request.State = UnsafeByteOperations.UnsafeWrap(bytes);
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        return (await SendAsync(Rpc.Modules.SetExtraStateAsync, request, cancellationToken).ConfigureAwait(false)).Module;
    }

    /// <summary>The extra state (nn.Module.get_extra_state); null where there is none.</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<ReadOnlyMemory<byte>?> GetExtraStateAsync(CancellationToken cancellationToken = default)
    {
        var request = new GetExtraStateRequest { Module = Name, Path = Path };
        var response = await SendAsync(Rpc.Modules.GetExtraStateAsync, request, cancellationToken).ConfigureAwait(false);

        // A bare null would become memory of no bytes.
        return response.HasState ? response.State.Memory : (ReadOnlyMemory<byte>?)null;
    }

    /// <summary>
    /// Writes the state dict to a file that other processes of the server's host can map (nn.Module.share_memory). It is a copy of one moment, unlike
    /// PyTorch's, where the processes share the memory itself.
    /// </summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    /// <returns>The file, in the safetensors layout; the next call, and the module's end, delete it.</returns>
    public Task<ShareMemoryResponse> ShareMemoryAsync(CancellationToken cancellationToken = default)
    {
        var request = new ShareMemoryRequest { Module = Name, Path = Path, RequestId = NewRequestId() };
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        return SendAsync(Rpc.Modules.ShareMemoryAsync, request, cancellationToken);
    }

    private async Task<RemoteModule> AddModuleAsync(string name, AddModuleRequest request, CancellationToken cancellationToken)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        (request.Module, request.Path, request.Name, request.RequestId) = (Name, Path, name, NewRequestId());
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        await SendAsync(Rpc.Modules.AddModuleAsync, request, cancellationToken).ConfigureAwait(false);
        return new RemoteModule(Rpc, Name, GetSubmodule(name).Path, _settings?.OfHandle);
    }
}
