using System.IO.Hashing;
using System.Runtime.InteropServices;
using Google.Protobuf;
using Grpc.Core;

namespace Sconce.Server.Tests.Wire;

/// <summary>Uploads that go on in another stream: after a broken one, in the place of one that is open still, and after their end.</summary>
public sealed class UploadTests : IAsyncLifetime
{
    private static readonly byte[] Bytes = MemoryMarshal.AsBytes(Enumerable.Range(0, 12).Select(i => (float)i).ToArray().AsSpan()).ToArray();

    private RunningServer _server = null!;

    public async ValueTask InitializeAsync()
    {
        _server = await RunningServer.StartAsync(options => (options.MaxUploads, options.StreamIdleTimeout) = (2, TimeSpan.FromSeconds(60)));
        await Make.ModuleAsync(_server, "m", Make.Linear(5, 2));
    }

    public async ValueTask DisposeAsync()
    {
        Assert.Empty(_server.Errors);
        await _server.DisposeAsync();
    }

    [Fact]
    public async Task A_broken_upload_goes_on_where_it_ended_and_is_loaded_once()
    {
        var generation = await GenerationAsync();
        await BreakAsync("u", 3, 13);
        Assert.Equal(new V1.GetUploadResponse { NextEntry = 0, NextOffset = 16, ReceivedBytes = 16, TotalBytes = 48 }, await PlaceAsync("u", 16));

        var response = await SendAsync(Header("u"), 16);

        Assert.Equal(generation + 1, response.Generation);
        Assert.Equal(Bytes, await StateAsync());
        Assert.True((await PlaceAsync("u", 48)).Complete);

        // Who did not get the answer asks again with what is left to send, or with all of it.
        Assert.Equal(response, await SendAsync(Header("u"), 48));
        Assert.Equal(response, await SendAsync(Header("u"), 0));
        Assert.Equal(generation + 1, await GenerationAsync());
    }

    [Fact]
    public async Task What_is_kept_is_charged_and_bounded_and_what_ends_is_not()
    {
        var used = await UsedAsync();
        await BreakAsync("a", 48);
        await BreakAsync("b", 4);
        Assert.Equal(used + 52, await UsedAsync());

        var refused = (await Refused.OfAsync(SendAsync(Header("c"), 0))).Is(StatusCode.ResourceExhausted);
        Assert.Contains("max_uploads", refused.Message, StringComparison.Ordinal);

        await SendAsync(Header("a"), 48);
        Assert.Equal(used + 4, await UsedAsync());
        await SendAsync(Header("c"), 0);
    }

    [Fact]
    public async Task A_stream_takes_the_upload_over_from_one_that_is_open()
    {
        using var first = _server.State.LoadStateDict();
        await first.RequestStream.WriteAsync(new() { Header = Header("u") });
        await first.RequestStream.WriteAsync(Chunk(0, 20));
        await PlaceAsync("u", 20);

        // It begins before where the first one ended, as after an old answer of GetUpload.
        await SendAsync(Header("u"), 7);

        Assert.Equal("UPLOAD_TAKEN_OVER", (await Refused.OfAsync(first.ResponseAsync)).Is(StatusCode.Aborted).Reason);
        Assert.Equal(Bytes, await StateAsync());
    }

    [Fact]
    public async Task Another_header_and_other_bytes_under_the_id_are_refused()
    {
        await BreakAsync("u", 16);
        var other = Header("u");
        other.Strict = false;
        Assert.Equal("UPLOAD_ID_REUSED", (await Refused.OfAsync(SendAsync(other, 0))).Is(StatusCode.InvalidArgument, "header.upload_id").Reason);
        Assert.Equal(16UL, (await PlaceAsync("u", 16)).ReceivedBytes);

        using var call = _server.State.LoadStateDict();
        await call.RequestStream.WriteAsync(new() { Header = Header("u") });
        await call.RequestStream.WriteAsync(new() { Chunk = new() { Data = ByteString.CopyFrom(1, 2, 3, 4) } });
        (await Refused.OfAsync(call.ResponseAsync)).Is(StatusCode.InvalidArgument, "chunk.data");
        (await Refused.OfAsync(PlaceAsync("u"))).Is(StatusCode.NotFound, resource: "upload");
    }

