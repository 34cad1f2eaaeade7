using Grpc.Core;
using Sconce.Client.Internal;
using Sconce.V1;

namespace Sconce.Client;

/// <summary>
/// An optimizer on the server, with its learning-rate scheduler. Like <see cref="RemoteModule"/> it is a name and holds nothing.
/// </summary>
public sealed class RemoteOptimizer
{
    private readonly Rpc _rpc;
    private readonly CallSettings? _settings;

    internal RemoteOptimizer(Rpc rpc, string module, string name, CallSettings? settings)
    {
        _rpc = rpc;
        Module = module;
        Name = name;
        _settings = settings;
    }

    /// <summary>Name of the module whose parameters it steps.</summary>
    public string Module { get; }

    /// <summary>Its name.</summary>
    public string Name { get; }

    private ulong? IfGeneration => _settings?.IfGeneration;

    /// <summary>The same optimizer, with settings for the calls made through it.</summary>
    /// <param name="settings">The settings.</param>
    public RemoteOptimizer With(CallSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        return new RemoteOptimizer(_rpc, Module, Name, settings);
    }

    /// <summary>Its type, groups, learning rates, steps and scheduler.</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<Optimizer> GetAsync(CancellationToken cancellationToken = default)
    {
        var request = new GetOptimizerRequest { Module = Module, Optimizer = Name };
        return (await SendAsync(_rpc.Training.GetOptimizerAsync, request, cancellationToken).ConfigureAwait(false)).Optimizer;
    }

    /// <summary>Steps with the gradients there are (Optimizer.step).</summary>
    /// <param name="clip">Clip the gradients first, e.g. <c>new() { MaxNorm = 1 }</c>; null clips nothing.</param>
    /// <param name="zeroGrad">Reset the gradients to None after the step.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task<OptimizerStepResponse> StepAsync(
        GradientClip? clip = null, bool zeroGrad = false, CancellationToken cancellationToken = default)
    {
        var request = new OptimizerStepRequest { Module = Module, Optimizer = Name, Clip = clip, ZeroGrad = zeroGrad, RequestId = NewRequestId() };
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        return SendAsync(_rpc.Training.OptimizerStepAsync, request, cancellationToken);
    }

    /// <summary>Adds a group of parameters that are in none yet (Optimizer.add_param_group).</summary>
    /// <param name="group">The group.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<Optimizer> AddParamGroupAsync(ParameterGroup group, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(group);
        var request = new AddParamGroupRequest { Module = Module, Optimizer = Name, Group = group.ToMessage(), RequestId = NewRequestId() };
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        return (await SendAsync(_rpc.Training.AddParamGroupAsync, request, cancellationToken).ConfigureAwait(false)).Optimizer;
    }

    /// <summary>Sets the learning rate.</summary>
    /// <param name="lr">The rate.</param>
    /// <param name="group">Index of one parameter group; null sets all.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<Optimizer> SetLearningRateAsync(double lr, int? group = null, CancellationToken cancellationToken = default)
    {
        var request = new SetLearningRateRequest { Module = Module, Optimizer = Name, Lr = lr, RequestId = NewRequestId() };
        if (group is { } index)
        {
            ArgumentOutOfRangeException.ThrowIfNegative(index, nameof(group));
            request.Group = (uint)index;
        }

        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        return (await SendAsync(_rpc.Training.SetLearningRateAsync, request, cancellationToken).ConfigureAwait(false)).Optimizer;
    }

    /// <summary>Makes its learning-rate scheduler: <c>adam.CreateSchedulerAsync("StepLR", [("step_size", 30)])</c>.</summary>
    /// <param name="type">PyTorch's type name.</param>
    /// <param name="args">Constructor arguments by PyTorch's names; null is PyTorch's defaults.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<Optimizer> CreateSchedulerAsync(string type, Arguments? args = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(type);
        var request = new CreateSchedulerRequest { Module = Module, Optimizer = Name, Type = type, Args = args?.ToMessage(), RequestId = NewRequestId() };
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        return (await SendAsync(_rpc.Training.CreateSchedulerAsync, request, cancellationToken).ConfigureAwait(false)).Optimizer;
    }

    /// <summary>Steps its scheduler.</summary>
    /// <param name="metric">What ReduceLROnPlateau watches; null for the others.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<Optimizer> SchedulerStepAsync(double? metric = null, CancellationToken cancellationToken = default)
    {
        var request = new SchedulerStepRequest { Module = Module, Optimizer = Name, RequestId = NewRequestId() };
        if (metric is { } value)
            request.Metric = value;
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        return (await SendAsync(_rpc.Training.SchedulerStepAsync, request, cancellationToken).ConfigureAwait(false)).Optimizer;
    }

    /// <summary>Its state in PyTorch's layout (Optimizer.state_dict).</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<OptimizerStateDict> StateDictAsync(CancellationToken cancellationToken = default)
    {
        var request = new GetOptimizerStateRequest { Module = Module, Optimizer = Name };
        OptimizerState? layout = null;
        var tensors = await StateTransfer.ReadAsync(
            _rpc,
            _rpc.Training.GetOptimizerState,
            request,
            part =>
            {
                layout = part.State ?? layout;
                return new StatePart(part.State?.Entries, part.Chunk, part.End);
            },
            _settings,
            cancellationToken).ConfigureAwait(false);
        return new OptimizerStateDict { Groups = layout!.Groups, Tensors = tensors, Scalars = layout.Scalars.ToDictionary() };
    }

    /// <summary>Loads state, atomically (Optimizer.load_state_dict). Tensors are converted to the parameters' dtype.</summary>
    /// <param name="state">The state, with groups of the same sizes as the optimizer's.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task<Optimizer> LoadStateDictAsync(OptimizerStateDict state, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(state);
        var layout = new OptimizerState { Groups = { state.Groups }, Entries = { StateTransfer.Entries(state.Tensors) } };
        foreach (var (key, value) in state.Scalars)
            layout.Scalars.Add(key, value);
        var header = new LoadOptimizerStateHeader { Module = Module, Optimizer = Name, State = layout, RequestId = NewRequestId() };
        if (IfGeneration is { } generation)
            header.IfGeneration = generation;
        var response = await StateTransfer.SendAsync(
            _rpc,
            _rpc.Training.LoadOptimizerState,
            () => StateTransfer.Chunks(state.Tensors)
                .Select(part => part.Chunk is { } chunk ? new LoadOptimizerStateRequest { Chunk = chunk } : new LoadOptimizerStateRequest { End = part.End })
                .Prepend(new LoadOptimizerStateRequest { Header = header }),
            _settings,
            cancellationToken).ConfigureAwait(false);
        return response.Optimizer;
    }

    /// <summary>Deletes it and its scheduler.</summary>
    /// <param name="cancellationToken">Stops waiting.</param>
    public async Task DeleteAsync(CancellationToken cancellationToken = default)
    {
        var request = new DeleteOptimizerRequest { Module = Module, Optimizer = Name, RequestId = NewRequestId() };
        if (IfGeneration is { } generation)
            request.IfGeneration = generation;
        await SendAsync(_rpc.Training.DeleteOptimizerAsync, request, cancellationToken).ConfigureAwait(false);
    }

    private Task<TResponse> SendAsync<TRequest, TResponse>(
        Func<TRequest, CallOptions, AsyncUnaryCall<TResponse>> method, TRequest request, CancellationToken cancellationToken)
        where TRequest : class => _rpc.UnaryAsync(method, request, _settings, cancellationToken);

    private string NewRequestId() => Rpc.RequestId(_settings);
}
