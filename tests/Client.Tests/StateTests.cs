using System.IO.Hashing;
using System.Runtime.InteropServices;
using Google.Protobuf;
using Grpc.Core;
using Sconce.Client.Internal;
using Sconce.V1;

namespace Sconce.Client.Tests;

public sealed class StateTests
{
    private static readonly float[] Weight = [.. Enumerable.Range(0, 1000).Select(i => (float)i)];

    [Fact]
    public async Task StateDict_severalChunks_givesKeysInOrderAndTheBytes()
    {
        await using var server = await FakeServer.StartAsync();
        server.OnStream<GetStateDictRequest, GetStateDictResponse>(async (_, writer, _) =>
        {
            foreach (var message in Answer(chunk: 1024))
                await writer!.WriteAsync(message);
            return null;
        });
        await using var client = server.NewClient();

        var state = await client.Module("m").StateDictAsync(["*"]);

        Assert.Equal(["weight", "empty", "steps"], state.Keys);
        Assert.Equal(Weight, state["weight"].As<float>().ToArray());
        Assert.Equal([0L, 4L], state["empty"].Shape);
        Assert.Equal(7, state["steps"].Item<long>());
        Assert.Equal((11ul, 4008L), (state.Generation, state.TotalBytes));
    }

    [Fact]
    public void Chunks_outgoing_shareTheTensorsMemory()
    {
        var weight = new byte[(3 << 20) / 2];

        var chunks = StateTransfer.Chunks(new StateDict { ["w"] = TensorData.Create(weight) }).Select(part => part.Chunk).OfType<StateChunk>().ToList();

        Assert.Equal([1 << 20, 1 << 19], chunks.Select(chunk => chunk.Data.Length));
        Assert.All(chunks, chunk =>
        {
            Assert.True(MemoryMarshal.TryGetArray(chunk.Data.Memory, out var bytes));
            Assert.Same(weight, bytes.Array);
            Assert.Equal((int)chunk.Offset, bytes.Offset);
        });
    }

    [Fact]
    public void Pieces_tensorAsLargeAsAnArrayGoes_coverIt()
    {
        // Never touched, so that it costs address space and no memory.
        var pieces = StateTransfer.Pieces(GC.AllocateUninitializedArray<byte>(Array.MaxLength)).Select(at => (at.Offset, at.Piece.Length)).ToList();

        Assert.Equal(2048, pieces.Count);
        Assert.Equal((2047 << 20, Array.MaxLength - (2047 << 20)), pieces[^1]);
    }

    [Fact]
    public void Assembly_tensorInOneChunk_sharesTheMessagesMemory()
    {
        var chunk = new StateChunk { Data = Fakes.Tensor(1, 2).Data };
        var assembly = new StateTransfer.Assembly();

        assembly.Take(new StatePart([new StateEntry { Key = "w", Dtype = DataType.Float32, Shape = { 2 } }], null, null));
        assembly.Take(new StatePart(null, chunk, null));

        Assert.True(MemoryMarshal.TryGetArray(chunk.Data.Memory, out var sent));
        Assert.True(MemoryMarshal.TryGetArray(assembly.State["w"].Bytes, out var kept));
        Assert.Same(sent.Array, kept.Array);
    }

