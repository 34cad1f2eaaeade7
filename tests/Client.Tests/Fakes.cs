using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Google.Rpc;
using Grpc.Core;
using Sconce.V1;

namespace Sconce.Client.Tests;

/// <summary>Messages that several tests need.</summary>
internal static class Fakes
{
    /// <summary>A summary that carries the name in the request.</summary>
    public static Module Module(IMessage request) => new()
    {
        Name = (string)(request.Descriptor.FindFieldByName("copy") ?? request.Descriptor.FindFieldByName("module")).Accessor.GetValue(request),
        Type = "Linear",
        Generation = 3,
    };

    public static V1.Tensor Tensor(params float[] values) =>
        new() { Dtype = DataType.Float32, Shape = { values.Length }, Data = ByteString.CopyFrom(System.Runtime.InteropServices.MemoryMarshal.AsBytes(values.AsSpan())) };

    /// <summary>A forward that returns its first input.</summary>
    public static ForwardResponse Echo(ForwardRequest request) => new() { Output = new V1.Value { Tensor = request.Inputs[0] }, Generation = 5 };

    /// <summary>A status with details, as the server sends it.</summary>
    public static RpcException Error(Grpc.Core.StatusCode code, string message, params IMessage[] details)
    {
        var status = new Google.Rpc.Status { Code = (int)code, Message = message };
        status.Details.AddRange(details.Select(Any.Pack));
        return status.ToRpcException();
    }

    /// <summary>What the server's own interceptor adds to each of its statuses.</summary>
    public static ErrorInfo Reason(string reason, string domain = "sconce") => new() { Domain = domain, Reason = reason };

    public static RetryInfo RetryIn(double milliseconds) => new() { RetryDelay = Duration.FromTimeSpan(TimeSpan.FromMilliseconds(milliseconds)) };
}
