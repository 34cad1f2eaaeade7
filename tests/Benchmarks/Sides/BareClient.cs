using System.Buffers.Binary;
using System.Text.Json;
using Grpc.Core;
using Sconce.Benchmarks.Harness;

namespace Sconce.Benchmarks.Sides;

/// <summary>Calls the bare side.</summary>
internal sealed class BareClient(CallInvoker invoker)
{
    /// <summary>A call that sends exactly <paramref name="requestBytes"/> and gets exactly <paramref name="responseBytes"/>.</summary>
    public Func<Task> Exchange(int requestBytes, int responseBytes)
    {
        var request = new byte[Math.Max(requestBytes, sizeof(int))];
        BinaryPrimitives.WriteInt32LittleEndian(request, responseBytes);
        return async () => await CallAsync(BareMethods.Exchange, request);
    }

    /// <summary>A call that streams so many messages of so many bytes; the server takes each into an array of its own and looks no further.</summary>
    /// <param name="messages">How many.</param>
    /// <param name="messageBytes">Bytes of each.</param>
    /// <param name="isKept">Whether the server also copies them into native memory.</param>
    public Func<Task> Upload(int messages, int messageBytes, bool isKept = false)
    {
        var message = new byte[messageBytes];
        new Random(0).NextBytes(message);
        return async () =>
        {
            using var call = invoker.AsyncClientStreamingCall(isKept ? BareMethods.KeptUpload : BareMethods.Upload, null, default);
            for (var i = 0; i < messages; i++)
            {
                await call.RequestStream.WriteAsync(message);
            }

            await call.RequestStream.CompleteAsync();
            var came = BinaryPrimitives.ReadInt64LittleEndian(await call.ResponseAsync);
            if (came != (long)messages * messageBytes)
            {
                throw new InvalidOperationException($"{came} bytes came of {messages} times {messageBytes}");
            }
        };
    }

    /// <summary>The managed memory of the server process while something is done.</summary>
    public async Task<ManagedMemory.Result> MemoryDuringAsync(Func<Task> work)
    {
        await CallAsync(BareMethods.WatchMemory, []);
        try
        {
            await work();
        }
        catch
        {
            await CallAsync(BareMethods.WatchedMemory, []);
            throw;
        }

        return Read<ManagedMemory.Result>(await CallAsync(BareMethods.WatchedMemory, []));
    }

    /// <summary>Counters of the server process.</summary>
    public async Task<ProcessStats> StatsAsync() => Read<ProcessStats>(await CallAsync(BareMethods.Stats, []));

    /// <summary>The same work inside the server process, without gRPC.</summary>
    public Side Local(string name, LocalWorkload workload, int batch) => new(name, async duration =>
    {
        var block = new LocalBlock(workload, batch, duration.TotalMilliseconds);
        return Read<BlockResult>(await CallAsync(BareMethods.RunLocal, JsonSerializer.SerializeToUtf8Bytes(block)));
    });

    private async Task<byte[]> CallAsync(Method<byte[], byte[]> method, byte[] request)
    {
        using var call = invoker.AsyncUnaryCall(method, null, default, request);
        return await call.ResponseAsync;
    }

    private static T Read<T>(byte[] json) => JsonSerializer.Deserialize<T>(json)!;
}