    [Theory]
    [InlineData("digest", "its digest is 0000000000000001 and its bytes give")]
    [InlineData("gap", "a chunk is for tensor 0 at byte 2048, and tensor 0 at byte 1024 was due")]
    [InlineData("short", "3 tensors were announced and 2 came whole")]
    [InlineData("no end", "it stopped before its end")]
    [InlineData("no manifest", "its messages are out of order")]
    [InlineData("excess", "'weight' has 4000 bytes and more came")]
    [InlineData("negative", "'weight' has an impossible shape")]
    public async Task StateDict_damagedStream_isDataLossAndSaysHow(string damage, string expected)
    {
        await using var server = await FakeServer.StartAsync();
        server.OnStream<GetStateDictRequest, GetStateDictResponse>(async (_, writer, _) =>
        {
            var messages = Answer(chunk: 1024).ToList();
            switch (damage)
            {
                case "digest": messages[^1].End.Xxh3 = 1; break;
                case "gap": messages.RemoveAt(2); break;
                case "short": messages.RemoveAt(messages.Count - 2); break;
                case "no end": messages.RemoveAt(messages.Count - 1); break;
                case "no manifest": messages.RemoveAt(0); break;
                case "excess": messages[4].Chunk.Data = ByteString.CopyFrom(new byte[4000]); break;
                case "negative": messages[0].Manifest.Entries[0].Shape[0] = -1; break;
            }

            foreach (var message in messages)
                await writer!.WriteAsync(message);
            return null;
        });
        await using var client = server.NewClient();

        var error = await Assert.ThrowsAsync<SconceException>(() => client.Module("m").StateDictAsync());

        Assert.Equal(StatusCode.DataLoss, error.StatusCode);
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task StateDict_connectionLostHalfWay_startsAgain()
    {
        await using var server = await FakeServer.StartAsync();
        server.OnStream<GetStateDictRequest, GetStateDictResponse>(async (_, writer, context) =>
        {
            foreach (var message in Answer(chunk: 512))
            {
                await writer!.WriteAsync(message);
                if (message.Chunk is not null && server.Seen<GetStateDictRequest>().Count < 2)
                    context.GetHttpContext().Abort();
            }

            return null;
        });
        await using var client = server.NewClient();

        var state = await client.Module("m").StateDictAsync();

        Assert.Equal(Weight, state["weight"].As<float>().ToArray());
        Assert.Equal(2, server.Seen<GetStateDictRequest>().Count);
    }

    [Fact]
    public async Task LoadStateDict_tensors_arriveWholeWithDigestAndSharedMemory()
    {
        await using var server = await FakeServer.StartAsync();
        var received = new List<LoadStateDictRequest>();
        server.OnStream<LoadStateDictRequest, LoadStateDictResponse>(async (incoming, _, _) =>
        {
            await foreach (var message in incoming.All)
                received.Add(message);
            return new LoadStateDictResponse { Generation = 12, MissingKeys = { "bias" } };
        });
        await using var client = server.NewClient();
        var big = new byte[(5 << 20) / 2];
        Random.Shared.NextBytes(big);
        var state = new StateDict { ["big"] = TensorData.Create(big), ["empty"] = TensorData.Create(Array.Empty<float>(), 0), ["steps"] = TensorData.Scalar(7L) };

        var response = await client.Module("m").LoadStateDictAsync(state, strict: false);

        Assert.Equal((12ul, "bias"), (response.Generation, Assert.Single(response.MissingKeys)));
        var header = received[0].Header;
        Assert.Equal(("m", true, false), (header.Module, header.HasStrict, header.Strict));
        Assert.Equal(["big", "empty", "steps"], header.Entries.Select(entry => entry.Key));
        Assert.NotEmpty(header.RequestId);
        var chunks = received.Where(message => message.Chunk is not null).Select(message => message.Chunk).ToList();
        Assert.Equal([(0u, 0ul), (0u, 1ul << 20), (0u, 2ul << 20), (2u, 0ul)], chunks.Select(chunk => (chunk.Entry, chunk.Offset)));
        Assert.Equal(big, chunks.Where(chunk => chunk.Entry == 0).SelectMany(chunk => chunk.Data.ToByteArray()));
        Assert.Equal(XxHash3.HashToUInt64(chunks.SelectMany(chunk => chunk.Data.ToByteArray()).ToArray()), received[^1].End.Xxh3);
    }

    [Fact]
    public async Task LoadStateDict_connectionLostHalfWay_isSentAgainUnderTheSameId()
    {
        await using var server = await FakeServer.StartAsync();
        var ids = new List<string>();
        var bytes = 0L;
        server.OnStream<LoadStateDictRequest, LoadStateDictResponse>(async (incoming, _, context) =>
        {
            bytes = 0;
            await foreach (var message in incoming.All)
            {
                if (message.Header is { } header)
                    ids.Add(header.RequestId);
                bytes += message.Chunk?.Data.Length ?? 0;
                if (ids.Count < 3 && bytes > 1 << 20)
                    context.GetHttpContext().Abort();
            }

            return new LoadStateDictResponse { Generation = 2 };
        });
        await using var client = server.NewClient();

        var response = await client.Module("m").LoadStateDictAsync(new StateDict { ["w"] = TensorData.Create(new byte[8 << 20]) });

        Assert.Equal((2ul, 8L << 20), (response.Generation, bytes));
        Assert.Equal(3, ids.Count);
        Assert.Single(ids.Distinct());
    }

    [Fact]
    public async Task LoadStateDict_connectionLostHalfWay_goesOnFromWhatTheServerHas()
    {
        await using var server = await FakeServer.StartAsync();
        var bytes = new byte[(8 << 20) + 5];
        Random.Shared.NextBytes(bytes);
        var received = new List<byte>();
        var headers = new List<LoadStateDictHeader>();
        ulong digest = 0;
        server.OnStream<LoadStateDictRequest, LoadStateDictResponse>(async (incoming, _, context) =>
        {
            await foreach (var message in incoming.All)
            {
                if (message.Header is { } header)
                    headers.Add(header);
                if (message.Chunk is { } chunk)
                {
                    Assert.Equal((0u, (ulong)received.Count), (chunk.Entry, chunk.Offset));
                    // In the midst of a piece.
                    received.AddRange(headers.Count == 1 ? chunk.Data.Span[..Math.Min(chunk.Data.Length, 1000)] : chunk.Data.Span);
                    if (headers.Count == 1)
                        context.GetHttpContext().Abort();
                }

                digest = message.End?.Xxh3 ?? digest;
            }

            return new LoadStateDictResponse { Generation = 2 };
        });
        server.On<GetUploadRequest, GetUploadResponse>((_, _) => new GetUploadResponse { NextOffset = (ulong)received.Count });
        await using var client = server.NewClient();
        var progress = new Reports();

        await client.Module("m").LoadStateDictAsync(new StateDict { ["w"] = TensorData.Create(bytes) }, new LoadStateDictOptions { Progress = progress });

        Assert.Equal(bytes, received);
        Assert.Equal(XxHash3.HashToUInt64(bytes), digest);
        Assert.Equal(2, headers.Count);
        Assert.Equal(headers[0], headers[1]);
        Assert.NotEmpty(headers[0].UploadId);
        Assert.Equal(new UploadProgress(bytes.Length, bytes.Length), progress.Last);
    }

    private sealed class Reports : IProgress<UploadProgress>
    {
        public UploadProgress Last { get; private set; }

        public void Report(UploadProgress value) => Last = value;
    }

    [Fact]
    public async Task LoadStateDict_writeFails_isSentAgain()
    {
        await using var server = await FakeServer.StartAsync();
        server.OnStream<LoadStateDictRequest, LoadStateDictResponse>(async (incoming, _, _) =>
            new LoadStateDictResponse { Generation = (ulong)await incoming.All.CountAsync() });
        await using var client = server.NewClient(o => o.ConfigureChannel = channel => channel.HttpHandler = new BreakingHandler(channel.HttpHandler!));

        var loaded = await client.Module("m").LoadStateDictAsync(new StateDict { ["w"] = TensorData.Create(new byte[2 << 20]) });

        Assert.Equal(4ul, loaded.Generation);
    }

    [Fact]
    public async Task LoadStateDict_noServer_isUnavailableAfterAllAttempts()
    {
        await using var client = new SconceClient(new SconceClientOptions
        {
            Address = "http://127.0.0.1:1",
            Retry = new SconceRetryOptions { MaxAttempts = 3, BaseDelay = TimeSpan.FromMilliseconds(1) },
        });
        var state = new StateDict { ["w"] = TensorData.Create(new byte[2 << 20]) };
        var optimizerState = new OptimizerStateDict { Groups = [], Tensors = state, Scalars = new Dictionary<string, double>() };

        var error = await Assert.ThrowsAsync<SconceUnavailableException>(() => client.Module("m").LoadStateDictAsync(state));
        Assert.Contains("Connection refused (3 attempts", error.Message, StringComparison.Ordinal);
        error = await Assert.ThrowsAsync<SconceUnavailableException>(() => client.Module("m").Optimizer().LoadStateDictAsync(optimizerState));
        Assert.Contains("Connection refused (3 attempts", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task LoadStateDict_serverAway_waitsForIt()
    {
        await using var server = await FakeServer.StartOnOwnPortAsync();
        server.OnStream<LoadStateDictRequest, LoadStateDictResponse>(async (incoming, _, _) =>
        {
            var bytes = await incoming.All.Select(message => message.Chunk?.Data.Length ?? 0).SumAsync();
            return new LoadStateDictResponse { Generation = (ulong)bytes };
        });
        await using var client = server.NewClient(o => o.Retry.MaxAttempts = 100);
        await server.StopAsync();

        var call = client.Module("m").LoadStateDictAsync(new StateDict { ["w"] = TensorData.Create(new byte[2 << 20]) });
        await Task.Delay(300);
        Assert.False(call.IsCompleted);
        await server.RestartAsync();

        Assert.Equal(2ul << 20, (await call.WaitAsync(Streams.Bound)).Generation);
    }

    [Fact]
    public async Task LoadStateDict_refusedEarly_throwsTheServersReason()
    {
        await using var server = await FakeServer.StartAsync();
        server.OnStream<LoadStateDictRequest, LoadStateDictResponse>(async (incoming, _, _) =>
        {
            await incoming.Reader!.MoveNext();
            throw Fakes.Error(StatusCode.InvalidArgument, "missing keys: bias");
        });
        await using var client = server.NewClient();

        var error = await Assert.ThrowsAsync<SconceInvalidArgumentException>(() =>
            client.Module("m").LoadStateDictAsync(new StateDict { ["w"] = TensorData.Create(new byte[32 << 20]) }));

        Assert.Equal("missing keys: bias", error.Message);
    }

    [Fact]
    public async Task LoadStateDict_keptTensor_isRefusedHere()
    {
        await using var client = new SconceClient("http://127.0.0.1:1");

        var error = await Assert.ThrowsAsync<ArgumentException>(() => client.Module("m").LoadStateDictAsync(new StateDict { ["w"] = TensorData.Kept("t1") }));

        Assert.Contains("'w' is kept tensor 't1'", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task OptimizerState_roundTrip_keepsGroupsTensorsAndScalars()
    {
        await using var server = await FakeServer.StartAsync();
        var layout = new OptimizerState
        {
            Groups = { new OptimizerStateGroup { Parameters = { 0, 1 } } },
            Entries = { new StateEntry { Key = "0.exp_avg", Dtype = DataType.Float32, Shape = { 2 } } },
            Scalars = { { "0.step", 5 } },
        };
        server.OnStream<GetOptimizerStateRequest, GetOptimizerStateResponse>(async (_, writer, _) =>
        {
            await writer!.WriteAsync(new GetOptimizerStateResponse { State = layout });
            await writer.WriteAsync(new GetOptimizerStateResponse { Chunk = new StateChunk { Data = Fakes.Tensor(1, 2).Data } });
            await writer.WriteAsync(new GetOptimizerStateResponse { End = new StateEnd() });
            return null;
        });
        var received = new List<LoadOptimizerStateRequest>();
        server.OnStream<LoadOptimizerStateRequest, LoadOptimizerStateResponse>(async (incoming, _, _) =>
        {
            await foreach (var message in incoming.All)
                received.Add(message);
            return new LoadOptimizerStateResponse { Optimizer = new Optimizer { Steps = 5 } };
        });
        await using var client = server.NewClient();
        var optimizer = client.Module("m").Optimizer();

        var state = await optimizer.StateDictAsync();
        var loaded = await optimizer.LoadStateDictAsync(state);

        Assert.Equal([1f, 2f], state.Tensors["0.exp_avg"].As<float>().ToArray());
        Assert.Equal((5.0, 5ul, "default"), (state.Scalars["0.step"], loaded.Steps, optimizer.Name));
        Assert.Equal(layout, received[0].Header.State);
        Assert.Equal(Fakes.Tensor(1, 2).Data, received[1].Chunk.Data);
        Assert.NotNull(received[2].End);
    }

    [Fact]
    public async Task Gradients_filtered_areTensorsByParameter()
    {
        await using var server = await FakeServer.StartAsync();
        server.OnStream<GetGradientsRequest, GetGradientsResponse>(async (_, writer, _) =>
        {
            await writer!.WriteAsync(new GetGradientsResponse { Manifest = new StateManifest { Entries = { new StateEntry { Key = "0.weight", Dtype = DataType.Float32, Shape = { 2 } } } } });
            await writer.WriteAsync(new GetGradientsResponse { Chunk = new StateChunk { Data = Fakes.Tensor(3, 4).Data } });
            await writer.WriteAsync(new GetGradientsResponse { End = new StateEnd() });
            return null;
        });
        await using var client = server.NewClient();

        var gradients = await client.Module("m").GradientsAsync(["0.*"]);

        Assert.Equal([3f, 4f], gradients["0.weight"].As<float>().ToArray());
        Assert.Equal("0.*", server.Seen<GetGradientsRequest>()[0].Parameters[0]);
    }

    // Three tensors, one of them without elements, framed as the server frames them.
    private static IEnumerable<GetStateDictResponse> Answer(int chunk)
    {
        yield return new GetStateDictResponse
        {
            Manifest = new StateManifest
            {
                Generation = 11,
                TotalBytes = 4008,
                Entries =
                {
                    new StateEntry { Key = "weight", Dtype = DataType.Float32, Shape = { 1000 } },
                    new StateEntry { Key = "empty", Dtype = DataType.Float32, Shape = { 0, 4 } },
                    new StateEntry { Key = "steps", Dtype = DataType.Int64 },
                },
            },
        };
        var digest = new XxHash3();
        var weight = MemoryMarshal.AsBytes(Weight.AsSpan()).ToArray();
        for (var offset = 0; offset < weight.Length; offset += chunk)
        {
            var piece = weight.AsSpan(offset, Math.Min(chunk, weight.Length - offset)).ToArray();
            digest.Append(piece);
            yield return new GetStateDictResponse { Chunk = new StateChunk { Offset = (ulong)offset, Data = ByteString.CopyFrom(piece) } };
        }

        var steps = BitConverter.GetBytes(7L);
        digest.Append(steps);
        yield return new GetStateDictResponse { Chunk = new StateChunk { Entry = 2, Data = ByteString.CopyFrom(steps) } };
        yield return new GetStateDictResponse { End = new StateEnd { Xxh3 = digest.GetCurrentHashAsUInt64() } };
    }
}
