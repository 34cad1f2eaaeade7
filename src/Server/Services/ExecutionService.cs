using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Server.ExactlyOnce;
using Sconce.Server.Mapping;
using Sconce.Server.Streams;

namespace Sconce.Server.Services;

/// <summary>Forward and backward.</summary>
internal sealed class ExecutionService(EngineHost engine, RequestIdStore once, Pipeline pipeline) : V1.ExecutionService.ExecutionServiceBase
{
    public override Task<V1.ForwardResponse> Forward(V1.ForwardRequest request, ServerCallContext context) =>
        ForwardAsync(request, "", new HttpResponseMemory(context.GetHttpContext()), context.CancellationToken);

    public override Task ForwardStream(
        IAsyncStreamReader<V1.ForwardStreamRequest> requestStream, IServerStreamWriter<V1.ForwardStreamResponse> responseStream, ServerCallContext context) =>
        pipeline.RunAsync(
            requestStream, responseStream, context, StreamedAsync,
            static (request, status) => new V1.ForwardStreamResponse { Id = request.Id, Error = CallErrors.From(status) },
            static _ => false);

    public override Task<V1.BackwardResponse> Backward(V1.BackwardRequest request, ServerCallContext context) =>
        request.RequestId.Length == 0
            ? BackwardAsync(request, new HttpResponseMemory(context.GetHttpContext()), context.CancellationToken)
            : once.RunAsync(request, request.RequestId, (r, cancellationToken) => BackwardAsync(r, CopiedMemory.Instance, cancellationToken), context.CancellationToken);

    public override Task<V1.ReleaseGraphResponse> ReleaseGraph(V1.ReleaseGraphRequest request, ServerCallContext context)
    {
        engine.GetModule(request.Module).ReleaseGraph(request.Graph);
        return Task.FromResult(new V1.ReleaseGraphResponse());
    }

    public override async Task<V1.CallResponse> Call(V1.CallRequest request, ServerCallContext context)
    {
        var forward = request.Forward ?? throw EngineException.Invalid("forward", "is not set; it names the module and holds the inputs");
        var outcome = await engine.GetModule(forward.Module).ForwardAsync(ToCall(forward, "forward.", request.Method == "forward" ? "" : request.Method), context.CancellationToken).ConfigureAwait(false);
        return new V1.CallResponse { Forward = ToResponse(outcome, new HttpResponseMemory(context.GetHttpContext())) };
    }

    private async Task<V1.ForwardResponse> ForwardAsync(V1.ForwardRequest request, string prefix, IResponseMemory memory, CancellationToken cancellationToken) =>
        ToResponse(await engine.GetModule(request.Module).ForwardAsync(ToCall(request, prefix), cancellationToken).ConfigureAwait(false), memory);

    private async Task<V1.ForwardStreamResponse> StreamedAsync(V1.ForwardStreamRequest request, IResponseMemory memory, CancellationToken cancellationToken)
    {
        var forward = request.Forward ?? throw EngineException.Invalid("forward", "is not set; it names the module and holds the inputs");
        return new V1.ForwardStreamResponse { Id = request.Id, Forward = await ForwardAsync(forward, "forward.", memory, cancellationToken).ConfigureAwait(false) };
    }

    private async Task<V1.BackwardResponse> BackwardAsync(V1.BackwardRequest request, IResponseMemory memory, CancellationToken cancellationToken)
    {
        var outcome = await engine.GetModule(request.Module).BackwardAsync(
            new BackwardCall
            {
                Graph = request.Graph,
                OutputGrads = TensorMapping.ToInputs(request.OutputGrads, "", "output_grads"),
                RetainGraph = request.RetainGraph,
                Hooks = HookMapping.ToHooks(request.Hooks, "hooks"),
                IfGeneration = request.HasIfGeneration ? request.IfGeneration : null,
            },
            cancellationToken).ConfigureAwait(false);
        try
        {
            var response = new V1.BackwardResponse { Generation = outcome.Generation };
            foreach (var gradient in outcome.InputGrads)
            {
                response.InputGrads.Add(gradient is null ? new V1.Tensor() : TensorMapping.ToTensor(gradient, memory));
            }

            foreach (var (name, gradient) in outcome.NamedInputGrads)
            {
                response.NamedInputGrads.Add(name, gradient is null ? new V1.Tensor() : TensorMapping.ToTensor(gradient, memory));
            }

            response.Hooks = HookMapping.ToReport(outcome.Hooks, memory);
            return response;
        }
        finally
        {
            memory.Keep(outcome);
        }
    }

    private static ForwardCall ToCall(V1.ForwardRequest request, string prefix, string method = "") => new()
    {
        Path = request.Path,
        Method = method,
        Inputs = TensorMapping.ToCallInputs(request.Inputs, request.NamedInputs, prefix),
        RecordGraph = request.RecordGraph,
        InputGrads = !request.HasInputGrads || request.InputGrads,
        GraphTtl = request.GraphTtl is null ? null : TensorMapping.ToTtl(request.GraphTtl, prefix + "graph_ttl"),
        Session = request.Session,
        RejectNonFinite = request.RejectNonfinite,
        Hooks = HookMapping.ToHooks(request.Hooks, prefix + "hooks"),
        IfGeneration = request.HasIfGeneration ? request.IfGeneration : null,
    };

    private static V1.ForwardResponse ToResponse(ForwardOutcome outcome, IResponseMemory memory)
    {
        try
        {
            var response = new V1.ForwardResponse { Generation = outcome.Generation, Output = TensorMapping.ToValue(outcome.Output, memory) };
            if (outcome.Graph is { } graph)
            {
                response.Graph = new V1.LiveGraph { Id = graph.Id, Expires = graph.Expires.ToTimestamp(), EstimatedBytes = (ulong)graph.EstimatedBytes };
            }

            response.Hooks = HookMapping.ToReport(outcome.Hooks, memory);
            return response;
        }
        finally
        {
            // Also where the mapping fails: the outcome must not leak.
            memory.Keep(outcome);
        }
    }
}
