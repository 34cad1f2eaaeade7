using System.Collections.Concurrent;
using System.Diagnostics;
using Google.Rpc;
using Grpc.Core;
using Sconce.V1;

namespace Sconce.Client.Tests;

public sealed class StreamTests
{
    private static readonly TimeSpan Bound = TimeSpan.FromSeconds(15);

    [Fact]
    public async Task TrainStream_sequence_answersInOrderUnderDistinctIds()
    {
        await using var server = await FakeServer.StartAsync();
        var ids = new ConcurrentQueue<string>();
        AnswerSteps(server, (request, step) => ids.Enqueue(request.Step.RequestId));
        await using var client = server.NewClient();

        var losses = await client.Module("m").TrainStreamAsync(Batches(100), Nn.MSELoss(), maxInFlight: 4).Select(step => step.Loss).ToListAsync().AsTask().WaitAsync(Bound);

        Assert.Equal(Enumerable.Range(0, 100).Select(i => (double)i), losses);
        Assert.Equal(100, ids.Distinct().Count());
    }

    [Fact]
    public async Task TrainStream_maxInFlight_isNeverExceeded()
    {
        await using var server = await FakeServer.StartAsync();
        var answer = new SemaphoreSlim(0);
        var arrived = 0;
        server.OnStream<TrainStreamRequest, TrainStreamResponse>(async (incoming, writer, _) =>
        {
            var queue = new ConcurrentQueue<ulong>();
            var reading = Task.Run(async () =>
            {
                await foreach (var request in incoming.All)
                {
                    queue.Enqueue(request.Id);
                    Interlocked.Increment(ref arrived);
                }
            });
            for (var i = 0; i < 6; i++)
            {
                await answer.WaitAsync();
                ulong id;
                while (!queue.TryDequeue(out id))
                    await Task.Delay(1);
                await writer!.WriteAsync(new TrainStreamResponse { Id = id, Step = new TrainStepResponse() });
            }

            await reading;
            return null;
        });
        await using var client = server.NewClient();
        await using var stream = client.Module("m").OpenTrainStream(Nn.MSELoss(), maxInFlight: 3);

        var steps = Enumerable.Range(0, 6).Select(i => stream.StepAsync(TensorData.Scalar((float)i), TensorData.Scalar(0f))).ToList();
        await UntilAsync(() => Volatile.Read(ref arrived) == 3);
        await Task.Delay(200);
        Assert.Equal(3, Volatile.Read(ref arrived));
        answer.Release();
        await UntilAsync(() => Volatile.Read(ref arrived) == 4);
        answer.Release(5);
        await Task.WhenAll(steps).WaitAsync(Bound);
        await stream.CompleteAsync().WaitAsync(Bound);
    }

    [Fact]
    public async Task TrainStream_connectionLost_repeatsUnansweredStepsUnderTheirIds()
    {
        await using var server = await FakeServer.StartAsync();
        var taken = new ConcurrentDictionary<string, int>();
        var order = new ConcurrentQueue<float>();
        var streams = 0;
        server.OnStream<TrainStreamRequest, TrainStreamResponse>(async (incoming, writer, context) =>
        {
            var stream = Interlocked.Increment(ref streams);
            var answered = 0;
            await foreach (var request in incoming.All)
            {
                // What the server has taken already it only answers again, as request_id promises.
                if (taken.TryAdd(request.Step.RequestId, stream))
                    order.Enqueue(TensorData.From(request.Step.Inputs[0]).Item<float>());
                if (stream < 4 && answered++ == 5)
                {
                    context.GetHttpContext().Abort();
                    return null;
                }

                await writer!.WriteAsync(new TrainStreamResponse { Id = request.Id, Step = new TrainStepResponse { Loss = TensorData.From(request.Step.Inputs[0]).Item<float>() } });
            }

            return null;
        });
        await using var client = server.NewClient();

        var losses = await client.Module("m").TrainStreamAsync(Batches(40), Nn.MSELoss(), maxInFlight: 4).Select(step => step.Loss).ToListAsync().AsTask().WaitAsync(Bound);

        Assert.Equal(Enumerable.Range(0, 40).Select(i => (double)i), losses);
        Assert.Equal(Enumerable.Range(0, 40).Select(i => (float)i), order);
        Assert.Equal(4, streams);
    }

