using Grpc.Core;
using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Server.ExactlyOnce;
using Sconce.Server.Mapping;

namespace Sconce.Server.Services;

/// <summary>nn.Module's own methods.</summary>
internal sealed class ModuleService(EngineHost engine, RequestIdStore once, RegistrationCalls registration) : V1.ModuleService.ModuleServiceBase
{
    public override Task<V1.CreateModuleResponse> CreateModule(V1.CreateModuleRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, CreateAsync, context.CancellationToken);

    public override Task<V1.GetModuleResponse> GetModule(V1.GetModuleRequest request, ServerCallContext context) =>
        Task.FromResult(new V1.GetModuleResponse { Module = ModuleMapping.ToModule(engine.GetModule(request.Module).Summary) });

    public override Task<V1.ListModulesResponse> ListModules(V1.ListModulesRequest request, ServerCallContext context)
    {
        var response = new V1.ListModulesResponse();
        foreach (var module in engine.ListModules(request.Prefix))
        {
            response.Modules.Add(ModuleMapping.ToModule(module.Summary));
        }

        return Task.FromResult(response);
    }

    public override Task<V1.DeleteModuleResponse> DeleteModule(V1.DeleteModuleRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, DeleteAsync, context.CancellationToken);

    public override Task<V1.CopyModuleResponse> CopyModule(V1.CopyModuleRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, CopyAsync, context.CancellationToken);

    public override async Task<V1.DescribeModuleResponse> DescribeModule(V1.DescribeModuleRequest request, ServerCallContext context)
    {
        var description = await engine.GetModule(request.Module).DescribeAsync(request.Path, context.CancellationToken).ConfigureAwait(false);
        return new V1.DescribeModuleResponse
        {
            Module = ModuleMapping.ToModule(description.Module),
            Root = ModuleMapping.ToNode(description.Root),
            Repr = description.Repr,
            TrainPolicy = ModuleMapping.ToPolicy(description.Policy),
        };
    }

    public override Task<V1.TrainResponse> Train(V1.TrainRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, TrainAsync, context.CancellationToken);

    public override Task<V1.SetTrainPolicyResponse> SetTrainPolicy(V1.SetTrainPolicyRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, SetTrainPolicyAsync, context.CancellationToken);

    public override Task<V1.RequiresGradResponse> RequiresGrad(V1.RequiresGradRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, RequiresGradAsync, context.CancellationToken);

    public override Task<V1.ZeroGradResponse> ZeroGrad(V1.ZeroGradRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, ZeroGradAsync, context.CancellationToken);

    public override Task<V1.ToResponse> To(V1.ToRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, ConvertAsync, context.CancellationToken);

    public override Task<V1.ApplyResponse> Apply(V1.ApplyRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, ApplyAsync, context.CancellationToken);

    public override Task<V1.RegisterParameterResponse> RegisterParameter(V1.RegisterParameterRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, registration.ParameterAsync, context.CancellationToken);

    public override Task<V1.RegisterBufferResponse> RegisterBuffer(V1.RegisterBufferRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, registration.BufferAsync, context.CancellationToken);

    public override Task<V1.AddModuleResponse> AddModule(V1.AddModuleRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, registration.ModuleAsync, context.CancellationToken);

    public override Task<V1.GetParameterResponse> GetParameter(V1.GetParameterRequest request, ServerCallContext context) =>
        registration.GetParameterAsync(request, new HttpResponseMemory(context.GetHttpContext()), context.CancellationToken);

    public override Task<V1.GetBufferResponse> GetBuffer(V1.GetBufferRequest request, ServerCallContext context) =>
        registration.GetBufferAsync(request, new HttpResponseMemory(context.GetHttpContext()), context.CancellationToken);

    public override Task<V1.SetExtraStateResponse> SetExtraState(V1.SetExtraStateRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, registration.SetExtraStateAsync, context.CancellationToken);

    public override Task<V1.GetExtraStateResponse> GetExtraState(V1.GetExtraStateRequest request, ServerCallContext context) =>
        registration.GetExtraStateAsync(request, context.CancellationToken);

    public override Task<V1.ShareMemoryResponse> ShareMemory(V1.ShareMemoryRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, registration.ShareMemoryAsync, context.CancellationToken);

    private async Task<V1.CreateModuleResponse> CreateAsync(V1.CreateModuleRequest request, CancellationToken cancellationToken)
    {
        if (request.Spec is null)
        {
            throw EngineException.Invalid("spec", "is not set; give at least a type, e.g. {\"type\": \"Linear\", \"args\": {\"in_features\": 784, \"out_features\": 10}}");
        }

        long? seed = request.HasSeed ? request.Seed : null;
        var type = TensorMapping.ToElementType(request.Dtype, "dtype");
        var module = await engine.CreateModuleAsync(request.Module, ModuleMapping.ToSpec(request.Spec), seed, type, StateMapping.ToInitial(request), cancellationToken).ConfigureAwait(false);
        return new V1.CreateModuleResponse { Module = ModuleMapping.ToModule(module.Summary) };
    }

