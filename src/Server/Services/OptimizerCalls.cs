using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Server.Mapping;

namespace Sconce.Server.Services;

/// <summary>The unary calls about optimizers, schedulers and gradients.</summary>
internal sealed class OptimizerCalls(EngineHost engine)
{
    public async Task<V1.CreateOptimizerResponse> CreateAsync(V1.CreateOptimizerRequest request, CancellationToken cancellationToken)
    {
        var optimizer = await engine.GetModule(request.Module).CreateOptimizerAsync(
            request.Optimizer, request.Type, StructMapping.ToArgs(request.Args), [.. request.Groups.Select(TrainingMapping.ToGroup)],
            request.HasIfGeneration ? request.IfGeneration : null, cancellationToken).ConfigureAwait(false);
        return new V1.CreateOptimizerResponse { Optimizer = TrainingMapping.ToOptimizer(optimizer) };
    }

    public async Task<V1.GetOptimizerResponse> GetAsync(V1.GetOptimizerRequest request, CancellationToken cancellationToken)
    {
        var optimizer = await engine.GetModule(request.Module).GetOptimizerAsync(request.Optimizer, cancellationToken).ConfigureAwait(false);
        return new V1.GetOptimizerResponse { Optimizer = TrainingMapping.ToOptimizer(optimizer) };
    }

    public async Task<V1.AddParamGroupResponse> AddParamGroupAsync(V1.AddParamGroupRequest request, CancellationToken cancellationToken)
    {
        var group = request.Group ?? throw EngineException.Invalid("group", "is not set; it names the parameters to add");
        var optimizer = await engine.GetModule(request.Module).AddParamGroupAsync(
            request.Optimizer, TrainingMapping.ToGroup(group), request.HasIfGeneration ? request.IfGeneration : null, cancellationToken).ConfigureAwait(false);
        return new V1.AddParamGroupResponse { Optimizer = TrainingMapping.ToOptimizer(optimizer) };
    }

    public async Task<V1.DeleteOptimizerResponse> DeleteAsync(V1.DeleteOptimizerRequest request, CancellationToken cancellationToken)
    {
        await engine.GetModule(request.Module).DeleteOptimizerAsync(
            request.Optimizer, request.HasIfGeneration ? request.IfGeneration : null, cancellationToken).ConfigureAwait(false);
        return new V1.DeleteOptimizerResponse();
    }

    public async Task<V1.OptimizerStepResponse> StepAsync(V1.OptimizerStepRequest request, CancellationToken cancellationToken)
    {
        var outcome = await engine.GetModule(request.Module).OptimizerStepAsync(
            request.Optimizer, TrainingMapping.ToClip(request.Clip, "clip"), request.ZeroGrad,
            request.HasIfGeneration ? request.IfGeneration : null, cancellationToken).ConfigureAwait(false);
        var response = new V1.OptimizerStepResponse { Generation = outcome.Generation, Steps = (ulong)outcome.Steps };
        if (outcome.GradNorm is { } norm)
        {
            response.GradNorm = norm;
        }

        return response;
    }

    public async Task<V1.SetLearningRateResponse> SetLearningRateAsync(V1.SetLearningRateRequest request, CancellationToken cancellationToken)
    {
        if (!(request.Lr >= 0) || double.IsInfinity(request.Lr))
        {
            throw EngineException.Invalid("lr", $"is {request.Lr}; it must be >= 0 and finite");
        }

        // A group beyond int is beyond any optimizer's: the engine answers NOT_FOUND as for any other.
        int? group = request.HasGroup ? (int)Math.Min(request.Group, int.MaxValue) : null;
        var optimizer = await engine.GetModule(request.Module).SetLearningRateAsync(
            request.Optimizer, request.Lr, group, request.HasIfGeneration ? request.IfGeneration : null, cancellationToken).ConfigureAwait(false);
        return new V1.SetLearningRateResponse { Optimizer = TrainingMapping.ToOptimizer(optimizer) };
    }

    public async Task<V1.CreateSchedulerResponse> CreateSchedulerAsync(V1.CreateSchedulerRequest request, CancellationToken cancellationToken)
    {
        var optimizer = await engine.GetModule(request.Module).CreateSchedulerAsync(
            request.Optimizer, request.Type, StructMapping.ToArgs(request.Args), request.HasIfGeneration ? request.IfGeneration : null, cancellationToken).ConfigureAwait(false);
        return new V1.CreateSchedulerResponse { Optimizer = TrainingMapping.ToOptimizer(optimizer) };
    }

    public async Task<V1.SchedulerStepResponse> SchedulerStepAsync(V1.SchedulerStepRequest request, CancellationToken cancellationToken)
    {
        var optimizer = await engine.GetModule(request.Module).SchedulerStepAsync(
            request.Optimizer, request.HasMetric ? request.Metric : null, request.HasIfGeneration ? request.IfGeneration : null, cancellationToken).ConfigureAwait(false);
        return new V1.SchedulerStepResponse { Optimizer = TrainingMapping.ToOptimizer(optimizer) };
    }

    public async Task<V1.ClipGradientsResponse> ClipGradientsAsync(V1.ClipGradientsRequest request, CancellationToken cancellationToken)
    {
        var target = new ChangeTarget(request.Path, request.HasIfGeneration ? request.IfGeneration : null);
        var clip = TrainingMapping.ToClip(request.Clip, "clip") ?? throw EngineException.Invalid("clip", "is not set; give max_norm or clip_value");
        var norm = await engine.GetModule(request.Module).ClipGradientsAsync(target, clip, cancellationToken).ConfigureAwait(false);
        var response = new V1.ClipGradientsResponse();
        if (norm is { } value)
        {
            response.GradNorm = value;
        }

        return response;
    }
}
