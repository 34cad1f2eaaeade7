using Google.Protobuf.WellKnownTypes;
using Grpc.Net.Client;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Sconce.Client.Internal;
using Sconce.V1;

namespace Sconce.Client;

/// <summary>
/// A Sconce server: its device, its modules, the tensors it keeps. Make one for each server and share it; all members may be used from
/// many threads at once.
/// </summary>
/// <remarks>
/// Calls throw <see cref="SconceException"/>. The connection is made by the first call, and again by itself after a server restart: calls
/// made
/// meanwhile wait and repeat as <see cref="SconceClientOptions.Retry"/> allows.
/// </remarks>
public sealed class SconceClient : IAsyncDisposable, IDisposable
{
    private readonly Rpc _rpc;
    private readonly GrpcChannel? _owned;
    private readonly CallSettings? _settings;

    /// <summary>A client of the server at an address.</summary>
    /// <param name="address"><c>http://host:port</c>, <c>https://host:port</c> or <c>unix:/path/to.sock</c>.</param>
    /// <param name="loggerFactory">Where to log; null is nowhere.</param>
    /// <exception cref="ArgumentException">The address is of another form.</exception>
    public SconceClient(string address, ILoggerFactory? loggerFactory = null)
        : this(new SconceClientOptions { Address = address }, loggerFactory)
    {
    }

    /// <summary>A client of the server that the options name.</summary>
    /// <param name="options">The options; they are read now, and what is changed in them later changes nothing.</param>
    /// <param name="loggerFactory">Where to log; null is nowhere.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range.</exception>
    /// <exception cref="ArgumentException">The address is of another form.</exception>
    public SconceClient(SconceClientOptions options, ILoggerFactory? loggerFactory = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        var own = options.Copy();
        own.Validate(needsAddress: true);
        (_owned, var maxSendBytes) = ChannelFactory.Create(own);
        _rpc = new Rpc(_owned, own, maxSendBytes, NewLogger(loggerFactory));
    }

    /// <summary>A client over a channel that the caller made and disposes. Leave gRPC's own retries off in it.</summary>
    /// <param name="channel">The channel.</param>
    /// <param name="options">Time limits and retries; what concerns the connection is the channel's. Null is the defaults.</param>
    /// <param name="loggerFactory">Where to log; null is nowhere.</param>
    public SconceClient(GrpcChannel channel, SconceClientOptions? options = null, ILoggerFactory? loggerFactory = null)
    {
        ArgumentNullException.ThrowIfNull(channel);
        var own = options?.Copy() ?? new SconceClientOptions();
        own.Validate(needsAddress: false);
        _rpc = new Rpc(channel, own, maxSendBytes: null, NewLogger(loggerFactory));
    }

    private SconceClient(Rpc rpc, CallSettings? settings) => (_rpc, _settings) = (rpc, settings);

    /// <summary>
    /// The same client, with settings for the calls made through it, e.g. <c>client.With(new() { Timeout = TimeSpan.FromMinutes(10) })</c>. The
    /// connection stays this one's: the result needs no disposing.
    /// </summary>
    /// <param name="settings">The settings; they replace those that this one has. A generation is a module's: give it to <see cref="RemoteModule.With"/>.</param>
    /// <exception cref="ArgumentException">A generation is set.</exception>
    public SconceClient With(CallSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        if (settings.IfGeneration is { } generation)
            throw new ArgumentException($"IfGeneration is {generation}; a generation is a module's: use RemoteModule.With.", nameof(settings));
        return new SconceClient(_rpc, settings);
    }

    /// <summary>The host: device, memory, versions, limits.</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<GetHostResponse> GetHostAsync(CancellationToken cancellationToken = default) =>
        _rpc.UnaryAsync(_rpc.Host.GetHostAsync, new GetHostRequest(), _settings, cancellationToken);

