using Grpc.Core;
using Sconce.Engine.Execution;
using Sconce.Engine.Hooks;
using Sconce.Server.ExactlyOnce;
using Sconce.Server.Hosting;
using Sconce.Server.Mapping;

namespace Sconce.Server.Services;

/// <summary>Registered hooks, and those who watch them.</summary>
internal sealed class HookService(EngineHost engine, RequestIdStore once, DrainSignal drain) : V1.HookService.HookServiceBase
{
    public override Task<V1.RegisterHookResponse> RegisterHook(V1.RegisterHookRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, RegisterAsync, context.CancellationToken);

    public override async Task<V1.ListHooksResponse> ListHooks(V1.ListHooksRequest request, ServerCallContext context)
    {
        var listing = await engine.GetModule(request.Module).ListHooksAsync(request.Path, context.CancellationToken).ConfigureAwait(false);
        return new V1.ListHooksResponse
        {
            Hooks = { listing.Hooks.Select(HookMapping.ToInfo) },
            Slots = { listing.Slots.Select(slot => new V1.HookSlot { Name = slot.Name, Dtype = (V1.DataType)slot.Type, Shape = { slot.Shape } }) },
        };
    }

    public override Task<V1.RemoveHookResponse> RemoveHook(V1.RemoveHookRequest request, ServerCallContext context) =>
        once.RunAsync(request, request.RequestId, RemoveAsync, context.CancellationToken);

    public override async Task WatchHook(V1.WatchHookRequest request, IServerStreamWriter<V1.WatchHookResponse> responseStream, ServerCallContext context)
    {
        using var watcher = await engine.GetModule(request.Module).WatchHookAsync(request.Hook, request.Buffer, context.CancellationToken).ConfigureAwait(false);
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken, drain.Token);
        try
        {
            await responseStream.WriteAsync(new V1.WatchHookResponse(), ending.Token).ConfigureAwait(false);
            await foreach (var seen in watcher.Events.ReadAllAsync(ending.Token).ConfigureAwait(false))
            {
                using (seen)
                {
                    await responseStream.WriteAsync(ToResponse(seen), ending.Token).ConfigureAwait(false);
                }
            }

            if (watcher.Dropped is > 0 and var dropped)
            {
                await responseStream.WriteAsync(new V1.WatchHookResponse { Dropped = dropped }, ending.Token).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException) when (drain.IsDraining && !context.CancellationToken.IsCancellationRequested)
        {
            throw DrainSignal.Refusal();
        }
    }

    private static V1.WatchHookResponse ToResponse(HookEvent seen)
    {
        var response = new V1.WatchHookResponse { Dropped = seen.Dropped };
        if (seen.Capture is { } capture)
        {
            // The message is serialized before the event is freed: WriteAsync has then returned.
            response.Capture = HookMapping.ToCapture(capture, SharedMemory.Instance);
        }

        if (seen.Detached is { } failure)
        {
            response.Detached = HookMapping.ToFailure(failure);
        }

        return response;
    }

    private async Task<V1.RegisterHookResponse> RegisterAsync(V1.RegisterHookRequest request, CancellationToken cancellationToken)
    {
        var examples = request.ExampleInputs.Count == 0 ? null : new CallInputs(TensorMapping.ToInputs(request.ExampleInputs, "", "example_inputs"), null, "example_");
        var info = await engine.GetModule(request.Module)
            .RegisterHookAsync(HookMapping.ToHook(request.Hook, "hook"), examples, request.HasIfGeneration ? request.IfGeneration : null, cancellationToken).ConfigureAwait(false);
        return new V1.RegisterHookResponse { Hook = HookMapping.ToInfo(info) };
    }

    private async Task<V1.RemoveHookResponse> RemoveAsync(V1.RemoveHookRequest request, CancellationToken cancellationToken)
    {
        await engine.GetModule(request.Module).RemoveHookAsync(request.Hook, request.HasIfGeneration ? request.IfGeneration : null, cancellationToken).ConfigureAwait(false);
        return new V1.RemoveHookResponse();
    }
}
