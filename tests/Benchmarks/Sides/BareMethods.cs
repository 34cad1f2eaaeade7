using Grpc.Core;

namespace Sconce.Benchmarks.Sides;

/// <summary>The methods of the bare side: plain gRPC with marshallers that only move byte arrays.</summary>
internal static class BareMethods
{
    private const string Service = "sconce.bench.Bare";

    /// <summary>Answers as many bytes as the first four of the request (little-endian) ask for.</summary>
    public static readonly Method<byte[], byte[]> Exchange = Define("Exchange");

    /// <summary>Answers the <see cref="ProcessStats"/> of the server process, as JSON.</summary>
    public static readonly Method<byte[], byte[]> Stats = Define("Stats");

    /// <summary>Runs one block of a <see cref="LocalWorkload"/> in the server process, without gRPC; JSON both ways.</summary>
    public static readonly Method<byte[], byte[]> RunLocal = Define("RunLocal");

    /// <summary>Takes messages, looks at nothing but their lengths, and answers how many bytes came (little-endian, 8 bytes).</summary>
    public static readonly Method<byte[], byte[]> Upload = Define("Upload", MethodType.ClientStreaming);

    /// <summary>As <see cref="Upload"/>, and copies every message into native memory, which is kept until the last has come.</summary>
    public static readonly Method<byte[], byte[]> KeptUpload = Define("KeptUpload", MethodType.ClientStreaming);

    /// <summary>Collects garbage and begins to watch the managed memory of the server process.</summary>
    public static readonly Method<byte[], byte[]> WatchMemory = Define("WatchMemory");

    /// <summary>Ends that and answers a <see cref="ManagedMemory.Result"/>, as JSON.</summary>
    public static readonly Method<byte[], byte[]> WatchedMemory = Define("WatchedMemory");

    private static Method<byte[], byte[]> Define(string name, MethodType type = MethodType.Unary)
    {
        var bytes = new Marshaller<byte[]>(static (payload, context) => context.Complete(payload), static context => context.PayloadAsNewBuffer());
        return new Method<byte[], byte[]>(type, Service, name, bytes, bytes);
    }
}