    [Fact]
    public async Task TrainStream_serverRestarts_goesOn()
    {
        await using var server = await FakeServer.StartAsync();
        AnswerSteps(server);
        await using var client = server.NewClient(o => o.Retry.MaxAttempts = 50);
        await using var stream = client.Module("m").OpenTrainStream(Nn.MSELoss());
        await stream.StepAsync(TensorData.Scalar(1f), TensorData.Scalar(0f));

        await server.StopAsync();
        var step = stream.StepAsync(TensorData.Scalar(2f), TensorData.Scalar(0f));
        await Task.Delay(300);
        await server.RestartAsync();

        Assert.Equal(2, (await step.WaitAsync(Bound)).Loss);
        await stream.CompleteAsync().WaitAsync(Bound);
    }

    [Fact]
    public async Task TrainStream_stepFails_stopsAndThrowsItsError()
    {
        await using var server = await FakeServer.StartAsync();
        var stops = new ConcurrentQueue<bool>();
        server.OnStream<TrainStreamRequest, TrainStreamResponse>(async (incoming, writer, _) =>
        {
            await foreach (var request in incoming.All)
            {
                stops.Enqueue(request.StopOnError);
                if (request.Id == 3)
                    throw Fakes.Error(Grpc.Core.StatusCode.InvalidArgument, "target 11 is out of range");
                await writer!.WriteAsync(new TrainStreamResponse { Id = request.Id, Step = new TrainStepResponse() });
            }

            return null;
        });
        await using var client = server.NewClient();
        await using var stream = client.Module("m").OpenTrainStream(Nn.MSELoss());

        var steps = Enumerable.Range(0, 5).Select(i => stream.StepAsync(TensorData.Scalar((float)i), TensorData.Scalar(0f))).ToList();

        await steps[1].WaitAsync(Bound);
        var error = await Assert.ThrowsAsync<SconceInvalidArgumentException>(() => steps[2].WaitAsync(Bound));
        Assert.Equal("target 11 is out of range", error.Message);
        await Assert.ThrowsAsync<SconceInvalidArgumentException>(() => steps[4].WaitAsync(Bound));
        await Assert.ThrowsAsync<SconceInvalidArgumentException>(() => stream.CompleteAsync().WaitAsync(Bound));
        var late = await Assert.ThrowsAsync<SconceInvalidArgumentException>(() => stream.StepAsync(TensorData.Scalar(1f), TensorData.Scalar(0f)));
        Assert.Equal("The stream has ended: target 11 is out of range", late.Message);
        Assert.All(stops, Assert.True);
    }

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
    public async Task TrainStream_queueFull_goingOnAfterErrors_failsTheStepAlone()
    {
        await using var server = await FakeServer.StartAsync();
        server.OnStream<TrainStreamRequest, TrainStreamResponse>(async (incoming, writer, _) =>
        {
            await foreach (var request in incoming.All)
            {
                await writer!.WriteAsync(request.Id == 1
                    ? new TrainStreamResponse { Id = request.Id, Error = Refusal(Grpc.Core.StatusCode.ResourceExhausted) }
                    : new TrainStreamResponse { Id = request.Id, Step = new TrainStepResponse() });
            }

            return null;
        });
        await using var client = server.NewClient();
        await using var stream = client.Module("m").OpenTrainStream(Nn.MSELoss(), stopOnError: false);

        var steps = Enumerable.Range(0, 2).Select(i => stream.StepAsync(TensorData.Scalar((float)i), TensorData.Scalar(0f))).ToList();

        var error = await Assert.ThrowsAsync<SconceResourceExhaustedException>(() => steps[0].WaitAsync(Bound));
        Assert.NotNull(error.RetryAfter);
        await steps[1].WaitAsync(Bound);
        await stream.CompleteAsync().WaitAsync(Bound);
    }

