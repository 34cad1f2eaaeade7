using Grpc.Core;
using Sconce.Server.Streams;

namespace Sconce.Server.Services;

/// <summary>Binds StateService as generated, but for what reads the messages of LoadStateDict.</summary>
internal static class StateBinding
{
    private static readonly Marshaller<V1.LoadStateDictRequest> Marshaller = new(
        static (message, context) => throw new NotSupportedException("a server sends no requests"), ChunkMarshaller.Read);

    /// <summary>Found by Grpc.AspNetCore through the attribute on <see cref="StateService"/>.</summary>
    public static void BindService(ServiceBinderBase binder, V1.StateService.StateServiceBase service) => V1.StateService.BindService(new Binder(binder), service);

    private sealed class Binder(ServiceBinderBase inner) : ServiceBinderBase
    {
        public override void AddMethod<TRequest, TResponse>(Method<TRequest, TResponse> method, UnaryServerMethod<TRequest, TResponse>? handler) => inner.AddMethod(method, handler);

        public override void AddMethod<TRequest, TResponse>(Method<TRequest, TResponse> method, ServerStreamingServerMethod<TRequest, TResponse>? handler) => inner.AddMethod(method, handler);

        public override void AddMethod<TRequest, TResponse>(Method<TRequest, TResponse> method, DuplexStreamingServerMethod<TRequest, TResponse>? handler) => inner.AddMethod(method, handler);

        public override void AddMethod<TRequest, TResponse>(Method<TRequest, TResponse> method, ClientStreamingServerMethod<TRequest, TResponse>? handler) =>
            inner.AddMethod(Marshaller is Marshaller<TRequest> marshaller ? new Method<TRequest, TResponse>(method.Type, method.ServiceName, method.Name, marshaller, method.ResponseMarshaller) : method, handler);
    }
}