    private async Task<V1.DeleteModuleResponse> DeleteAsync(V1.DeleteModuleRequest request, CancellationToken cancellationToken)
    {
        await engine.DeleteModuleAsync(request.Module, request.HasIfGeneration ? request.IfGeneration : null, cancellationToken).ConfigureAwait(false);
        return new V1.DeleteModuleResponse();
    }

    private async Task<V1.CopyModuleResponse> CopyAsync(V1.CopyModuleRequest request, CancellationToken cancellationToken)
    {
        ulong? generation = request.HasIfGeneration ? request.IfGeneration : null;
        var copy = await engine.CopyModuleAsync(request.Module, request.Path, request.Copy, generation, cancellationToken).ConfigureAwait(false);
        return new V1.CopyModuleResponse { Module = ModuleMapping.ToModule(copy.Summary) };
    }

    private async Task<V1.TrainResponse> TrainAsync(V1.TrainRequest request, CancellationToken cancellationToken)
    {
        var target = new ChangeTarget(request.Path, request.HasIfGeneration ? request.IfGeneration : null);
        var summary = await engine.GetModule(request.Module).TrainAsync(target, !request.HasMode || request.Mode, cancellationToken).ConfigureAwait(false);
        return new V1.TrainResponse { Module = ModuleMapping.ToModule(summary) };
    }

    private async Task<V1.SetTrainPolicyResponse> SetTrainPolicyAsync(V1.SetTrainPolicyRequest request, CancellationToken cancellationToken)
    {
        var policy = ModuleMapping.ToPolicy(request.Policy);
        ulong? generation = request.HasIfGeneration ? request.IfGeneration : null;
        var summary = await engine.GetModule(request.Module).SetTrainPolicyAsync(policy, generation, cancellationToken).ConfigureAwait(false);
        return new V1.SetTrainPolicyResponse { Module = ModuleMapping.ToModule(summary) };
    }

    private async Task<V1.RequiresGradResponse> RequiresGradAsync(V1.RequiresGradRequest request, CancellationToken cancellationToken)
    {
        var target = new ChangeTarget(request.Path, request.HasIfGeneration ? request.IfGeneration : null);
        var summary = await engine.GetModule(request.Module)
            .RequiresGradAsync(target, !request.HasRequiresGrad || request.RequiresGrad, [.. request.Parameters], cancellationToken).ConfigureAwait(false);
        return new V1.RequiresGradResponse { Module = ModuleMapping.ToModule(summary) };
    }

    private async Task<V1.ZeroGradResponse> ZeroGradAsync(V1.ZeroGradRequest request, CancellationToken cancellationToken)
    {
        var target = new ChangeTarget(request.Path, request.HasIfGeneration ? request.IfGeneration : null);
        var summary = await engine.GetModule(request.Module).ZeroGradAsync(target, !request.HasSetToNone || request.SetToNone, cancellationToken).ConfigureAwait(false);
        return new V1.ZeroGradResponse { Module = ModuleMapping.ToModule(summary) };
    }

    private async Task<V1.ToResponse> ConvertAsync(V1.ToRequest request, CancellationToken cancellationToken)
    {
        var target = new ChangeTarget(request.Path, request.HasIfGeneration ? request.IfGeneration : null);
        var plan = ConversionMapping.ToPlan(request);
        var outcome = await engine.GetModule(request.Module).ConvertAsync(target, plan, cancellationToken).ConfigureAwait(false);
        return new V1.ToResponse { Module = ModuleMapping.ToModule(outcome.Module), Warnings = { outcome.Warnings } };
    }

    private async Task<V1.ApplyResponse> ApplyAsync(V1.ApplyRequest request, CancellationToken cancellationToken)
    {
        var target = new ChangeTarget(request.Path, request.HasIfGeneration ? request.IfGeneration : null);
        var plan = ConversionMapping.ToPlan(request);
        long? seed = request.HasSeed ? request.Seed : null;
        var outcome = await engine.GetModule(request.Module).ApplyAsync(target, plan, seed, cancellationToken).ConfigureAwait(false);
        return new V1.ApplyResponse
        {
            Module = ModuleMapping.ToModule(outcome.Module),
            Applied = { outcome.Visits.Where(visit => visit.Applied).Select(visit => visit.Path) },
            Visits = { outcome.Visits.Select(visit => new V1.ApplyVisit { Path = visit.Path, Repr = visit.Repr, Applied = visit.Applied }) },
        };
    }
}