    /// <summary>The catalogue: types of modules, losses, functions, optimizers and schedulers, with their arguments.</summary>
    /// <param name="kind">Only this kind; unspecified is all.</param>
    /// <param name="nameContains">Only types whose name contains this, ignoring case.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<IReadOnlyList<ModuleType>> ListModuleTypesAsync(
        TypeKind kind = TypeKind.Unspecified, string nameContains = "", CancellationToken cancellationToken = default)
    {
        var request = new ListModuleTypesRequest { Kind = kind, NameContains = nameContains };
        return (await _rpc.UnaryAsync(_rpc.Host.ListModuleTypesAsync, request, _settings, cancellationToken).ConfigureAwait(false)).Types_;
    }

    /// <summary>
    /// Builds a module: <c>client.CreateModuleAsync("mlp", Nn.Sequential(Nn.Linear(784, 128), Nn.ReLU(), Nn.Linear(128, 10)))</c>.
    /// </summary>
    /// <param name="name">Its name: letters, digits, ".", "_", "-"; at most 128.</param>
    /// <param name="spec">What to build.</param>
    /// <param name="seed">Seed for the initial values; null leaves them to the server's generator.</param>
    /// <param name="dtype">Floating dtype of parameters and buffers; null is float32.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<RemoteModule> CreateModuleAsync(
        string name, ModuleSpec spec, long? seed = null, DataType? dtype = null, CancellationToken cancellationToken = default) =>
        CreateModuleAsync(name, spec, new CreateModuleOptions { Seed = seed, DType = dtype }, cancellationToken);

    /// <summary>Builds a module that may begin with given weights, in the message, in a file of the server, or in shared memory.</summary>
    /// <param name="name">Its name: letters, digits, ".", "_", "-"; at most 128.</param>
    /// <param name="spec">What to build.</param>
    /// <param name="options">What it begins with.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<RemoteModule> CreateModuleAsync(string name, ModuleSpec spec, CreateModuleOptions options, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        ArgumentNullException.ThrowIfNull(spec);
        ArgumentNullException.ThrowIfNull(options);
        var request = new CreateModuleRequest { Module = name, Spec = spec, Dtype = options.DType ?? DataType.Unspecified, RequestId = Rpc.RequestId(_settings) };
        if (options.Seed is { } value)
            request.Seed = value;
        if (options.State is { } state)
        {
            request.State.Add(state.Select(entry => new StateTensor { Key = entry.Key, Tensor = entry.Value.ToMessage() }));
            request.StateStrict = options.StrictState;
        }

        if (options.StateFile is { } file)
            request.StateFile = options.StateFileOptions.ToFile(file, options.RootKey);
        if (options.StateRegion is { } region)
            request.StateShared = options.StateFileOptions.ToShared(region, options.StateRegionBytes, options.RootKey);
        var response = await _rpc.UnaryAsync(_rpc.Modules.CreateModuleAsync, request, _settings, cancellationToken).ConfigureAwait(false);
        return new RemoteModule(_rpc, response.Module.Name, "", _settings?.OfHandle);
    }

    /// <summary>The files of the server's models directory that <see cref="RemoteModule.LoadStateFileAsync"/> can load, by name; at most 10,000.</summary>
    /// <param name="prefix">Only names that begin with this.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<IReadOnlyList<ModelFile>> ListModelFilesAsync(string prefix = "", CancellationToken cancellationToken = default) =>
        (await _rpc.UnaryAsync(_rpc.State.ListModelFilesAsync, new ListModelFilesRequest { Prefix = prefix }, _settings, cancellationToken).ConfigureAwait(false)).Files;

    /// <summary>
    /// Rents memory that this process and a server of its host share, to put weights into that the server then loads. It needs <see cref="SconceClientOptions.SharedMemorySocket"/>. Nothing is repeated where it fails.
    /// </summary>
    /// <param name="bytes">Its size; of a state dict <see cref="SharedRegion.BytesOf"/>.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    /// <returns>The region, whose bytes are zero; the caller disposes it.</returns>
    /// <exception cref="InvalidOperationException"><see cref="SconceClientOptions.SharedMemorySocket"/> is not set.</exception>
    /// <exception cref="PlatformNotSupportedException">This is not Linux.</exception>
    /// <exception cref="SconceResourceExhaustedException">There are too many regions, or it is too large, or the server has no room for it.</exception>
    /// <exception cref="SconceUnavailableException">No server answers there.</exception>
    public Task<SharedRegion> RentSharedRegionAsync(long bytes, CancellationToken cancellationToken = default) =>
        SharedRegion.RentAsync(_rpc, bytes, _settings, cancellationToken);

    /// <summary>A module that is on the server, after asking whether it is.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    /// <exception cref="SconceNotFoundException">It is not.</exception>
    public async Task<RemoteModule> GetModuleAsync(string name, CancellationToken cancellationToken = default)
    {
        var module = Module(name);
        await module.GetAsync(cancellationToken).ConfigureAwait(false);
        return module;
    }

    /// <summary>A module by name, without a call: one that is not there is NOT_FOUND when used.</summary>
    /// <param name="name">Its name.</param>
    public RemoteModule Module(string name)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        return new RemoteModule(_rpc, name, "", _settings);
    }

    /// <summary>Summaries of the modules on the server, by name.</summary>
    /// <param name="prefix">Only names that begin with this.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<IReadOnlyList<Module>> ListModulesAsync(string prefix = "", CancellationToken cancellationToken = default)
    {
        var request = new ListModulesRequest { Prefix = prefix };
        return (await _rpc.UnaryAsync(_rpc.Modules.ListModulesAsync, request, _settings, cancellationToken).ConfigureAwait(false)).Modules;
    }

    /// <summary>The snapshots of all modules, by module, the oldest first. Those of one module: <see cref="RemoteModule.ListSnapshotsAsync"/>.</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<ListSnapshotsResponse> ListSnapshotsAsync(CancellationToken cancellationToken = default) =>
        _rpc.UnaryAsync(_rpc.State.ListSnapshotsAsync, new ListSnapshotsRequest(), _settings, cancellationToken);

    /// <summary>Deletes a snapshot for good. Its module stays; without snapshots it is not durable any more.</summary>
    /// <param name="snapshot">Its id.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task DeleteSnapshotAsync(string snapshot, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(snapshot);
        var request = new DeleteSnapshotRequest { Snapshot = snapshot, RequestId = Rpc.RequestId(_settings) };
        return _rpc.UnaryAsync(_rpc.State.DeleteSnapshotAsync, request, _settings, cancellationToken);
    }

    /// <summary>Keeps a tensor on the server, to be used as an input by reference.</summary>
    /// <param name="tensor">The tensor.</param>
    /// <param name="id">Id to keep it under; empty lets the server choose.</param>
    /// <param name="timeToLive">Time to live, restarted by each use; null is the server's <c>kept_tensor_ttl</c>.</param>
    /// <param name="session">The session that owns it; null for none.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<RemoteTensor> PutTensorAsync(
        TensorData tensor, string id = "", TimeSpan? timeToLive = null, RemoteSession? session = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        var request = new PutTensorRequest { Id = id, Tensor = tensor.ToMessage(), Session = session?.Id ?? "", RequestId = Rpc.RequestId(_settings) };
        if (timeToLive is { } ttl)
            request.Ttl = Duration.FromTimeSpan(ttl);
        var response = await _rpc.UnaryAsync(_rpc.Tensors.PutTensorAsync, request, _settings, cancellationToken).ConfigureAwait(false);
        return new RemoteTensor(_rpc, response.Tensor, _settings?.OfHandle);
    }

    /// <summary>Brings a kept tensor here.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<TensorData> GetTensorAsync(string id, CancellationToken cancellationToken = default)
    {
        var request = new GetTensorRequest { Id = id };
        return TensorData.From((await _rpc.UnaryAsync(_rpc.Tensors.GetTensorAsync, request, _settings, cancellationToken).ConfigureAwait(false)).Tensor);
    }

    /// <summary>The kept tensors, without their elements.</summary>
    /// <param name="session">Only those that this session owns; empty is all.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<IReadOnlyList<KeptTensor>> ListTensorsAsync(string session = "", CancellationToken cancellationToken = default)
    {
        var request = new ListTensorsRequest { Session = session };
        return (await _rpc.UnaryAsync(_rpc.Tensors.ListTensorsAsync, request, _settings, cancellationToken).ConfigureAwait(false)).Tensors;
    }

    /// <summary>Drops a kept tensor.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task DropTensorAsync(string id, CancellationToken cancellationToken = default) =>
        _rpc.UnaryAsync(_rpc.Tensors.DropTensorAsync, new DropTensorRequest { Id = id, RequestId = Rpc.RequestId(_settings) }, _settings, cancellationToken);

    /// <summary>Opens a session: what it owns on the server is freed when it ends, however it ends.</summary>
    /// <param name="label">A label for the server's logs.</param>
    /// <param name="cancellationToken">Stops the opening; the session itself ends by disposing.</param>
    public Task<RemoteSession> OpenSessionAsync(string label = "", CancellationToken cancellationToken = default) =>
        RemoteSession.OpenAsync(_settings is null ? this : new SconceClient(_rpc, _settings.OfHandle), _rpc, label, _settings, cancellationToken);

    /// <summary>Seeds the server process's random numbers (torch.manual_seed).</summary>
    /// <param name="seed">The seed.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task ManualSeedAsync(long seed, CancellationToken cancellationToken = default) =>
        _rpc.UnaryAsync(_rpc.Training.ManualSeedAsync, new ManualSeedRequest { Seed = seed, RequestId = Rpc.RequestId(_settings) }, _settings, cancellationToken);

    /// <summary>Closes the connection, unless the caller made the channel.</summary>
    public void Dispose() => _owned?.Dispose();

    /// <inheritdoc cref="Dispose"/>
    public ValueTask DisposeAsync()
    {
        Dispose();
        return ValueTask.CompletedTask;
    }

    private static ILogger<SconceClient> NewLogger(ILoggerFactory? loggerFactory) =>
        (loggerFactory ?? NullLoggerFactory.Instance).CreateLogger<SconceClient>();
}
