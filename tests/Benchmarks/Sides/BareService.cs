using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Text.Json;
using Grpc.Core;

namespace Sconce.Benchmarks.Sides;

/// <summary>The server half of <see cref="BareMethods"/>.</summary>
internal sealed class BareService
{
    private readonly ConcurrentDictionary<int, byte[]> _replies = new();
    private readonly Lazy<LocalWorkloads> _local = new();
    private ManagedMemory? _memory;

    /// <summary>The service as grpc-dotnet maps it.</summary>
    public ServerServiceDefinition Define() => ServerServiceDefinition.CreateBuilder()
        .AddMethod(BareMethods.Exchange, new UnaryServerMethod<byte[], byte[]>((request, _) => Task.FromResult(Reply(request))))
        .AddMethod(BareMethods.Stats, new UnaryServerMethod<byte[], byte[]>((_, _) => Task.FromResult(JsonSerializer.SerializeToUtf8Bytes(ProcessStats.Now()))))
        .AddMethod(BareMethods.Upload, new ClientStreamingServerMethod<byte[], byte[]>(UploadAsync))
        .AddMethod(BareMethods.KeptUpload, new ClientStreamingServerMethod<byte[], byte[]>(KeptUploadAsync))
        .AddMethod(BareMethods.WatchMemory, new UnaryServerMethod<byte[], byte[]>(WatchMemory))
        .AddMethod(BareMethods.WatchedMemory, new UnaryServerMethod<byte[], byte[]>((_, _) => Task.FromResult(JsonSerializer.SerializeToUtf8Bytes(_memory!.End()))))
        .AddMethod(BareMethods.RunLocal, new UnaryServerMethod<byte[], byte[]>(RunLocalAsync))
        .Build();

    private byte[] Reply(byte[] request) =>
        _replies.GetOrAdd(BinaryPrimitives.ReadInt32LittleEndian(request), static length => new byte[length]);

    private static async Task<byte[]> UploadAsync(IAsyncStreamReader<byte[]> messages, ServerCallContext context)
    {
        var bytes = 0L;
        while (await messages.MoveNext(context.CancellationToken))
        {
            bytes += messages.Current.Length;
        }

        return Count(bytes);
    }

    private static async Task<byte[]> KeptUploadAsync(IAsyncStreamReader<byte[]> messages, ServerCallContext context)
    {
        using var kept = new KeptBytes();
        while (await messages.MoveNext(context.CancellationToken))
        {
            kept.Add(messages.Current);
        }

        return Count(kept.Length);
    }

    private static byte[] Count(long bytes)
    {
        var answer = new byte[sizeof(long)];
        BinaryPrimitives.WriteInt64LittleEndian(answer, bytes);
        return answer;
    }

    private Task<byte[]> WatchMemory(byte[] request, ServerCallContext context)
    {
        _memory = new ManagedMemory();
        return Task.FromResult(Array.Empty<byte>());
    }

    private async Task<byte[]> RunLocalAsync(byte[] request, ServerCallContext context)
    {
        var block = JsonSerializer.Deserialize<LocalBlock>(request) ?? throw new InvalidOperationException("an empty request");
        return JsonSerializer.SerializeToUtf8Bytes(await _local.Value.RunAsync(block));
    }
}

/// <summary>Counters of a process.</summary>
/// <param name="AllocatedBytes">Managed bytes allocated since it began (<see cref="GC.GetTotalAllocatedBytes"/>, precise).</param>
/// <param name="CpuMilliseconds">Processor time used.</param>
internal sealed record ProcessStats(long AllocatedBytes, double CpuMilliseconds)
{
    /// <summary>The counters of this process.</summary>
    public static ProcessStats Now() => new(GC.GetTotalAllocatedBytes(precise: true), Environment.CpuUsage.TotalTime.TotalMilliseconds);
}

/// <summary>One block of local work.</summary>
/// <param name="Workload">What to run.</param>
/// <param name="Batch">Rows of the input.</param>
/// <param name="Milliseconds">For how long.</param>
internal sealed record LocalBlock(LocalWorkload Workload, int Batch, double Milliseconds);

/// <summary>What can run in the server process without gRPC.</summary>
internal enum LocalWorkload
{
    /// <summary>Forward of the MLP in eval mode.</summary>
    Forward,

    /// <summary>Forward, loss, zero_grad, backward and SGD step of the MLP.</summary>
    TrainStep,

    /// <summary>See <see cref="HookWorkloads.Hookless"/>.</summary>
    Hookless,

    /// <summary>See <see cref="HookWorkloads.NoHooks"/>.</summary>
    NoHooks,

    /// <summary>See <see cref="HookWorkloads.Plain"/>.</summary>
    HostedForward,

    /// <summary>See <see cref="HookWorkloads.PlainAndCopy"/>.</summary>
    HostedForwardAndCopy,

    /// <summary>See <see cref="HookWorkloads.Observed"/>.</summary>
    ObservedForward,

    /// <summary>See <see cref="FileWorkloads.Read"/>.</summary>
    ReadFile,

    /// <summary>See <see cref="FileWorkloads.LoadSafetensors"/>.</summary>
    LoadSafetensors,

    /// <summary>See <see cref="SnapshotWorkloads.Dd"/>.</summary>
    DdFsync,

    /// <summary>See <see cref="SnapshotWorkloads.Save"/>.</summary>
    SaveSnapshot,
}