    [Fact]
    public async Task A_gap_or_a_wrong_digest_ends_the_upload()
    {
        foreach (var (from, digest, code) in new[] { (20, 0UL, StatusCode.InvalidArgument), (16, 1UL, StatusCode.DataLoss) })
        {
            await BreakAsync("u", 16);
            (await Refused.OfAsync(SendAsync(Header("u"), from, digest))).Is(code);
            (await Refused.OfAsync(PlaceAsync("u"))).Is(StatusCode.NotFound, resource: "upload");
        }
    }

    [Theory]
    [InlineData("")]
    [InlineData("a\nb")]
    public async Task A_malformed_id_is_refused(string id)
    {
        (await Refused.OfAsync(PlaceAsync(id))).Is(id.Length == 0 ? StatusCode.NotFound : StatusCode.InvalidArgument);
        if (id.Length > 0)
        {
            (await Refused.OfAsync(SendAsync(Header(id), 0))).Is(StatusCode.InvalidArgument, "header.upload_id");
        }
    }

    [Fact]
    public async Task What_nobody_goes_on_with_is_freed_in_time()
    {
        await using var server = await RunningServer.StartAsync(options => options.UploadTtl = TimeSpan.FromMilliseconds(1));
        await Make.ModuleAsync(server, "m", Make.Linear(5, 2));
        var used = (await server.Host.GetHostAsync(new())).Memory.UsedBytes;
        using (var call = server.State.LoadStateDict())
        {
            await call.RequestStream.WriteAsync(new() { Header = Header("u") });
            await call.RequestStream.WriteAsync(Chunk(0, 20));
            await Eventually.TrueAsync(async () => (await server.Host.GetHostAsync(new())).Memory.UsedBytes == used + 20);
        }

        await Eventually.TrueAsync(async () => (await server.Host.GetHostAsync(new())).Memory.UsedBytes == used);
    }

    [Fact]
    public async Task A_retry_after_the_end_is_not_kept_waiting_by_one_that_hangs()
    {
        var response = await SendAsync(Header("u"), 0);
        using var first = _server.State.LoadStateDict();
        await first.RequestStream.WriteAsync(new() { Header = Header("u") });

        // It sends nothing more: its connection may be gone without a word. It may come between a retry and its answer, too.
        await Eventually.TrueAsync(async () =>
        {
            try
            {
                Assert.Equal(response, await SendAsync(Header("u"), 48));
            }
            catch (RpcException e) when (e.StatusCode == StatusCode.Aborted)
            {
                // The other one was the later.
            }

            return first.ResponseAsync.IsCompleted;
        });
        Assert.Equal("UPLOAD_TAKEN_OVER", (await Refused.OfAsync(first.ResponseAsync)).Is(StatusCode.Aborted).Reason);
    }

    [Fact]
    public async Task Silence_says_what_becomes_of_what_came()
    {
        await using var server = await RunningServer.StartAsync(options => options.StreamIdleTimeout = TimeSpan.FromMilliseconds(500));
        await Make.ModuleAsync(server, "m", Make.Linear(5, 2));
        foreach (var (id, words) in new[] { ("u", "kept for 300 s under its upload_id"), ("", "nothing is kept") })
        {
            // Where the machine is busy even the header may come too late.
            await Eventually.TrueAsync(async () =>
            {
                using var call = server.State.LoadStateDict();
                try
                {
                    await call.RequestStream.WriteAsync(new() { Header = Header(id) });
                }
                catch (RpcException)
                {
                    // Refused already; the answer says why.
                }

                var refused = (await Refused.OfAsync(call.ResponseAsync)).Is(StatusCode.DeadlineExceeded);
                Assert.Equal("STREAM_IDLE", refused.Reason);
                return refused.Message.Contains(words, StringComparison.Ordinal);
            });
        }
    }

