using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Execution;

/// <content>What nn.Module registers, and what it holds by name.</content>
public sealed partial class HostedModule
{
    /// <summary><c>nn.Module.register_parameter</c>; over an existing parameter of the same shape it replaces the value.</summary>
    /// <param name="target">The submodule.</param>
    /// <param name="name">Name of the parameter there.</param>
    /// <param name="value">Its value; None registers the name alone.</param>
    /// <param name="requiresGrad">Whether autograd is to follow it.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<ModuleSummary> RegisterParameterAsync(ChangeTarget target, string name, TensorInput value, bool requiresGrad, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(name);
        return WithTensor(target, value, tensor =>
        {
            // A value of another dtype takes the state that optimizers keep for the parameter along.
            var replaced = tensor is null ? null : ModuleTree.FindParameter(_state.Tree.Root, ModuleTree.Join(target.Path, name));
            ScalarType TypeOf(Parameter parameter) => ReferenceEquals(parameter, replaced) ? tensor!.dtype : parameter.dtype;
            using var charge = ChargeFor(tensor, "a parameter of module", _state.Optimizers.BytesToConvert(TypeOf));
            var follow = _state.Optimizers.PrepareToConvert(TypeOf);
            Registration().Parameter(target.Path, name, tensor, requiresGrad);
            follow();
            _state.Restructured();
            return Summary;
        }, cancellationToken);
    }

    /// <summary>Registers a parameter that there is already under another name (tied weights).</summary>
    /// <param name="target">The submodule.</param>
    /// <param name="name">Name of the parameter there.</param>
    /// <param name="share">Dotted name, from the module's root, of the parameter that it is to be.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<ModuleSummary> TieParameterAsync(ChangeTarget target, string name, string share, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(share);
        return Change(target.IfGeneration, () =>
        {
            Registration().Tie(target.Path, name, share);
            _state.Restructured();
            return Summary;
        }, cancellationToken);
    }

    /// <summary><c>nn.Module.register_buffer</c>.</summary>
    /// <param name="target">The submodule.</param>
    /// <param name="name">Name of the buffer there.</param>
    /// <param name="value">Its value; None registers the name alone.</param>
    /// <param name="persistent">Whether the state dict holds it.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<ModuleSummary> RegisterBufferAsync(ChangeTarget target, string name, TensorInput value, bool persistent, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(name);
        return WithTensor(target, value, tensor =>
        {
            using var charge = ChargeFor(tensor, "a buffer of module");
            Registration().Buffer(target.Path, name, tensor, persistent);
            _state.Restructured();
            return Summary;
        }, cancellationToken);
    }

    /// <summary><c>nn.Module.add_module</c> with a new module, in training mode, in the place of the child of that name or after the others.</summary>
    /// <param name="target">The parent.</param>
    /// <param name="name">Name of the child there.</param>
    /// <param name="spec">What to build.</param>
    /// <param name="seed">Seed of its initial values; null draws them from the module's random stream.</param>
    /// <param name="type">Floating dtype of its parameters and buffers; none means float32.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public async Task<ModuleSummary> AddModuleAsync(ChangeTarget target, string name, ModuleSpec spec, long? seed, ElementType type, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(spec);
        using var scripts = await _host.PlugIns.Scripts!.PrepareAsync(spec, cancellationToken).ConfigureAwait(false);
        return await Change(target.IfGeneration, () =>
        {
            using var charge = new MemoryCharge(_host.Ledger, MemoryUse.Modules, "a child of module", Name);
            var child = _host.Build(spec, type, charge, build => _state.DrawSurely(build, seed));
            Weights.Script.ScriptNode.SetOwner(child.Root, Name);
            try
            {
                Registration().Module(target.Path, name, child.Root, "spec");
            }
            catch
            {
                child.Dispose();
                throw;
            }

            _state.Restructured();
            return Summary;
        }, cancellationToken).ConfigureAwait(false);
    }

    /// <summary><c>nn.Module.add_module</c> with a submodule that there is already: both names are then the same module.</summary>
    /// <param name="target">The parent.</param>
    /// <param name="name">Name of the child there.</param>
    /// <param name="share">Path, from the module's root, of the submodule that it is to be.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<ModuleSummary> ShareModuleAsync(ChangeTarget target, string name, string share, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(share);
        return Change(target.IfGeneration, () =>
        {
            Registration().Module(target.Path, name, _state.Tree.Find(share), "share");
            _state.Restructured();
            return Summary;
        }, cancellationToken);
    }

    /// <summary><c>nn.Module.set_extra_state</c>: bytes that the state dict carries along.</summary>
    /// <param name="target">The submodule.</param>
    /// <param name="state">The bytes; null takes the extra state away.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<ModuleSummary> SetExtraStateAsync(ChangeTarget target, ReadOnlyMemory<byte>? state, CancellationToken cancellationToken) => Change(target.IfGeneration, () =>
    {
        var node = _state.Tree.Find(target.Path);
        using var charge = new MemoryCharge(_host.Ledger, MemoryUse.Modules, "the extra state of module", Name, state?.Length ?? 0);
        var made = state is { } bytes ? NativeTensors.Copy(ElementType.UInt8, [bytes.Length], bytes.Span).DetachFromDisposeScope() : null;
        node.ExtraState?.Dispose();
        node.ExtraState = made;
        _state.Changed();
        return Summary;
    }, cancellationToken);

    /// <summary><c>nn.Module.get_extra_state</c>; null where there is none.</summary>
    /// <param name="path">The submodule.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<byte[]?> GetExtraStateAsync(string path, CancellationToken cancellationToken) =>
        Read(() => _state.Tree.Find(path).ExtraState?.bytes.ToArray(), cancellationToken);

    /// <summary><c>nn.Module.get_parameter</c>, with a copy of its value.</summary>
    /// <param name="path">The submodule.</param>
    /// <param name="name">The parameter's dotted name from there.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<NamedValue> GetParameterAsync(string path, string name, CancellationToken cancellationToken) => Read(() =>
    {
        var (node, full, own) = Holder(path, name);
        var slot = node.Slots.FirstOrDefault(s => s.Name == own);
        return slot?.Parameter is { } parameter
            ? Copy(NodeDescriber.Describe(slot) with { Name = name }, parameter)
            : throw EngineException.NotFound("parameter", full, slot is not null ? "it is registered, but None"
                : $"the {node.TypeName} there has {Names(node.Slots.Select(s => s.Name))}{(node.BufferSlots.Any(s => s.Name == own) ? "; it is a buffer: call GetBuffer" : "")}");
    }, cancellationToken);

    /// <summary><c>nn.Module.get_buffer</c>, with a copy of its value; non-persistent ones too.</summary>
    /// <param name="path">The submodule.</param>
    /// <param name="name">The buffer's dotted name from there.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<NamedValue> GetBufferAsync(string path, string name, CancellationToken cancellationToken) => Read(() =>
    {
        var (node, full, own) = Holder(path, name);
        var slot = node.BufferSlots.FirstOrDefault(s => s.Name == own)
            ?? throw EngineException.NotFound("buffer", full,
                $"the {node.TypeName} there has {Names(node.BufferSlots.Select(s => s.Name))}{(node.Slots.Any(s => s.Name == own) ? "; it is a parameter: call GetParameter" : "")}");
        return Copy(NodeDescriber.Describe(slot) with { Name = name }, slot.Tensor);
    }, cancellationToken);

    /// <summary>
    /// <c>nn.Module.share_memory</c>, as a copy: writes the state dict to a file that other processes of the host can map. The module has one such file;
    /// it goes with the next one, and with the module.
    /// </summary>
    /// <param name="target">The submodule; keys are relative to it.</param>
    /// <param name="cancellationToken">Takes the call back while it waits.</param>
    public Task<SharedStateCopy> ShareMemoryAsync(ChangeTarget target, CancellationToken cancellationToken) => Change(target.IfGeneration, () =>
    {
        var file = _state.Share(_state.Tree.Find(target.Path));
        return new SharedStateCopy(file.Path, file.Bytes, _state.Generation);
    }, cancellationToken, isKept: false);

    private Registration Registration() => new(_state.Tree, _host.Limits, _state.Optimizers.HolderOf);

    private (ModuleNode Node, string Full, string Own) Holder(string path, string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        var full = ModuleTree.Join(path, name);
        var dot = full.LastIndexOf('.');
        return (_state.Tree.Find(full[..Math.Max(dot, 0)]), full, full[(dot + 1)..]);
    }

    private NamedValue Copy(TensorDescription info, Tensor? tensor) => new(info,
        tensor is null ? null : StateSnapshot.Copy([(info.Name, tensor)], _host.Ledger, "a copy of a tensor of module", Name, _state.Generation), _state.Generation);

    // What is registered is a copy of what came; the charge ends when the module's own holds it.
    private MemoryCharge ChargeFor(Tensor? tensor, string what, long more = 0) =>
        new(_host.Ledger, MemoryUse.Modules, what, Name, more + (tensor is null ? 0 : tensor.numel() * tensor.ElementSize));

    private Task<T> WithTensor<T>(ChangeTarget target, TensorInput value, Func<Tensor?, T> work, CancellationToken cancellationToken)
    {
        try
        {
            var tensors = CallTensors.ImportOne(_host, Name, value, "tensor");
            return Run(GateMode.Exclusive, target.IfGeneration, () => work(tensors.Others[0]), tensors.Dispose, cancellationToken);
        }
        catch (EngineException exception)
        {
            return Task.FromException<T>(exception);
        }
    }

    private static string Names(IEnumerable<string> names) => string.Join(", ", names.Take(8).Select(EngineException.Quote).DefaultIfEmpty("none"));
}
