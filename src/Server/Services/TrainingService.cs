using Grpc.Core;
using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Server.ExactlyOnce;
using Sconce.Server.Mapping;
using Sconce.Server.Streams;

namespace Sconce.Server.Services;

/// <summary>Steps, fused and streamed. Optimizers and gradients are in <see cref="OptimizerCalls"/>: gRPC wants one class, one file need not hold it all.</summary>
internal sealed class TrainingService(
    EngineHost engine, RequestIdStore once, Pipeline pipeline, OptimizerCalls optimizers, OptimizerStreams streams) : V1.TrainingService.TrainingServiceBase
{
    public override Task<V1.ForwardBackwardResponse> ForwardBackward(V1.ForwardBackwardRequest request, ServerCallContext context) =>
        request.RequestId.Length == 0
            ? ForwardBackwardAsync(request, new HttpResponseMemory(context.GetHttpContext()), context.CancellationToken)
            : once.RunAsync(request, request.RequestId, (r, cancellationToken) => ForwardBackwardAsync(r, CopiedMemory.Instance, cancellationToken), context.CancellationToken);

    public override Task<V1.TrainStepResponse> TrainStep(V1.TrainStepRequest request, ServerCallContext context) =>
        StepAsync(request, "", new HttpResponseMemory(context.GetHttpContext()), context.CancellationToken);

    public override Task TrainStream(
        IAsyncStreamReader<V1.TrainStreamRequest> requestStream, IServerStreamWriter<V1.TrainStreamResponse> responseStream, ServerCallContext context) =>
        pipeline.RunAsync(
            requestStream, responseStream, context, StreamedAsync,
            static (request, status) => request.StopOnError ? null : new V1.TrainStreamResponse { Id = request.Id, Error = CallErrors.From(status) },
            static request => request.StopOnError);

    public override Task<V1.CreateOptimizerResponse> CreateOptimizer(V1.CreateOptimizerRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, optimizers.CreateAsync, context.CancellationToken);

    public override Task<V1.GetOptimizerResponse> GetOptimizer(V1.GetOptimizerRequest request, ServerCallContext context) =>
        optimizers.GetAsync(request, context.CancellationToken);

    public override Task<V1.AddParamGroupResponse> AddParamGroup(V1.AddParamGroupRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, optimizers.AddParamGroupAsync, context.CancellationToken);

    public override Task<V1.DeleteOptimizerResponse> DeleteOptimizer(V1.DeleteOptimizerRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, optimizers.DeleteAsync, context.CancellationToken);

    public override Task<V1.OptimizerStepResponse> OptimizerStep(V1.OptimizerStepRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, optimizers.StepAsync, context.CancellationToken);

    public override Task<V1.SetLearningRateResponse> SetLearningRate(V1.SetLearningRateRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, optimizers.SetLearningRateAsync, context.CancellationToken);

    public override Task<V1.CreateSchedulerResponse> CreateScheduler(V1.CreateSchedulerRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, optimizers.CreateSchedulerAsync, context.CancellationToken);

    public override Task<V1.SchedulerStepResponse> SchedulerStep(V1.SchedulerStepRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, optimizers.SchedulerStepAsync, context.CancellationToken);

    public override Task<V1.ClipGradientsResponse> ClipGradients(V1.ClipGradientsRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, optimizers.ClipGradientsAsync, context.CancellationToken);

    public override Task<V1.ManualSeedResponse> ManualSeed(V1.ManualSeedRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, SeedAsync, context.CancellationToken);

    public override Task GetOptimizerState(
        V1.GetOptimizerStateRequest request, IServerStreamWriter<V1.GetOptimizerStateResponse> responseStream, ServerCallContext context) =>
        streams.GetStateAsync(request, responseStream, context);

    public override Task<V1.LoadOptimizerStateResponse> LoadOptimizerState(IAsyncStreamReader<V1.LoadOptimizerStateRequest> requestStream, ServerCallContext context) =>
        streams.LoadStateAsync(requestStream, context);

    public override Task GetGradients(V1.GetGradientsRequest request, IServerStreamWriter<V1.GetGradientsResponse> responseStream, ServerCallContext context) =>
        streams.GetGradientsAsync(request, responseStream, context);

    private async Task<V1.TrainStreamResponse> StreamedAsync(V1.TrainStreamRequest request, IResponseMemory memory, CancellationToken cancellationToken)
    {
        var step = request.Step ?? throw EngineException.Invalid("step", "is not set; it names the module and holds the inputs");
        return new V1.TrainStreamResponse { Id = request.Id, Step = await StepAsync(step, "step.", memory, cancellationToken).ConfigureAwait(false) };
    }

    private Task<V1.TrainStepResponse> StepAsync(V1.TrainStepRequest request, string prefix, IResponseMemory memory, CancellationToken cancellationToken) =>
        request.RequestId.Length == 0
            ? RunStepAsync(request, prefix, memory, cancellationToken)
            : once.RunAsync(
                request, request.RequestId, (r, token) => RunStepAsync(r, prefix, CopiedMemory.Instance, token), cancellationToken, field: prefix + "request_id");

    private async Task<V1.TrainStepResponse> RunStepAsync(V1.TrainStepRequest request, string prefix, IResponseMemory memory, CancellationToken cancellationToken)
    {
        var result = await engine.GetModule(request.Module).TrainStepAsync(
            new TrainStepCall
            {
                Path = request.Path,
                Inputs = TensorMapping.ToCallInputs(request.Inputs, request.NamedInputs, prefix),
                Loss = TrainingMapping.ToLoss(request.Loss, prefix),
                Targets = TensorMapping.ToInputs(request.Targets, prefix, "targets", allowNone: false),
                Optimizer = request.Optimizer,
                ZeroGrad = !request.HasZeroGrad || request.ZeroGrad,
                Clip = TrainingMapping.ToClip(request.Clip, prefix + "clip"),
                SchedulerStep = request.SchedulerStep,
                ReturnOutput = request.ReturnOutput,
                Hooks = HookMapping.ToHooks(request.Hooks, prefix + "hooks"),
                IfGeneration = request.HasIfGeneration ? request.IfGeneration : null,
            },
            cancellationToken).ConfigureAwait(false);
        try
        {
            var response = new V1.TrainStepResponse { Loss = result.Loss, Generation = result.Generation, Steps = (ulong)result.Steps };
            if (result.GradNorm is { } norm)
            {
                response.GradNorm = norm;
            }

            if (result.Output is { } output)
            {
                response.Output = TensorMapping.ToValue(output, memory);
            }

            response.Hooks = HookMapping.ToReport(result.Hooks, memory);
            return response;
        }
        finally
        {
            memory.Keep(result);
        }
    }

    private async Task<V1.ForwardBackwardResponse> ForwardBackwardAsync(V1.ForwardBackwardRequest request, IResponseMemory memory, CancellationToken cancellationToken)
    {
        var scale = request.HasLossScale ? request.LossScale : 1;
        if (!double.IsFinite(scale))
        {
            throw EngineException.Invalid("loss_scale", $"is {scale}; it must be finite");
        }

        var result = await engine.GetModule(request.Module).ForwardBackwardAsync(
            new ForwardBackwardCall
            {
                Path = request.Path,
                Inputs = TensorMapping.ToCallInputs(request.Inputs, request.NamedInputs, ""),
                Loss = TrainingMapping.ToLoss(request.Loss, ""),
                Targets = TensorMapping.ToInputs(request.Targets, "", "targets", allowNone: false),
                LossScale = scale,
                ReturnOutput = request.ReturnOutput,
                Hooks = HookMapping.ToHooks(request.Hooks, "hooks"),
                IfGeneration = request.HasIfGeneration ? request.IfGeneration : null,
            },
            cancellationToken).ConfigureAwait(false);
        try
        {
            var response = new V1.ForwardBackwardResponse { Loss = result.Loss, Generation = result.Generation };
            if (result.Output is { } output)
            {
                response.Output = TensorMapping.ToValue(output, memory);
            }

            response.Hooks = HookMapping.ToReport(result.Hooks, memory);
            return response;
        }
        finally
        {
            memory.Keep(result);
        }
    }

    private async Task<V1.ManualSeedResponse> SeedAsync(V1.ManualSeedRequest request, CancellationToken cancellationToken)
    {
        await engine.ManualSeedAsync(request.Module, request.Seed, cancellationToken).ConfigureAwait(false);
        return new V1.ManualSeedResponse();
    }
}
