using Grpc.Core;
using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Server.ExactlyOnce;
using Sconce.Server.Hosting;
using Sconce.Server.Mapping;

namespace Sconce.Server.Services;

/// <summary>Kept tensors, and the sessions that own them and live graphs.</summary>
internal sealed class TensorService(EngineHost engine, RequestIdStore once, SconceServerOptions options, DrainSignal drain) : V1.TensorService.TensorServiceBase
{
    private const int MaxLabelLength = 128;

    public override Task<V1.PutTensorResponse> PutTensor(V1.PutTensorRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, Put, context.CancellationToken);

    public override Task<V1.GetTensorResponse> GetTensor(V1.GetTensorRequest request, ServerCallContext context)
    {
        var tensor = engine.Tensors.Get(request.Id);
        var memory = new HttpResponseMemory(context.GetHttpContext());
        memory.Keep(tensor);
        return Task.FromResult(new V1.GetTensorResponse { Tensor = TensorMapping.ToTensor(tensor, memory) });
    }

    public override Task<V1.ListTensorsResponse> ListTensors(V1.ListTensorsRequest request, ServerCallContext context) =>
        Task.FromResult(new V1.ListTensorsResponse { Tensors = { engine.Tensors.List(request.Session).Select(TensorMapping.ToKeptTensor) } });

    public override Task<V1.DropTensorResponse> DropTensor(V1.DropTensorRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, Drop, context.CancellationToken);

    public override async Task OpenSession(V1.OpenSessionRequest request, IServerStreamWriter<V1.OpenSessionResponse> responseStream, ServerCallContext context)
    {
        if (request.Label.Length > MaxLabelLength || request.Label.Any(char.IsControl))
        {
            throw EngineException.Invalid("label", $"is {EngineException.Quote(request.Label)}; at most {MaxLabelLength} printable characters are allowed");
        }

        using var session = engine.Sessions.Open(request.Label);
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken, drain.Token);
        using var heartbeat = new PeriodicTimer(options.SessionHeartbeat);
        var message = new V1.OpenSessionResponse { Session = session.Id };
        try
        {
            // The caller ends a session by ending the call, so this loop only ever ends by cancellation.
            do
            {
                await responseStream.WriteAsync(message, ending.Token).ConfigureAwait(false);
            }
            while (await heartbeat.WaitForNextTickAsync(ending.Token).ConfigureAwait(false));
        }
        catch (OperationCanceledException) when (drain.IsDraining && !context.CancellationToken.IsCancellationRequested)
        {
            throw DrainSignal.Refusal();
        }
    }

    private Task<V1.PutTensorResponse> Put(V1.PutTensorRequest request, CancellationToken cancellationToken)
    {
        var payload = TensorMapping.ToPayload(request.Tensor, "tensor");
        var info = engine.Tensors.Put(request.Id, payload, TensorMapping.ToTtl(request.Ttl, "ttl"), request.Session);
        return Task.FromResult(new V1.PutTensorResponse { Tensor = TensorMapping.ToKeptTensor(info) });
    }

    private Task<V1.DropTensorResponse> Drop(V1.DropTensorRequest request, CancellationToken cancellationToken)
    {
        engine.Tensors.Drop(request.Id);
        return Task.FromResult(new V1.DropTensorResponse());
    }
}
