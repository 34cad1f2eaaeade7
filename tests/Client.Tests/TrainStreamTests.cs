using System.Collections.Concurrent;
using Grpc.Core;
using Sconce.V1;
using static Sconce.Client.Tests.Streams;

namespace Sconce.Client.Tests;

public sealed class TrainStreamTests
{
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
        await using var server = await FakeServer.StartOnOwnPortAsync();
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

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task TrainStream_messageOverTheLimit_keepsThoseBehindItFromBeingTakenOnlyIfItStops(bool stopOnError)
    {
        await using var server = await FakeServer.StartAsync();
        var taken = 0;
        server.OnStream<TrainStreamRequest, TrainStreamResponse>(async (incoming, writer, _) =>
        {
            await foreach (var request in incoming.All)
            {
                Interlocked.Increment(ref taken);
                await writer!.WriteAsync(new TrainStreamResponse { Id = request.Id, Step = new TrainStepResponse() });
            }

            return null;
        });
        await using var client = server.NewClient(o => o.MaxMessageBytes = 1000);
        await using var stream = client.Module("m").OpenTrainStream(Nn.MSELoss(), stopOnError: stopOnError);

        var late = stream.StepAsync(TensorData.Create(new float[1000]), TensorData.Scalar(0f));
        var behind = stream.StepAsync(TensorData.Scalar(1f), TensorData.Scalar(0f));

        var error = await Assert.ThrowsAsync<SconceResourceExhaustedException>(() => late.WaitAsync(Bound));
        Assert.Contains("larger than the 1000 bytes", error.Message, StringComparison.Ordinal);
        if (stopOnError)
            await Assert.ThrowsAsync<SconceResourceExhaustedException>(() => behind.WaitAsync(Bound));
        else
            await behind.WaitAsync(Bound);
        Assert.Equal(stopOnError ? 0 : 1, taken);
    }

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

    private static IAsyncEnumerable<TrainBatch> Batches(int count) =>
        Enumerable.Range(0, count).Select(i => new TrainBatch(TensorData.Scalar((float)i), TensorData.Scalar(0f))).ToAsyncEnumerable();
}
