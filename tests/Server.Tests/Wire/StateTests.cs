using System.IO.Hashing;
using Google.Protobuf;
using Google.Rpc;
using Grpc.Core;

namespace Sconce.Server.Tests.Wire;

/// <summary>State dicts and optimizer state as streams, whole and broken.</summary>
public sealed class StateTests : IAsyncLifetime
{
    private RunningServer _server = null!;

    public ValueTask InitializeAsync() => StartAsync(null);

    public async ValueTask DisposeAsync()
    {
        await Eventually.TrueAsync(async () => (await _server.Host.GetHostAsync(new V1.GetHostRequest())).Memory.UsedBytes == (await _server.Modules.GetModuleAsync(new V1.GetModuleRequest { Module = "m" })).Module.Bytes);
        Assert.Empty(_server.Errors);
        await _server.DisposeAsync();
    }

    [Fact]
    public async Task GetStateDict_then_LoadStateDict_moves_the_weights()
    {
        await Make.ModuleAsync(_server, "other", Make.Linear(3, 2));
        var (entries, bytes, end) = await ReadAsync("m", chunkBytes: 5);
        Assert.Equal(["weight", "bias"], entries.Select(entry => entry.Key));
        Assert.Equal(XxHash3.HashToUInt64(bytes), end.Xxh3);

        // Doubled, so that it differs from what the seed gave.
        var doubled = bytes.Chunk(4).SelectMany(value => BitConverter.GetBytes(BitConverter.ToSingle(value) * 2)).ToArray();
        var response = await LoadAsync("other", entries, doubled, chunkBytes: 7, digest: XxHash3.HashToUInt64(doubled));

        var (_, after, _) = await ReadAsync("other");
        Assert.Equal(doubled, after);
        Assert.True(response.Generation > 0);
        await _server.Modules.DeleteModuleAsync(new V1.DeleteModuleRequest { Module = "other" });
    }

