using System.Collections.Concurrent;
using Google.Rpc;
using Grpc.Core;
using Sconce.V1;
using static Sconce.Client.Tests.Streams;

namespace Sconce.Client.Tests;

public sealed class ForwardStreamTests
{
    [Fact]
    public async Task ForwardStream_oneCallFails_theOthersGoOn()
    {
        await using var server = await FakeServer.StartAsync();
        server.OnStream<ForwardStreamRequest, ForwardStreamResponse>(async (incoming, writer, _) =>
        {
            await foreach (var request in incoming.All)
            {
                await writer!.WriteAsync(request.Id == 2
                    ? new ForwardStreamResponse
                    {
                        Id = request.Id,
                        Error = new CallError
                        {
                            Code = (int)Grpc.Core.StatusCode.InvalidArgument,
                            Message = "inputs[0].shape",
                            Details = { Google.Protobuf.WellKnownTypes.Any.Pack(new BadRequest { FieldViolations = { new BadRequest.Types.FieldViolation { Field = "inputs[0].shape[1]" } } }) },
                        },
                    }
                    : new ForwardStreamResponse { Id = request.Id, Forward = Fakes.Echo(request.Forward) });
            }

            return null;
        });
        await using var client = server.NewClient();
        await using var stream = client.Module("m").OpenForwardStream();

        var calls = Enumerable.Range(0, 4).Select(i => stream.ForwardAsync(TensorData.Scalar((float)i))).ToList();

        Assert.Equal(0f, (await calls[0].WaitAsync(Bound)).Tensor.Item<float>());
        var error = await Assert.ThrowsAsync<SconceInvalidArgumentException>(() => calls[1].WaitAsync(Bound));
        Assert.Equal("inputs[0].shape[1]", error.Fields[0].Path);
        Assert.Equal(3f, (await calls[3].WaitAsync(Bound)).Tensor.Item<float>());
        await stream.CompleteAsync().WaitAsync(Bound);
    }

    [Fact]
    public async Task ForwardStream_writeFails_isRepeated()
    {
        await using var server = await FakeServer.StartAsync();
        AnswerForwards(server);
        await using var client = server.NewClient(o => o.ConfigureChannel = channel => channel.HttpHandler = new BreakingHandler(channel.HttpHandler!));
        await using var stream = client.Module("m").OpenForwardStream();

        Assert.Equal(1f, (await stream.ForwardAsync(TensorData.Scalar(1f)).WaitAsync(Bound)).Tensor.Item<float>());
        await stream.CompleteAsync().WaitAsync(Bound);
    }

    [Theory]
    [InlineData(Grpc.Core.StatusCode.ResourceExhausted)]
    [InlineData(Grpc.Core.StatusCode.Unavailable)]
    public async Task ForwardStream_refusedForNow_isRepeatedInOrder(Grpc.Core.StatusCode code)
    {
        await using var server = await FakeServer.StartAsync();
        var streams = new ConcurrentQueue<List<ulong>>();
        server.OnStream<ForwardStreamRequest, ForwardStreamResponse>(async (incoming, writer, _) =>
        {
            var ids = new List<ulong>();
            streams.Enqueue(ids);
            await foreach (var request in incoming.All)
            {
                ids.Add(request.Id);
                // The third and all behind it, for two streams.
                await writer!.WriteAsync(request.Id > 2 && streams.Count < 3
                    ? new ForwardStreamResponse { Id = request.Id, Error = Refusal(code) }
                    : new ForwardStreamResponse { Id = request.Id, Forward = Fakes.Echo(request.Forward) });
            }

            return null;
        });
        await using var client = server.NewClient();
        await using var stream = client.Module("m").OpenForwardStream();

        var outputs = await Task.WhenAll(Enumerable.Range(0, 8).Select(i => stream.ForwardAsync(TensorData.Scalar((float)i)))).WaitAsync(Bound);
        await stream.CompleteAsync().WaitAsync(Bound);

        Assert.Equal(Enumerable.Range(0, 8).Select(i => (float)i), outputs.Select(output => output.Tensor.Item<float>()));
        Assert.Equal(3, streams.Count);
        Assert.Equal([3, 4, 5, 6, 7, 8], streams.Last());
    }