    [Fact]
    public async Task TrainStream_queueFull_stoppingAtErrors_takesEveryStepOnceInOrder()
    {
        await using var server = await FakeServer.StartAsync();
        var taken = new ConcurrentQueue<float>();
        var streams = 0;
        server.OnStream<TrainStreamRequest, TrainStreamResponse>(async (incoming, writer, _) =>
        {
            var stream = Interlocked.Increment(ref streams);
            await foreach (var request in incoming.All)
            {
                if (request.Id == 3 && stream < 3)
                    throw Fakes.Error(Grpc.Core.StatusCode.ResourceExhausted, "queue full", Fakes.RetryIn(5));
                taken.Enqueue(TensorData.From(request.Step.Inputs[0]).Item<float>());
                await writer!.WriteAsync(new TrainStreamResponse { Id = request.Id, Step = new TrainStepResponse() });
            }

            return null;
        });
        await using var client = server.NewClient();

        await client.Module("m").TrainStreamAsync(Batches(8), Nn.MSELoss()).CountAsync().AsTask().WaitAsync(Bound);

        Assert.Equal(Enumerable.Range(0, 8).Select(i => (float)i), taken);
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
        var module = client.Module("m").With(new CallSettings { Timeout = TimeSpan.FromSeconds(1) });
        await using var forwards = module.OpenForwardStream(maxInFlight: 1);
        await using var steps = module.OpenTrainStream(Nn.MSELoss());

        Assert.Equal(1f, (await forwards.ForwardAsync(TensorData.Scalar(1f)).WaitAsync(Bound)).Tensor.Item<float>());
        var late = await Assert.ThrowsAsync<SconceDeadlineExceededException>(() => forwards.ForwardAsync(TensorData.Scalar(2f)).WaitAsync(Bound));
        Assert.Contains("no answer within 00:00:01 (CallSettings.Timeout", late.Message, StringComparison.Ordinal);
        var behind = await Assert.ThrowsAsync<SconceDeadlineExceededException>(() => forwards.ForwardAsync(TensorData.Scalar(3f)).WaitAsync(Bound));
        Assert.Contains("ForwardStream", behind.Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<SconceDeadlineExceededException>(() => steps.StepAsync(TensorData.Scalar(1f), TensorData.Scalar(0f)).WaitAsync(Bound));
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
    public async Task ForwardStream_messageOverTheLimit_failsTheStreamAndNamesIt()
    {
        await using var server = await FakeServer.StartAsync();
        AnswerForwards(server);
        await using var client = server.NewClient(o => o.MaxMessageBytes = 1000);
        await using var stream = client.Module("m").OpenForwardStream();

        var error = await Assert.ThrowsAsync<SconceResourceExhaustedException>(() => stream.ForwardAsync(TensorData.Create(new float[1000])).WaitAsync(Bound));

        Assert.Contains("larger than the 1000 bytes that SconceClientOptions.MaxMessageBytes allows", error.Message, StringComparison.Ordinal);
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

    private static CallError Refusal(Grpc.Core.StatusCode code) =>
        new() { Code = (int)code, Message = "not now", Details = { Google.Protobuf.WellKnownTypes.Any.Pack(Fakes.RetryIn(5)) } };

    private static void AnswerSteps(FakeServer server, Action<TrainStreamRequest, float>? seen = null) =>
        server.OnStream<TrainStreamRequest, TrainStreamResponse>(async (incoming, writer, _) =>
        {
            await foreach (var request in incoming.All)
            {
                var input = TensorData.From(request.Step.Inputs[0]).Item<float>();
                seen?.Invoke(request, input);
                await writer!.WriteAsync(new TrainStreamResponse { Id = request.Id, Step = new TrainStepResponse { Loss = input } });
            }

            return null;
        });

    private static void AnswerForwards(FakeServer server) =>
        server.OnStream<ForwardStreamRequest, ForwardStreamResponse>(async (incoming, writer, _) =>
        {
            await foreach (var request in incoming.All)
                await writer!.WriteAsync(new ForwardStreamResponse { Id = request.Id, Forward = Fakes.Echo(request.Forward) });
            return null;
        });

    private static IAsyncEnumerable<TrainBatch> Batches(int count) =>
        Enumerable.Range(0, count).Select(i => new TrainBatch(TensorData.Scalar((float)i), TensorData.Scalar(0f))).ToAsyncEnumerable();

    private static async Task UntilAsync(Func<bool> condition)
    {
        var started = Stopwatch.GetTimestamp();
        while (!condition())
        {
            Assert.True(Stopwatch.GetElapsedTime(started) < Bound, "the condition did not come true in time");
            await Task.Delay(5);
        }
    }
}
