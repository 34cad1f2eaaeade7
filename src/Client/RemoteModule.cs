using Grpc.Core;
using Sconce.Client.Internal;
using Sconce.V1;

namespace Sconce.Client;

/// <summary>
/// A live nn.Module on the server, or a submodule of it. The methods are nn.Module's, under their own names; each is one call.
/// </summary>
/// <remarks>
/// It is a name, not a resource: it holds nothing on the server and may be used from many threads. Calls on one module run in the order
/// of their arrival.
/// </remarks>
public sealed partial class RemoteModule
{
    private readonly CallSettings? _settings;

    internal RemoteModule(Rpc rpc, string name, string path, CallSettings? settings)
    {
        Rpc = rpc;
        Name = name;
        Path = path;
        _settings = settings;
    }

    /// <summary>The module's name on the server.</summary>
    public string Name { get; }

    /// <summary>The submodule that this is, e.g. "layer1.0"; empty is the whole module.</summary>
    public string Path { get; }

    internal Rpc Rpc { get; }

    internal TimeSpan? Timeout => _settings?.Timeout;

    internal string? IfInstance => _settings?.IfInstance;

    /// <summary>This module for the calls of what a call returned.</summary>
    private RemoteModule OfHandle => _settings is null ? this : new RemoteModule(Rpc, Name, Path, _settings.OfHandle);

    private ulong? IfGeneration => _settings?.IfGeneration;

    /// <summary>A submodule (nn.Module.get_submodule). No call is made: one that is not there is NOT_FOUND when used.</summary>
    /// <param name="path">Its path from here, e.g. "layer1.0"; empty is this module.</param>
    public RemoteModule GetSubmodule(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        var full = Path.Length == 0 ? path : path.Length == 0 ? Path : $"{Path}.{path}";
        return new RemoteModule(Rpc, Name, full, _settings);
    }

    /// <summary>The same module, with settings for the calls made through it, e.g. <c>model.With(new() { IfGeneration = 7 })</c>.</summary>
    /// <param name="settings">The settings; they replace those that this one has.</param>
    public RemoteModule With(CallSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        return new RemoteModule(Rpc, Name, Path, settings);
    }

    /// <summary>The module with elements of known types: .NET tensors in and out.</summary>
    /// <typeparam name="TIn">Element of the input.</typeparam>
    /// <typeparam name="TOut">Element of the output.</typeparam>
    public RemoteModule<TIn, TOut> As<TIn, TOut>()
        where TIn : unmanaged
        where TOut : unmanaged => new(this);

    /// <summary>The whole module's summary: type, generation, mode, sizes, optimizers.</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<Module> GetAsync(CancellationToken cancellationToken = default)
    {
        var request = new GetModuleRequest { Module = Name };
        return (await SendAsync(Rpc.Modules.GetModuleAsync, request, cancellationToken).ConfigureAwait(false)).Module;
    }

    /// <summary>The tree from here on: types, modes, parameters, buffers, and PyTorch's printed form (Repr).</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<DescribeModuleResponse> DescribeAsync(CancellationToken cancellationToken = default) =>
        SendAsync(Rpc.Modules.DescribeModuleAsync, new DescribeModuleRequest { Module = Name, Path = Path }, cancellationToken);

    /// <summary>Sets training mode, recursively (nn.Module.train). A train policy survives it.</summary>
    /// <param name="mode">True trains, false evaluates.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<Module> TrainAsync(bool mode = true, CancellationToken cancellationToken = default)
    {
        var request = new TrainRequest { Module = Name, Path = Path, Mode = mode, RequestId = NewRequestId() };
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        return (await SendAsync(Rpc.Modules.TrainAsync, request, cancellationToken).ConfigureAwait(false)).Module;
    }

    /// <summary>Sets evaluation mode, recursively (nn.Module.eval).</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<Module> EvalAsync(CancellationToken cancellationToken = default) => TrainAsync(false, cancellationToken);

    /// <summary>Sets what train(True) must leave alone, and applies it at once.</summary>
    /// <param name="policy">The policy; null clears it.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<Module> SetTrainPolicyAsync(TrainPolicy? policy, CancellationToken cancellationToken = default)
    {
        RequireWhole("a train policy");
        var request = new SetTrainPolicyRequest { Module = Name, Policy = policy, RequestId = NewRequestId() };
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        return (await SendAsync(Rpc.Modules.SetTrainPolicyAsync, request, cancellationToken).ConfigureAwait(false)).Module;
    }