    [Fact]
    public async Task ForwardStream_refusedForNow_retriesOff_failsTheCallAlone()
    {
        await using var server = await FakeServer.StartAsync();
        server.OnStream<ForwardStreamRequest, ForwardStreamResponse>(async (incoming, writer, _) =>
        {
            await foreach (var request in incoming.All)
            {
                await writer!.WriteAsync(request.Id == 1
                    ? new ForwardStreamResponse { Id = request.Id, Error = Refusal(Grpc.Core.StatusCode.ResourceExhausted) }
                    : new ForwardStreamResponse { Id = request.Id, Forward = Fakes.Echo(request.Forward) });
            }

            return null;
        });
        await using var client = server.NewClient(o => o.Retry.MaxAttempts = 1);
        await using var stream = client.Module("m").OpenForwardStream();

        var calls = Enumerable.Range(0, 2).Select(i => stream.ForwardAsync(TensorData.Scalar((float)i))).ToList();

        await Assert.ThrowsAsync<SconceResourceExhaustedException>(() => calls[0].WaitAsync(Bound));
        Assert.Equal(1f, (await calls[1].WaitAsync(Bound)).Tensor.Item<float>());
    }

    [Fact]
    public async Task Streams_timeoutOfTheSettings_limitsEachCall()
    {
        await using var server = await FakeServer.StartAsync();
        var go = new TaskCompletionSource();
        server.OnStream<ForwardStreamRequest, ForwardStreamResponse>(async (incoming, writer, _) =>
        {
            await foreach (var request in incoming.All)
            {
                if (request.Id == 2)
                    await go.Task;
                await writer!.WriteAsync(new ForwardStreamResponse { Id = request.Id, Forward = Fakes.Echo(request.Forward) });
            }

            return null;
        });
        server.OnStream<TrainStreamRequest, TrainStreamResponse>(async (incoming, _, _) =>
        {
            await foreach (var request in incoming.All)
                await go.Task;
            return null;
        });
        await using var client = server.NewClient();
        // Calls that are answered take much less, once the first has gone through.
        await using (var first = client.Module("m").OpenForwardStream())
            await first.ForwardAsync(TensorData.Scalar(1f)).WaitAsync(Bound);
        var module = client.Module("m").With(new CallSettings { Timeout = TimeSpan.FromSeconds(5) });
        await using var forwards = module.OpenForwardStream(maxInFlight: 1);
        await using var steps = module.OpenTrainStream(Nn.MSELoss());

        Assert.Equal(1f, (await forwards.ForwardAsync(TensorData.Scalar(1f)).WaitAsync(Bound)).Tensor.Item<float>());
        var (second, third, held) = (
            forwards.ForwardAsync(TensorData.Scalar(2f)), forwards.ForwardAsync(TensorData.Scalar(3f)), steps.StepAsync(TensorData.Scalar(1f), TensorData.Scalar(0f)));
        var late = await Assert.ThrowsAsync<SconceDeadlineExceededException>(() => second.WaitAsync(Bound));
        Assert.Contains("no answer within 00:00:05 (CallSettings.Timeout", late.Message, StringComparison.Ordinal);
        var behind = await Assert.ThrowsAsync<SconceDeadlineExceededException>(() => third.WaitAsync(Bound));
        Assert.Contains("ForwardStream", behind.Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<SconceDeadlineExceededException>(() => held.WaitAsync(Bound));
        using var stop = new CancellationTokenSource(TimeSpan.FromMilliseconds(100));
        var cancelled = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => forwards.ForwardAsync(TensorData.Scalar(4f), null, stop.Token).WaitAsync(Bound));
        Assert.Equal(stop.Token, cancelled.CancellationToken);
        go.SetResult();

        // The stream itself goes on, without what was given up before it was sent.
        Assert.Equal(5f, (await forwards.ForwardAsync(TensorData.Scalar(5f)).WaitAsync(Bound)).Tensor.Item<float>());
    }

    [Fact]
    public async Task ForwardStream_slowSource_doesNotHoldAnswersBack()
    {
        await using var server = await FakeServer.StartAsync();
        AnswerForwards(server);
        await using var client = server.NewClient();
        var more = new TaskCompletionSource();

        var outputs = client.Module("m").ForwardStreamAsync(SourceAsync()).GetAsyncEnumerator(TestContext.Current.CancellationToken);
        Assert.True(await outputs.MoveNextAsync().AsTask().WaitAsync(Bound));
        Assert.Equal(1f, outputs.Current.Tensor.Item<float>());
        more.SetResult();
        Assert.True(await outputs.MoveNextAsync().AsTask().WaitAsync(Bound));
        Assert.False(await outputs.MoveNextAsync().AsTask().WaitAsync(Bound));
        await outputs.DisposeAsync();

        async IAsyncEnumerable<Inputs> SourceAsync()
        {
            yield return TensorData.Scalar(1f);
            await more.Task;
            yield return TensorData.Scalar(2f);
        }
    }

