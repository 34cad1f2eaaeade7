using Google.Protobuf;
using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Engine.Tensors;
using Sconce.Server.Mapping;

namespace Sconce.Server.Services;

/// <summary>What nn.Module registers, and what it holds by name.</summary>
internal sealed class RegistrationCalls(EngineHost engine)
{
    public async Task<V1.RegisterParameterResponse> ParameterAsync(V1.RegisterParameterRequest request, CancellationToken cancellationToken)
    {
        var module = engine.GetModule(request.Module);
        var target = new ChangeTarget(request.Path, request.HasIfGeneration ? request.IfGeneration : null);
        if (request.Share.Length > 0)
        {
            if (request.Tensor is not null || request.HasRequiresGrad)
            {
                throw EngineException.Invalid("share", "was given together with tensor or requires_grad; a tied parameter is the other one as it is");
            }

            return new() { Module = ModuleMapping.ToModule(await module.TieParameterAsync(target, request.Name, request.Share, cancellationToken).ConfigureAwait(false)) };
        }

        var summary = await module
            .RegisterParameterAsync(target, request.Name, ToInput(request.Tensor), !request.HasRequiresGrad || request.RequiresGrad, cancellationToken).ConfigureAwait(false);
        return new() { Module = ModuleMapping.ToModule(summary) };
    }

    public async Task<V1.RegisterBufferResponse> BufferAsync(V1.RegisterBufferRequest request, CancellationToken cancellationToken)
    {
        var target = new ChangeTarget(request.Path, request.HasIfGeneration ? request.IfGeneration : null);
        var summary = await engine.GetModule(request.Module)
            .RegisterBufferAsync(target, request.Name, ToInput(request.Tensor), !request.HasPersistent || request.Persistent, cancellationToken).ConfigureAwait(false);
        return new() { Module = ModuleMapping.ToModule(summary) };
    }

    public async Task<V1.AddModuleResponse> ModuleAsync(V1.AddModuleRequest request, CancellationToken cancellationToken)
    {
        var module = engine.GetModule(request.Module);
        var target = new ChangeTarget(request.Path, request.HasIfGeneration ? request.IfGeneration : null);
        if (request.Spec is null == !request.HasShare)
        {
            throw EngineException.Invalid("spec", request.HasShare ? "was given together with share; give exactly one of them" : "is not set, nor is share; give exactly one of them");
        }

        if (request.HasShare)
        {
            return request.HasSeed || request.Dtype != V1.DataType.Unspecified
                ? throw EngineException.Invalid(request.HasSeed ? "seed" : "dtype", "goes with spec; a shared module is as it is")
                : new() { Module = ModuleMapping.ToModule(await module.ShareModuleAsync(target, request.Name, request.Share, cancellationToken).ConfigureAwait(false)) };
        }

        var type = TensorMapping.ToElementType(request.Dtype, "dtype");
        var summary = await module
            .AddModuleAsync(target, request.Name, ModuleMapping.ToSpec(request.Spec!), request.HasSeed ? request.Seed : null, type, cancellationToken).ConfigureAwait(false);
        return new() { Module = ModuleMapping.ToModule(summary) };
    }

    public async Task<V1.GetParameterResponse> GetParameterAsync(V1.GetParameterRequest request, IResponseMemory memory, CancellationToken cancellationToken)
    {
        var value = await engine.GetModule(request.Module).GetParameterAsync(request.Path, request.Name, cancellationToken).ConfigureAwait(false);
        return new() { Info = ModuleMapping.ToInfo(value.Info), Tensor = ToTensor(value, memory), Generation = value.Generation };
    }

    public async Task<V1.GetBufferResponse> GetBufferAsync(V1.GetBufferRequest request, IResponseMemory memory, CancellationToken cancellationToken)
    {
        var value = await engine.GetModule(request.Module).GetBufferAsync(request.Path, request.Name, cancellationToken).ConfigureAwait(false);
        return new() { Info = ModuleMapping.ToInfo(value.Info), Tensor = ToTensor(value, memory), Generation = value.Generation };
    }

    public async Task<V1.SetExtraStateResponse> SetExtraStateAsync(V1.SetExtraStateRequest request, CancellationToken cancellationToken)
    {
        var target = new ChangeTarget(request.Path, request.HasIfGeneration ? request.IfGeneration : null);

        // A bare null would become memory of no bytes.
        var state = request.HasState ? request.State.Memory : (ReadOnlyMemory<byte>?)null;
        var summary = await engine.GetModule(request.Module).SetExtraStateAsync(target, state, cancellationToken).ConfigureAwait(false);
        return new() { Module = ModuleMapping.ToModule(summary) };
    }

    public async Task<V1.GetExtraStateResponse> GetExtraStateAsync(V1.GetExtraStateRequest request, CancellationToken cancellationToken)
    {
        var state = await engine.GetModule(request.Module).GetExtraStateAsync(request.Path, cancellationToken).ConfigureAwait(false);
        return state is null ? new() : new() { State = UnsafeByteOperations.UnsafeWrap(state) };
    }

    public async Task<V1.ShareMemoryResponse> ShareMemoryAsync(V1.ShareMemoryRequest request, CancellationToken cancellationToken)
    {
        var target = new ChangeTarget(request.Path, request.HasIfGeneration ? request.IfGeneration : null);
        var shared = await engine.GetModule(request.Module).ShareMemoryAsync(target, cancellationToken).ConfigureAwait(false);
        return new() { File = shared.File, Bytes = (ulong)shared.Bytes, Generation = shared.Generation };
    }

    private static TensorInput ToInput(V1.Tensor? tensor) => tensor is null ? TensorInput.None : TensorMapping.ToInput(tensor, "", "tensor", -1);

    private static V1.Tensor? ToTensor(NamedValue value, IResponseMemory memory)
    {
        if (value.Value is not { } snapshot)
        {
            return null;
        }

        memory.Keep(snapshot);
        return TensorMapping.ToTensor(snapshot.Export(0), memory);
    }
}