    [Fact]
    public async Task GetStateDict_patterns_and_chunk_size()
    {
        var (entries, bytes, _) = await ReadAsync("m", keys: "b*");
        Assert.Equal("bias", Assert.Single(entries).Key);
        Assert.Equal(8, bytes.Length);

        using var call = _server.State.GetStateDict(new V1.GetStateDictRequest { Module = "m", ChunkBytes = 64 << 20 });
        var error = await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream.MoveNext(default));
        Assert.Equal("chunk_bytes", error.GetRpcStatus()!.GetDetail<BadRequest>().FieldViolations[0].Field);
    }

    [Fact]
    public async Task GetStateDict_of_a_caller_that_stops_reading_frees_the_copy()
    {
        // Time enough to see the copy first.
        await RestartAsync(streamIdleTimeout: TimeSpan.FromSeconds(5));
        await Make.ModuleAsync(_server, "large", Make.Linear(2048, 2048));
        using var call = _server.State.GetStateDict(new V1.GetStateDictRequest { Module = "large" });
        Assert.True(await call.ResponseStream.MoveNext(default));
        Assert.InRange((await _server.Host.GetHostAsync(new V1.GetHostRequest())).Memory.UsedBytes, 2UL * 2048 * 2048 * 4, ulong.MaxValue);

        await Eventually.TrueAsync(async () => (await _server.Host.GetHostAsync(new V1.GetHostRequest())).Memory.UsedBytes < 2UL * 2048 * 2048 * 4);

        await _server.Modules.DeleteModuleAsync(new V1.DeleteModuleRequest { Module = "large" });
    }

    [Fact]
    public async Task GetStateDict_of_a_caller_that_does_not_read_the_manifest_frees_the_copy()
    {
        await RestartAsync(streamIdleTimeout: TimeSpan.FromSeconds(5));

        // Keys of 3.6 KB each: a manifest that no window and no buffer takes whole.
        var spec = Make.Sequential([Make.Linear(1024, 1024), .. Enumerable.Repeat(Make.Spec("""{ "type": "PReLU" }"""), 200)]);
        for (var depth = 0; depth < 30; depth++)
        {
            spec = new V1.ModuleSpec { Type = "Sequential", Children = { new V1.ChildSpec { Name = $"n{depth}".PadRight(120, 'x'), Spec = spec } } };
        }

        await Make.ModuleAsync(_server, "long", spec);
        var copied = (await _server.Host.GetHostAsync(new V1.GetHostRequest())).Memory.UsedBytes + (1024 * 1024 * 4);
        using var call = _server.State.GetStateDict(new V1.GetStateDictRequest { Module = "long" });
        await call.ResponseHeadersAsync.WaitAsync(TimeSpan.FromSeconds(30));
        await Eventually.TrueAsync(async () => (await _server.Host.GetHostAsync(new V1.GetHostRequest())).Memory.UsedBytes >= copied);

        await Eventually.TrueAsync(async () => (await _server.Host.GetHostAsync(new V1.GetHostRequest())).Memory.UsedBytes < copied);

        await _server.Modules.DeleteModuleAsync(new V1.DeleteModuleRequest { Module = "long" });
    }

    [Fact]
    public async Task LoadStateDict_wrong_keys_and_shapes_are_named_at_once_and_nothing_changes()
    {
        var (_, before, _) = await ReadAsync("m");
        V1.StateEntry[] entries = [Entry("weight", 2, 2), Entry("extra", 1)];

        var error = await Assert.ThrowsAsync<RpcException>(() => LoadAsync("m", entries, new byte[20]));

        Assert.Equal(StatusCode.InvalidArgument, error.StatusCode);
        Assert.All(["bias", "extra", "weight"], key => Assert.Contains(key, error.Status.Detail, StringComparison.Ordinal));
        var (_, after, _) = await ReadAsync("m");
        Assert.Equal(before, after);
    }

    [Fact]
    public async Task LoadStateDict_not_strict_returns_what_differs()
    {
        using var call = _server.State.LoadStateDict();
        await call.RequestStream.WriteAsync(new V1.LoadStateDictRequest { Header = new V1.LoadStateDictHeader { Module = "m", Strict = false, Entries = { Entry("bias", 2), Entry("extra", 1) } } });
        await call.RequestStream.WriteAsync(Chunk(0, 0, new byte[8]));
        await call.RequestStream.WriteAsync(Chunk(1, 0, new byte[4]));
        await call.RequestStream.WriteAsync(new V1.LoadStateDictRequest { End = new V1.StateEnd() });
        await call.RequestStream.CompleteAsync();
        var response = await call;

        Assert.Equal("weight", Assert.Single(response.MissingKeys));
        Assert.Equal("extra", Assert.Single(response.UnexpectedKeys));
        Assert.Equal(new byte[8], (await ReadAsync("m", keys: "bias")).Bytes);
    }

    public static TheoryData<string, StatusCode, string> Broken() => new()
    {
        { "gap", StatusCode.InvalidArgument, "expected tensor 0 offset 4" },
        { "repeat", StatusCode.InvalidArgument, "expected tensor 0 offset 4" },
        { "excess", StatusCode.InvalidArgument, "after the last byte" },
        { "truncated", StatusCode.InvalidArgument, "the stream ended at tensor 0 offset 4" },
        { "no end", StatusCode.InvalidArgument, "send an end message" },
        { "digest", StatusCode.DataLoss, "000000000000002a" },
        { "after end", StatusCode.InvalidArgument, "not the last message" },
        { "second header", StatusCode.InvalidArgument, "the header comes once" },
        { "empty message", StatusCode.InvalidArgument, "neither a chunk nor an end" },
        { "no header", StatusCode.InvalidArgument, "the first message must be a header" },
        { "nothing", StatusCode.InvalidArgument, "before its first message" },
        { "silence", StatusCode.DeadlineExceeded, "stream_idle_timeout" },
        { "no module", StatusCode.NotFound, "nobody" },
        { "repeated key", StatusCode.InvalidArgument, "header.entries[1]" },
        { "negative", StatusCode.InvalidArgument, "header.entries[0].shape[0]" },
        { "too large", StatusCode.ResourceExhausted, "memory_budget_bytes" },
    };

    [Theory]
    [MemberData(nameof(Broken))]
    public async Task LoadStateDict_broken_stream_keeps_nothing(string how, StatusCode code, string words)
    {
        if (how == "silence")
        {
            await RestartAsync(streamIdleTimeout: TimeSpan.FromSeconds(1));
        }

        var (_, before, _) = await ReadAsync("m");
        var header = new V1.LoadStateDictRequest { Header = new V1.LoadStateDictHeader { Module = "m", Entries = { Entry("bias", 2) }, Strict = false } };
        var end = new V1.LoadStateDictRequest { End = new V1.StateEnd() };
        V1.LoadStateDictRequest[] messages = how switch
        {
            "gap" => [header, Chunk(0, 0, new byte[4]), Chunk(0, 5, new byte[3])],
            "repeat" => [header, Chunk(0, 0, new byte[4]), Chunk(0, 0, new byte[4])],
            "excess" => [header, Chunk(0, 0, new byte[8]), Chunk(1, 0, new byte[4])],
            "truncated" => [header, Chunk(0, 0, new byte[4])],
            "no end" => [header, Chunk(0, 0, new byte[8])],
            "digest" => [header, Chunk(0, 0, new byte[8]), new V1.LoadStateDictRequest { End = new V1.StateEnd { Xxh3 = 42 } }],
            "after end" => [header, Chunk(0, 0, new byte[8]), end, end],
            "second header" => [header, header],
            "empty message" => [header, new V1.LoadStateDictRequest()],
            "no header" => [end],
            "nothing" => [],
            "silence" => [header, Chunk(0, 0, new byte[4])],
            "no module" => [new V1.LoadStateDictRequest { Header = new V1.LoadStateDictHeader { Module = "nobody" } }],
            "repeated key" => [new V1.LoadStateDictRequest { Header = new V1.LoadStateDictHeader { Module = "m", Entries = { Entry("bias", 2), Entry("bias", 2) } } }],
            "negative" => [new V1.LoadStateDictRequest { Header = new V1.LoadStateDictHeader { Module = "m", Entries = { Entry("bias", -2) } } }],
            "too large" => [new V1.LoadStateDictRequest { Header = new V1.LoadStateDictHeader { Module = "m", Entries = { Entry("bias", 1L << 40) } } }],
            _ => throw new ArgumentOutOfRangeException(nameof(how)),
        };

        using var call = _server.State.LoadStateDict();
        foreach (var message in messages)
        {
            await call.RequestStream.TryWriteAsync(message);
        }

        if (how != "silence")
        {
            await call.RequestStream.TryCompleteAsync();
        }

        var error = await Assert.ThrowsAsync<RpcException>(() => call.ResponseAsync.WaitAsync(TimeSpan.FromSeconds(60)));
        Assert.Equal(code, error.StatusCode);
        Assert.Contains(words, error.Status.Detail, StringComparison.Ordinal);
        Assert.Equal(before, (await ReadAsync("m")).Bytes);
    }

    [Fact]
    public async Task LoadStateDict_below_the_least_rate_is_ended()
    {
        await using var server = await RunningServer.StartAsync(options => options.StreamMinBytesPerSecond = 1 << 20);
        await Make.ModuleAsync(server, "m", Make.Linear(3, 2));
        using var call = server.State.LoadStateDict();
        await call.RequestStream.WriteAsync(new V1.LoadStateDictRequest { Header = new V1.LoadStateDictHeader { Module = "m", Strict = false, Entries = { Entry("extra", 1 << 20) } } });
        var dripping = Task.Run(async () =>
        {
            for (ulong offset = 0; !call.ResponseAsync.IsCompleted; offset++)
            {
                await Task.Delay(200);
                await call.RequestStream.WriteAsync(Chunk(0, offset, new byte[1]));
            }
        });

        var error = await Assert.ThrowsAsync<RpcException>(() => call.ResponseAsync.WaitAsync(TimeSpan.FromSeconds(60)));
        await dripping.ContinueWith(_ => { }, TaskScheduler.Default);

        Assert.Equal(StatusCode.DeadlineExceeded, error.StatusCode);
        Assert.Contains("stream_min_bytes_per_second", error.Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task LoadStateDict_repeated_with_its_request_id_changes_once()
    {
        var bytes = Enumerable.Range(0, 32).Select(i => (byte)i).ToArray();
        V1.StateEntry[] entries = [Entry("weight", 2, 3), Entry("bias", 2)];

        var first = await LoadAsync("m", entries, bytes, requestId: "load");
        var second = await LoadAsync("m", entries, bytes, requestId: "load");
        bytes[0] = 99;
        var other = await Assert.ThrowsAsync<RpcException>(() => LoadAsync("m", entries, bytes, requestId: "load"));

        Assert.Equal(first, second);
        Assert.Equal("header.request_id", other.GetRpcStatus()!.GetDetail<BadRequest>().FieldViolations[0].Field);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task LoadStateDict_repeated_with_its_request_id_has_its_first_answer_whatever_became_of_the_module(bool goes)
    {
        await Make.ModuleAsync(_server, "other", Make.Linear(3, 2));
        V1.StateEntry[] entries = [Entry("weight", 2, 3), Entry("bias", 2)];
        var first = await LoadAsync("other", entries, new byte[32], requestId: "load");
        await _server.Modules.DeleteModuleAsync(new V1.DeleteModuleRequest { Module = "other" });
        if (!goes)
        {
            // Another one under its name, which these entries would not fit.
            await Make.ModuleAsync(_server, "other", Make.Linear(7, 5));
        }

        Assert.Equal(first, await LoadAsync("other", entries, new byte[32], requestId: "load", digest: XxHash3.HashToUInt64(new byte[32])));

        // Broken uploads and other calls under the id are still told.
        Assert.Equal(StatusCode.DataLoss, (await Assert.ThrowsAsync<RpcException>(() => LoadAsync("other", entries, new byte[32], requestId: "load", digest: 42))).StatusCode);
        var bytes = new byte[32];
        bytes[0] = 1;
        foreach (var reused in (Task[])[LoadAsync("other", entries, bytes, requestId: "load"), LoadAsync("other", [entries[0], Entry("other", 2)], new byte[32], requestId: "load")])
        {
            Assert.Equal("REQUEST_ID_REUSED", (await Refused.OfAsync(reused)).Is(StatusCode.InvalidArgument, "header.request_id").Reason);
        }

        (await Refused.OfAsync(LoadAsync("other", [Entry("weight", -1)], [], requestId: "load"))).Is(StatusCode.InvalidArgument, "header.entries[0].shape[0]");
        if (!goes)
        {
            await _server.Modules.DeleteModuleAsync(new V1.DeleteModuleRequest { Module = "other" });
        }
    }

    [Fact]
    public async Task LoadStateDict_of_a_client_that_leaves_keeps_nothing()
    {
        for (var i = 0; i < 5; i++)
        {
            using var call = _server.State.LoadStateDict();
            await call.RequestStream.WriteAsync(new V1.LoadStateDictRequest { Header = new V1.LoadStateDictHeader { Module = "m", Strict = false, Entries = { Entry("extra", 1 << 20) } } });
            await call.RequestStream.WriteAsync(Chunk(0, 0, new byte[1000]));
        }

        // The ledger is looked at when the test ends.
    }

    // A busy machine keeps a caller waiting too: only what waits for a limit has a short one.
    private async Task RestartAsync(TimeSpan streamIdleTimeout)
    {
        await _server.DisposeAsync();
        await StartAsync(streamIdleTimeout);
    }

    private async ValueTask StartAsync(TimeSpan? streamIdleTimeout)
    {
        _server = await RunningServer.StartAsync(options =>
        {
            options.StreamIdleTimeout = streamIdleTimeout ?? options.StreamIdleTimeout;
            options.Engine.MemoryBudgetBytes = 64 << 20;
        });
        await Make.ModuleAsync(_server, "m", Make.Linear(3, 2));
    }

    private static V1.StateEntry Entry(string key, params long[] shape) => new() { Key = key, Dtype = V1.DataType.Float32, Shape = { shape } };

    private static V1.LoadStateDictRequest Chunk(uint entry, ulong offset, byte[] data) =>
        new() { Chunk = new V1.StateChunk { Entry = entry, Offset = offset, Data = ByteString.CopyFrom(data) } };

    private async Task<(IReadOnlyList<V1.StateEntry> Entries, byte[] Bytes, V1.StateEnd End)> ReadAsync(string module, uint chunkBytes = 0, params string[] keys)
    {
        using var call = _server.State.GetStateDict(new V1.GetStateDictRequest { Module = module, ChunkBytes = chunkBytes, Keys = { keys } });
        Assert.True(await call.ResponseStream.MoveNext(default));
        var manifest = call.ResponseStream.Current.Manifest;
        var bytes = new List<byte>();
        V1.StateEnd? end = null;
        while (await call.ResponseStream.MoveNext(default))
        {
            var part = call.ResponseStream.Current;
            bytes.AddRange(part.Chunk?.Data ?? ByteString.Empty);
            end ??= part.End;
        }

        Assert.Equal((ulong)bytes.Count, manifest.TotalBytes);
        return (manifest.Entries, [.. bytes], end!);
    }

    private async Task<V1.LoadStateDictResponse> LoadAsync(
        string module, IEnumerable<V1.StateEntry> entries, byte[] bytes, int chunkBytes = 1 << 20, ulong? digest = null, string requestId = "")
    {
        using var call = _server.State.LoadStateDict();
        var header = new V1.LoadStateDictHeader { Module = module, Entries = { entries }, RequestId = requestId };
        try
        {
            await call.RequestStream.WriteAsync(new V1.LoadStateDictRequest { Header = header });
            var read = 0;
            for (var entry = 0; entry < header.Entries.Count; entry++)
            {
                var length = (int)header.Entries[entry].Shape.Aggregate(4L, (a, b) => a * b);
                for (var offset = 0; offset < length; offset += chunkBytes)
                {
                    var size = Math.Min(chunkBytes, length - offset);
                    await call.RequestStream.WriteAsync(Chunk((uint)entry, (ulong)offset, bytes.AsSpan(read, size).ToArray()));
                    read += size;
                }
            }

            var end = new V1.StateEnd();
            if (digest is { } value)
            {
                end.Xxh3 = value;
            }

            await call.RequestStream.WriteAsync(new V1.LoadStateDictRequest { End = end });
            await call.RequestStream.CompleteAsync();
        }
        catch (Exception e) when (e is RpcException or InvalidOperationException)
        {
            // Refused before all was sent; the answer says why.
        }

        return await call;
    }
}