    [Fact]
    public async Task ForwardStream_sourceThrows_soDoesTheSequence()
    {
        await using var server = await FakeServer.StartAsync();
        AnswerForwards(server);
        await using var client = server.NewClient();
        var seen = 0;

        await Assert.ThrowsAsync<FileNotFoundException>(async () =>
        {
            await foreach (var _ in client.Module("m").ForwardStreamAsync(SourceAsync()))
                seen++;
        });

        Assert.Equal(1, seen);

        static async IAsyncEnumerable<Inputs> SourceAsync()
        {
            yield return TensorData.Scalar(1f);
            await Task.Yield();
            throw new FileNotFoundException("the data set");
        }
    }

    [Fact]
    public async Task Streams_failed_leaveNoExceptionUnobserved()
    {
        // Tests run side by side: the message tells this one's exceptions from those of others.
        var mark = Guid.NewGuid().ToString("N");
        var unobserved = new ConcurrentQueue<Exception>();
        void Note(object? sender, UnobservedTaskExceptionEventArgs e)
        {
            if (e.Exception.ToString().Contains(mark, StringComparison.Ordinal))
                unobserved.Enqueue(e.Exception);
        }

        await using var server = await FakeServer.StartAsync();
        server.OnStream<ForwardStreamRequest, ForwardStreamResponse>(async (incoming, writer, _) =>
        {
            await foreach (var request in incoming.All)
            {
                await writer!.WriteAsync(new ForwardStreamResponse
                {
                    Id = request.Id,
                    Error = new CallError { Code = (int)Grpc.Core.StatusCode.InvalidArgument, Message = mark },
                });
            }

            return null;
        });
        server.OnStream<TrainStreamRequest, TrainStreamResponse>(async (incoming, _, _) =>
        {
            await incoming.Reader!.MoveNext();
            throw Fakes.Error(Grpc.Core.StatusCode.InvalidArgument, mark);
        });
        await using var client = server.NewClient();

        TaskScheduler.UnobservedTaskException += Note;
        try
        {
            await FailAsync(client.Module("m"));
            for (var i = 0; i < 10; i++)
            {
                await Task.Delay(20);
                GC.Collect();
                GC.WaitForPendingFinalizers();
            }
        }
        finally
        {
            TaskScheduler.UnobservedTaskException -= Note;
        }

        Assert.Empty(unobserved);

        static async Task FailAsync(RemoteModule module)
        {
            var inputs = Enumerable.Range(0, 30).Select(i => (Inputs)TensorData.Scalar((float)i)).ToAsyncEnumerable();
            await Assert.ThrowsAsync<SconceInvalidArgumentException>(() => module.ForwardStreamAsync(inputs, maxInFlight: 4).CountAsync().AsTask());
            var batches = Enumerable.Range(0, 30).Select(i => new TrainBatch(TensorData.Scalar((float)i), TensorData.Scalar(0f))).ToAsyncEnumerable();
            await Assert.ThrowsAsync<SconceInvalidArgumentException>(() => module.TrainStreamAsync(batches, Nn.MSELoss(), maxInFlight: 4).CountAsync().AsTask());

            // One whose caller gave up before its answer, and a stream that nobody completes.
            await using var stream = module.OpenTrainStream(Nn.MSELoss());
            using var stop = new CancellationTokenSource(TimeSpan.FromMilliseconds(1));
            await Assert.ThrowsAnyAsync<Exception>(() => stream.StepAsync(TensorData.Scalar(1f), TensorData.Scalar(0f), stop.Token));
            await Assert.ThrowsAnyAsync<Exception>(() => stream.StepAsync(TensorData.Scalar(1f), TensorData.Scalar(0f)));
        }
    }

