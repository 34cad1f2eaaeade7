using Google.Protobuf;
using Microsoft.AspNetCore.Http;
using Sconce.Engine.Tensors;

namespace Sconce.Server.Mapping;

/// <summary>Who keeps a tensor's native memory alive until the response that shows it has been written.</summary>
internal interface IResponseMemory
{
    /// <summary>The tensor's bytes, for a response.</summary>
    ByteString Bytes(TensorExport tensor);

    /// <summary>Takes over the outcome that the tensors belong to, when the response is complete.</summary>
    void Keep(IDisposable outcome);
}

/// <summary>For a unary call: the response shows native memory, which goes when the HTTP response has been sent.</summary>
internal sealed class HttpResponseMemory(HttpContext context) : IResponseMemory
{
    public ByteString Bytes(TensorExport tensor) => UnsafeByteOperations.UnsafeWrap(tensor.Data);

    // Runs after the handler's response was serialized, and also when it never is: the call was cancelled, the connection broke.
    public void Keep(IDisposable outcome) => context.Response.RegisterForDispose(outcome);
}

/// <summary>For one message of a stream: whoever writes it disposes this afterwards.</summary>
internal sealed class MessageMemory : IResponseMemory, IDisposable
{
    private IDisposable? _outcome;

    public ByteString Bytes(TensorExport tensor) => UnsafeByteOperations.UnsafeWrap(tensor.Data);

    public void Keep(IDisposable outcome) => _outcome = outcome;

    public void Dispose() => _outcome?.Dispose();
}

/// <summary>For a message whose tensors outlive its writing anyway.</summary>
internal sealed class SharedMemory : IResponseMemory
{
    public static readonly SharedMemory Instance = new();

    public ByteString Bytes(TensorExport tensor) => UnsafeByteOperations.UnsafeWrap(tensor.Data);

    public void Keep(IDisposable outcome)
    {
        // Whoever writes the message holds it.
    }
}

/// <summary>For a response that is remembered under a request_id: it owns a copy of its bytes.</summary>
internal sealed class CopiedMemory : IResponseMemory
{
    public static readonly CopiedMemory Instance = new();

    public ByteString Bytes(TensorExport tensor) => ByteString.CopyFrom(tensor.Data.Span);

    public void Keep(IDisposable outcome) => outcome.Dispose();
}