    [Fact]
    public async Task A_long_list_of_tensors_is_charged_while_it_is_kept()
    {
        var used = await UsedAsync();
        var header = Header("u");
        header.Strict = false;
        header.Entries.AddRange(Enumerable.Range(0, 10_000).Select(i => new V1.StateEntry { Key = $"none{i:d96}", Dtype = V1.DataType.Float32, Shape = { 0 } }));
        using (var call = _server.State.LoadStateDict())
        {
            await call.RequestStream.WriteAsync(new() { Header = header });
            await call.RequestStream.WriteAsync(Chunk(0, 20));
            await PlaceAsync("u", 20);
        }

        // Two bytes of each character at least.
        Assert.InRange(await UsedAsync(), used + 2_000_000, used + 10_000_000);

        (await Refused.OfAsync(SendAsync(header, 30))).Is(StatusCode.InvalidArgument);
        await Eventually.TrueAsync(async () => await UsedAsync() == used);
    }

    private static V1.LoadStateDictHeader Header(string id) => new()
    {
        Module = "m",
        UploadId = id,
        RequestId = "request-of-" + string.Concat(id.Where(char.IsLetter)),
        Entries = { new V1.StateEntry { Key = "weight", Dtype = V1.DataType.Float32, Shape = { 2, 5 } }, new V1.StateEntry { Key = "bias", Dtype = V1.DataType.Float32, Shape = { 2 } } },
    };

    /// <summary>A piece of all bytes: the first 40 are the weight's.</summary>
    private static V1.LoadStateDictRequest Chunk(int begin, int end) => new()
    {
        Chunk = new() { Entry = begin < 40 ? 0U : 1, Offset = (ulong)(begin < 40 ? begin : begin - 40), Data = ByteString.CopyFrom(Bytes, begin, end - begin) },
    };

    /// <summary>Begins an upload with pieces of these sizes, and drops the stream when they have come.</summary>
    private async Task BreakAsync(string id, params int[] sizes)
    {
        using var call = _server.State.LoadStateDict();
        await call.RequestStream.WriteAsync(new() { Header = Header(id) });
        var at = 0;
        foreach (var size in sizes)
        {
            foreach (var (begin, end) in Split(at, at + size))
            {
                await call.RequestStream.WriteAsync(Chunk(begin, end));
            }

            at += size;
        }

        await PlaceAsync(id, at);
    }

    private async Task<V1.LoadStateDictResponse> SendAsync(V1.LoadStateDictHeader header, int from, ulong change = 0)
    {
        using var call = _server.State.LoadStateDict();
        await call.RequestStream.TryWriteAsync(new() { Header = header });
        foreach (var (begin, end) in Split(from, 48))
        {
            await call.RequestStream.TryWriteAsync(Chunk(begin, end));
        }

        await call.RequestStream.TryWriteAsync(new() { End = new() { Xxh3 = XxHash3.HashToUInt64(Bytes) ^ change } });
        await call.RequestStream.TryCompleteAsync();

        return await call.ResponseAsync;
    }

    private static IEnumerable<(int Begin, int End)> Split(int begin, int end) =>
        ((int, int)[])[(begin, Math.Min(end, 40)), (Math.Max(begin, 40), end)] is var parts ? parts.Where(part => part.Item1 < part.Item2) : [];

    /// <summary>Where an upload is to go on, once it has come that far.</summary>
    private async Task<V1.GetUploadResponse> PlaceAsync(string id, int? received = null)
    {
        V1.GetUploadResponse? place = null;
        await Eventually.TrueAsync(async () =>
        {
            try
            {
                place = await _server.State.GetUploadAsync(new() { UploadId = id });
            }
            catch (RpcException e) when (received is not null && e.StatusCode == StatusCode.NotFound)
            {
                return false;
            }

            return received is null || place.ReceivedBytes == (ulong)received;
        });
        return place!;
    }

    private async Task<ulong> UsedAsync() => (await _server.Host.GetHostAsync(new())).Memory.UsedBytes;

    private async Task<ulong> GenerationAsync() => (await _server.Modules.GetModuleAsync(new() { Module = "m" })).Module.Generation;

    private async Task<byte[]> StateAsync()
    {
        using var call = _server.State.GetStateDict(new() { Module = "m" });
        var bytes = new List<byte>();
        while (await call.ResponseStream.MoveNext(default))
        {
            bytes.AddRange(call.ResponseStream.Current.Chunk?.Data ?? ByteString.Empty);
        }

        return [.. bytes];
    }
}