    [Fact]
    public async Task ForwardStream_disposedInFlight_cancelsOnBothSides()
    {
        await using var server = await FakeServer.StartAsync();
        var reached = new TaskCompletionSource();
        var ended = new TaskCompletionSource();
        server.OnStream<ForwardStreamRequest, ForwardStreamResponse>(async (incoming, _, context) =>
        {
            await incoming.Reader!.MoveNext();
            context.CancellationToken.Register(ended.SetResult);
            reached.SetResult();
            await ended.Task;
            return null;
        });
        await using var client = server.NewClient();
        var stream = client.Module("m").OpenForwardStream();

        var call = stream.ForwardAsync(TensorData.Scalar(1f));
        await reached.Task.WaitAsync(Bound);
        await stream.DisposeAsync().AsTask().WaitAsync(Bound);

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call);
        await ended.Task.WaitAsync(Bound);
        var late = await Assert.ThrowsAsync<InvalidOperationException>(() => stream.ForwardAsync(TensorData.Scalar(1f)));
        Assert.Contains("open another", late.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ForwardStream_callCancelled_theOthersGoOn()
    {
        await using var server = await FakeServer.StartAsync();
        var go = new TaskCompletionSource();
        server.OnStream<ForwardStreamRequest, ForwardStreamResponse>(async (incoming, writer, _) =>
        {
            await foreach (var request in incoming.All)
            {
                await go.Task;
                await writer!.WriteAsync(new ForwardStreamResponse { Id = request.Id, Forward = Fakes.Echo(request.Forward) });
            }

            return null;
        });
        await using var client = server.NewClient();
        await using var stream = client.Module("m").OpenForwardStream(maxInFlight: 1);
        using var stop = new CancellationTokenSource();

        var first = stream.ForwardAsync(TensorData.Scalar(1f));
        var second = stream.ForwardAsync(TensorData.Scalar(2f), null, stop.Token);
        var third = stream.ForwardAsync(TensorData.Scalar(3f));
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => second.WaitAsync(Bound));
        go.SetResult();

        Assert.Equal(1f, (await first.WaitAsync(Bound)).Tensor.Item<float>());
        Assert.Equal(3f, (await third.WaitAsync(Bound)).Tensor.Item<float>());
    }

    [Fact]
    public async Task ForwardStream_messageOverTheLimit_failsItsCallAloneAndNamesTheSetting()
    {
        await using var server = await FakeServer.StartAsync();
        AnswerForwards(server);
        await using var client = server.NewClient(o => o.MaxMessageBytes = 1000);
        await using var stream = client.Module("m").OpenForwardStream();

        var calls = new[] { 1, 1000, 2, 3 }.Select(length => stream.ForwardAsync(TensorData.Create(new float[length]))).ToList();

        var error = await Assert.ThrowsAsync<SconceResourceExhaustedException>(() => calls[1].WaitAsync(Bound));
        Assert.Contains("ForwardStream sends a message larger than the 1000 bytes that SconceClientOptions.MaxMessageBytes allows", error.Message, StringComparison.Ordinal);
        foreach (var (call, length) in new[] { (calls[0], 1), (calls[2], 2), (calls[3], 3) })
            Assert.Equal(length, (await call.WaitAsync(Bound)).Tensor.Length);
        await stream.CompleteAsync().WaitAsync(Bound);
    }

    [Fact]
    public async Task ForwardStream_limitOfTheCallersChannelSettings_isTheOneThatCounts()
    {
        await using var server = await FakeServer.StartAsync();
        AnswerForwards(server);
        await using var client = server.NewClient(o =>
        {
            o.MaxMessageBytes = 1000;
            o.ConfigureChannel = channel => (channel.MaxSendMessageSize, channel.MaxReceiveMessageSize) = (null, null);
        });
        await using var stream = client.Module("m").OpenForwardStream();

        Assert.Equal(1000, (await stream.ForwardAsync(TensorData.Create(new float[1000])).WaitAsync(Bound)).Tensor.Length);
    }

    [Fact]
    public async Task ForwardStream_answersOutOfOrder_isDataLoss()
    {
        await using var server = await FakeServer.StartAsync();
        server.OnStream<ForwardStreamRequest, ForwardStreamResponse>(async (incoming, writer, _) =>
        {
            await foreach (var request in incoming.All)
                await writer!.WriteAsync(new ForwardStreamResponse { Id = request.Id + 1, Forward = Fakes.Echo(request.Forward) });
            return null;
        });
        await using var client = server.NewClient();
        await using var stream = client.Module("m").OpenForwardStream();

        var error = await Assert.ThrowsAsync<SconceException>(() => stream.ForwardAsync(TensorData.Scalar(1f)).WaitAsync(Bound));

        Assert.Equal(Grpc.Core.StatusCode.DataLoss, error.StatusCode);
    }

    private static void AnswerForwards(FakeServer server) =>
        server.OnStream<ForwardStreamRequest, ForwardStreamResponse>(async (incoming, writer, _) =>
        {
            await foreach (var request in incoming.All)
                await writer!.WriteAsync(new ForwardStreamResponse { Id = request.Id, Forward = Fakes.Echo(request.Forward) });
            return null;
        });
}