    /// <summary>Sets requires_grad of the parameters (nn.Module.requires_grad_).</summary>
    /// <param name="requiresGrad">Whether autograd records operations on them.</param>
    /// <param name="parameters">Only these, by name from here, <c>*</c> and <c>?</c> as wildcards; null is all.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<Module> RequiresGradAsync(
        bool requiresGrad = true, IEnumerable<string>? parameters = null, CancellationToken cancellationToken = default)
    {
        var request = new RequiresGradRequest
        {
            Module = Name,
            Path = Path,
            RequiresGrad = requiresGrad,
            Parameters = { parameters ?? [] },
            RequestId = NewRequestId(),
        };
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        return (await SendAsync(Rpc.Modules.RequiresGradAsync, request, cancellationToken).ConfigureAwait(false)).Module;
    }

    /// <summary>Resets gradients (nn.Module.zero_grad).</summary>
    /// <param name="setToNone">True sets them to None; false zeroes, detaches and keeps them.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<Module> ZeroGradAsync(bool setToNone = true, CancellationToken cancellationToken = default)
    {
        var request = new ZeroGradRequest { Module = Name, Path = Path, SetToNone = setToNone, RequestId = NewRequestId() };
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        return (await SendAsync(Rpc.Modules.ZeroGradAsync, request, cancellationToken).ConfigureAwait(false)).Module;
    }

    /// <summary>
    /// Converts floating and complex tensors to a dtype (nn.Module.to). Optimizers go on stepping; live graphs are invalidated.
    /// </summary>
    /// <param name="dtype">A floating or complex dtype.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<Module> ToAsync(DataType dtype, CancellationToken cancellationToken = default) =>
        ConvertAsync(Conversion.Unspecified, dtype, "", cancellationToken);

    /// <summary>Moves all tensors to a device, and converts floating and complex ones where a dtype is given (nn.Module.to).</summary>
    /// <param name="device">"cpu", "cuda" or "cuda:N"; it must be the host's.</param>
    /// <param name="dtype">A floating or complex dtype; null keeps those there are.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<Module> ToAsync(string device, DataType? dtype = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(device);
        return ConvertAsync(Conversion.Unspecified, dtype ?? DataType.Unspecified, device, cancellationToken);
    }

    /// <summary>Lays tensors of 4 and 5 dimensions out in another memory format (nn.Module.to), and converts floating and complex ones where a dtype is given.</summary>
    /// <param name="memoryFormat">channels_last for tensors of 4 dimensions, channels_last_3d for 5; the others stay.</param>
    /// <param name="dtype">A floating or complex dtype; null keeps those there are.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<Module> ToAsync(MemoryFormat memoryFormat, DataType? dtype = null, CancellationToken cancellationToken = default) =>
        ConvertAsync(Conversion.Unspecified, dtype ?? DataType.Unspecified, "", cancellationToken, memoryFormat);

    /// <summary>Gives every tensor new memory with values that are not specified (nn.Module.to_empty); shapes and dtypes stay.</summary>
    /// <param name="device">It must be the host's; null is that.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<Module> ToEmptyAsync(string? device = null, CancellationToken cancellationToken = default) =>
        ConvertAsync(Conversion.ToEmpty, DataType.Unspecified, device ?? "", cancellationToken);

    /// <summary>Moves all tensors to an IPU (nn.Module.ipu); a host without one refuses and names what it has.</summary>
    /// <param name="device">Which, e.g. "ipu:0"; null is the host's.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<Module> IpuAsync(string? device = null, CancellationToken cancellationToken = default) =>
        ConvertAsync(Conversion.Ipu, DataType.Unspecified, device ?? "", cancellationToken);

    /// <summary>Moves all tensors to an XPU (nn.Module.xpu); a host without one refuses and names what it has.</summary>
    /// <param name="device">Which, e.g. "xpu:0"; null is the host's.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<Module> XpuAsync(string? device = null, CancellationToken cancellationToken = default) =>
        ConvertAsync(Conversion.Xpu, DataType.Unspecified, device ?? "", cancellationToken);

    /// <summary>Moves all tensors to the CPU (nn.Module.cpu).</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<Module> CpuAsync(CancellationToken cancellationToken = default) =>
        ConvertAsync(Conversion.Cpu, DataType.Unspecified, "", cancellationToken);

    /// <summary>Moves all tensors to the GPU (nn.Module.cuda).</summary>
    /// <param name="device">Which, e.g. "cuda:0"; null is the host's.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<Module> CudaAsync(string? device = null, CancellationToken cancellationToken = default) =>
        ConvertAsync(Conversion.Cuda, DataType.Unspecified, device ?? "", cancellationToken);

    /// <summary>Converts every tensor, integer buffers too (nn.Module.type).</summary>
    /// <param name="dtype">The dtype.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<Module> TypeAsync(DataType dtype, CancellationToken cancellationToken = default) =>
        ConvertAsync(Conversion.Type, dtype, "", cancellationToken);

    /// <summary>Converts floating tensors to float32 (nn.Module.float).</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<Module> FloatAsync(CancellationToken cancellationToken = default) =>
        ConvertAsync(Conversion.Float, DataType.Unspecified, "", cancellationToken);

    /// <summary>Converts floating tensors to float64 (nn.Module.double).</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<Module> DoubleAsync(CancellationToken cancellationToken = default) =>
        ConvertAsync(Conversion.Double, DataType.Unspecified, "", cancellationToken);

    /// <summary>Converts floating tensors to float16 (nn.Module.half).</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<Module> HalfAsync(CancellationToken cancellationToken = default) =>
        ConvertAsync(Conversion.Half, DataType.Unspecified, "", cancellationToken);

    /// <summary>Converts floating tensors to bfloat16 (nn.Module.bfloat16).</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<Module> BFloat16Async(CancellationToken cancellationToken = default) =>
        ConvertAsync(Conversion.Bfloat16, DataType.Unspecified, "", cancellationToken);

    /// <summary>
    /// Applies an initialiser of torch.nn.init, or reset_parameters, children first (nn.Module.apply):
    /// <c>model.ApplyAsync("xavier_uniform_", filter: new() { Type = "Linear", Parameters = ["weight"] })</c>.
    /// </summary>
    /// <param name="function">The initialiser, e.g. "kaiming_normal_", or "reset_parameters".</param>
    /// <param name="args">Its arguments by PyTorch's names; null is PyTorch's defaults.</param>
    /// <param name="filter">Which submodules and parameters; null is all.</param>
    /// <param name="seed">Seed; null leaves it to the generator in force.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    /// <returns>The module's summary, the paths that it was applied to, and every visit in order.</returns>
    public Task<ApplyResponse> ApplyAsync(
        string function, Arguments? args = null, ApplyFilter? filter = null, long? seed = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(function);
        var request = new ApplyRequest { Module = Name, Path = Path, Function = function, Args = args?.ToMessage(), RequestId = NewRequestId() };
        if (filter is not null)
        {
            request.Type = filter.Type;
            request.Isinstance = filter.IsInstance;
            request.Glob = filter.Glob;
            request.Parameters.AddRange(filter.Parameters);
        }

        if (seed is { } value)
            request.Seed = value;
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        return SendAsync(Rpc.Modules.ApplyAsync, request, cancellationToken);
    }

    /// <summary>
    /// Copies this module or submodule into a new, independent one (copy.deepcopy), without gradients, graphs or optimizers.
    /// </summary>
    /// <param name="name">Name for the copy.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<RemoteModule> CopyAsync(string name, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        var request = new CopyModuleRequest { Module = Name, Path = Path, Copy = name, RequestId = NewRequestId() };
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        var response = await SendAsync(Rpc.Modules.CopyModuleAsync, request, cancellationToken).ConfigureAwait(false);
        return new RemoteModule(Rpc, response.Module.Name, "", _settings?.OfHandle);
    }

    /// <summary>Deletes the module, its graphs and its optimizers, after the work before it.</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task DeleteAsync(CancellationToken cancellationToken = default)
    {
        RequireWhole("deleting");
        var request = new DeleteModuleRequest { Module = Name, RequestId = NewRequestId() };
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        await SendAsync(Rpc.Modules.DeleteModuleAsync, request, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>The module's name, and the path below it.</summary>
    public override string ToString() => Path.Length == 0 ? Name : $"{Name}/{Path}";

    private async Task<Module> ConvertAsync(
        Conversion conversion, DataType dtype, string device, CancellationToken cancellationToken, MemoryFormat memoryFormat = MemoryFormat.Unspecified)
    {
        var request = new ToRequest
        {
            Module = Name,
            Path = Path,
            Conversion = conversion,
            Dtype = dtype,
            Device = device,
            MemoryFormat = memoryFormat,
            RequestId = NewRequestId(),
        };
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        var response = await SendAsync(Rpc.Modules.ToAsync, request, cancellationToken).ConfigureAwait(false);
        foreach (var warning in response.Warnings)
            Log.Warned(Rpc.Logger, Name, warning);
        return response.Module;
    }

    private Task<TResponse> SendAsync<TRequest, TResponse>(
        Func<TRequest, CallOptions, AsyncUnaryCall<TResponse>> method,
        TRequest request,
        CancellationToken cancellationToken,
        Repeat repeat = Repeat.Always)
        where TRequest : class => Rpc.UnaryAsync(method, request, _settings, cancellationToken, repeat);

    private string NewRequestId() => Rpc.RequestId(_settings);

    private void RequireWhole(string what)
    {
        if (Path.Length > 0)
        {
            throw new InvalidOperationException(
                $"'{Name}' is narrowed to '{Path}' here, and {what} concerns a whole module: use the module without GetSubmodule.");
        }
    }
}
