using System.Diagnostics;
using System.Net;
using Grpc.Core;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Logging;
using Sconce.V1;

namespace Sconce.Client.Tests;

public sealed class RetryTests
{
    [Fact]
    public async Task Mutation_unavailableTwice_isRepeatedUnderOneRequestId()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<TrainStepRequest, TrainStepResponse>((_, _) => server.Seen<TrainStepRequest>().Count < 3
            ? throw Fakes.Error(StatusCode.Unavailable, "draining")
            : new TrainStepResponse { Loss = 0.25, Steps = 1 });
        await using var client = server.NewClient();

        var step = await client.Module("m").TrainStepAsync(TensorData.Scalar(1f), TensorData.Scalar(1L), Nn.CrossEntropyLoss());

        Assert.Equal(0.25, step.Loss);
        var ids = server.Seen<TrainStepRequest>().Select(request => request.RequestId).ToList();
        Assert.Equal(3, ids.Count);
        Assert.Single(ids.Distinct());
        Assert.NotEmpty(ids[0]);
    }

    [Fact]
    public async Task Mutations_differentCalls_haveDifferentRequestIds()
    {
        await using var server = await FakeServer.StartAsync();
        await using var client = server.NewClient();

        await client.Module("m").TrainAsync();
        await client.Module("m").EvalAsync();
        await client.Module("m").With(new CallSettings { RequestId = "mine" }).EvalAsync();

        var ids = server.Seen<TrainRequest>().Select(request => request.RequestId).ToList();
        Assert.Equal(3, ids.Distinct().Count());
        Assert.Equal("mine", ids[2]);
    }

    [Fact]
    public async Task QueueFull_waitsAsLongAsTheServerAsks()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<ForwardRequest, ForwardResponse>((request, _) => server.Seen<ForwardRequest>().Count < 2
            ? throw Fakes.Error(StatusCode.ResourceExhausted, "queue full", Fakes.RetryIn(300))
            : Fakes.Echo(request));
        await using var client = server.NewClient();

        var started = Stopwatch.GetTimestamp();
        await client.Module("m").ForwardAsync(TensorData.Scalar(1f));

        Assert.InRange(Stopwatch.GetElapsedTime(started).TotalMilliseconds, 290, 10_000);
    }

    [Fact]
    public async Task AttemptsUsedUp_throwsTheServersWords()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<GetHostRequest, GetHostResponse>((_, _) => throw Fakes.Error(StatusCode.Unavailable, "restoring 3 modules", Fakes.RetryIn(1)));
        await using var client = server.NewClient(o => o.Retry.MaxAttempts = 4);

        var error = await Assert.ThrowsAsync<SconceUnavailableException>(() => client.GetHostAsync());

        Assert.Equal("restoring 3 modules", error.Message);
        Assert.Equal(4, server.Seen<GetHostRequest>().Count);
        Assert.Equal(TimeSpan.FromMilliseconds(1), error.RetryAfter);
    }

    [Fact]
    public async Task RetriesOff_failsAtOnce()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<GetHostRequest, GetHostResponse>((_, _) => throw Fakes.Error(StatusCode.Unavailable, "draining"));
        await using var client = server.NewClient(o => o.Retry.MaxAttempts = 1);

        await Assert.ThrowsAsync<SconceUnavailableException>(() => client.GetHostAsync());

        Assert.Single(server.Seen<GetHostRequest>());
    }

    [Fact]
    public async Task ForwardWithGraph_refusedByTheServer_isRepeated()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<ForwardRequest, ForwardResponse>((request, _) => server.Seen<ForwardRequest>().Count < 2
            ? throw Fakes.Error(StatusCode.Unavailable, "draining", Fakes.Reason("DRAINING"))
            : Graphs.Recorded(request));
        await using var client = server.NewClient();

        await using var graph = await client.Module("m").ForwardWithGraphAsync(TensorData.Scalar(1f));

        Assert.Equal("g1", graph.Id);
    }

    [Theory]
    [InlineData(StatusCode.Unavailable)]
    [InlineData(StatusCode.ResourceExhausted)]
    public async Task ForwardWithGraph_refusedByAnother_isNotRepeated(StatusCode code)
    {
        await using var server = await FakeServer.StartAsync();
        server.On<ForwardRequest, ForwardResponse>((_, _) => throw Fakes.Error(code, "upstream reset", Fakes.Reason("RESET", "mesh.example"), Fakes.RetryIn(1)));
        await using var client = server.NewClient();

        await Assert.ThrowsAnyAsync<SconceException>(() => client.Module("m").ForwardWithGraphAsync(TensorData.Scalar(1f)));

        Assert.Single(server.Seen<ForwardRequest>());
    }

    [Theory]
    [InlineData(502)]
    [InlineData(503)]
    [InlineData(504)]
    public async Task Call_proxyAnswersForTheServer_isNotRepeatedAsItMayHaveRun(int status)
    {
        // gRPC makes UNAVAILABLE of each of them; a proxy says 504 of a request that the server may be running.
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0, listen => listen.Protocols = HttpProtocols.Http2));
        await using var proxy = builder.Build();
        var requests = 0;
        proxy.Run(async context =>
        {
            Interlocked.Increment(ref requests);
            await context.Request.Body.CopyToAsync(Stream.Null);
            context.Response.StatusCode = status;
        });
        await proxy.StartAsync(TestContext.Current.CancellationToken);
        await using var client = new SconceClient(new SconceClientOptions
        {
            Address = proxy.Urls.First(),
            Retry = new SconceRetryOptions { MaxAttempts = 4, BaseDelay = TimeSpan.FromMilliseconds(1) },
        });

        await Assert.ThrowsAsync<SconceUnavailableException>(() => client.Module("m").CallAsync("encode", TensorData.Scalar(1f)));
        Assert.Equal(1, requests);

        // What may run twice is repeated all the same.
        await Assert.ThrowsAsync<SconceUnavailableException>(() => client.GetHostAsync());
        Assert.Equal(5, requests);
    }

    [Fact]
    public async Task Call_connectionRefused_isRepeatedAsItWasNeverSent()
    {
        await using var client = new SconceClient(new SconceClientOptions
        {
            Address = "http://127.0.0.1:1",
            Retry = new SconceRetryOptions { MaxAttempts = 3, BaseDelay = TimeSpan.FromMilliseconds(1) },
        });

        var error = await Assert.ThrowsAsync<SconceUnavailableException>(() => client.Module("m").CallAsync("encode", TensorData.Scalar(1f)));

        Assert.Contains("Connection refused (3 attempts", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ForwardWithGraph_connectionLostInMidCall_isNotRepeated()
    {
        await using var server = await FakeServer.StartAsync();
        server.OnAsync<ForwardRequest, ForwardResponse>(async (request, context) =>
        {
            context.GetHttpContext().Abort();
            await Task.Delay(100);
            return Graphs.Recorded(request);
        });
        await using var client = server.NewClient();

        await Assert.ThrowsAsync<SconceUnavailableException>(() => client.Module("m").ForwardWithGraphAsync(TensorData.Scalar(1f)));

        Assert.Single(server.Seen<ForwardRequest>());
    }

    [Fact]
    public async Task Forward_connectionLostInMidCall_isRepeated()
    {
        await using var server = await FakeServer.StartAsync();
        server.OnAsync<ForwardRequest, ForwardResponse>(async (request, context) =>
        {
            if (server.Seen<ForwardRequest>().Count < 2)
            {
                context.GetHttpContext().Abort();
                await Task.Delay(100);
            }

            return Fakes.Echo(request);
        });
        await using var client = server.NewClient();

        var output = await client.Module("m").ForwardAsync(TensorData.Scalar(3f));

        Assert.Equal(3f, output.Tensor.Item<float>());
        Assert.Equal(2, server.Seen<ForwardRequest>().Count);
    }

    [Fact]
    public async Task NoServer_saysWhereAndHowOften()
    {
        await using var client = new SconceClient(new SconceClientOptions
        {
            Address = "http://127.0.0.1:1",
            Retry = new SconceRetryOptions { MaxAttempts = 2, BaseDelay = TimeSpan.FromMilliseconds(1) },
        });

        var error = await Assert.ThrowsAsync<SconceUnavailableException>(() => client.GetHostAsync());

        Assert.Contains("did not get through to a Sconce server at http://127.0.0.1:1: Connection refused (2 attempts", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task NoServerUntilTheDeadline_throwsDeadlineExceededOrUnavailable()
    {
        var timeout = TimeSpan.FromSeconds(2);
        await using var client = new SconceClient(new SconceClientOptions
        {
            Address = "http://127.0.0.1:1",
            Timeout = timeout,
            Retry = new SconceRetryOptions { MaxAttempts = 1000, BaseDelay = TimeSpan.FromMilliseconds(50), MaxDelay = TimeSpan.FromMilliseconds(50) },
        });

        // The first attempt of a process takes long by itself.
        await Assert.ThrowsAnyAsync<SconceException>(() => client.GetHostAsync());

        var started = Stopwatch.GetTimestamp();
        var error = await Assert.ThrowsAnyAsync<SconceException>(() => client.GetHostAsync());

        Assert.Contains("Connection refused", error.Message, StringComparison.Ordinal);
        Assert.InRange(Stopwatch.GetElapsedTime(started), 0.75 * timeout, timeout + TimeSpan.FromSeconds(4));
    }

    [Fact]
    public async Task SlowServer_deadline_namesTheSetting()
    {
        await using var server = await FakeServer.StartAsync();
        server.OnAsync<GetHostRequest, GetHostResponse>(async (_, context) =>
        {
            await Task.Delay(Timeout.Infinite, context.CancellationToken);
            return new GetHostResponse();
        });
        await using var client = server.NewClient(o => o.Timeout = TimeSpan.FromMilliseconds(200));

        var error = await Assert.ThrowsAsync<SconceDeadlineExceededException>(() => client.GetHostAsync());

        Assert.Contains("GetHostRequest had no answer within 00:00:00.2000000 (1 attempt; SconceClientOptions.Timeout", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("STREAM_SLOW", "only 12 bytes came")]
    [InlineData("DEADLINE_EXCEEDED", "GetHostRequest had no answer within")]
    public async Task DeadlineExceeded_ofALimitOfTheServers_keepsTheServersWords(string reason, string expected)
    {
        await using var server = await FakeServer.StartAsync();
        server.On<GetHostRequest, GetHostResponse>((_, _) =>
            throw Fakes.Error(StatusCode.DeadlineExceeded, "only 12 bytes came", new Google.Rpc.ErrorInfo { Domain = "sconce", Reason = reason }));
        await using var client = server.NewClient();

        var error = await Assert.ThrowsAsync<SconceDeadlineExceededException>(() => client.GetHostAsync());

        Assert.StartsWith(expected, error.Message, StringComparison.Ordinal);
        Assert.Equal(reason, error.Reason);
    }

    [Fact]
    public async Task Cancelled_throwsOperationCanceledAndReachesTheServer()
    {
        await using var server = await FakeServer.StartAsync();
        var reached = new TaskCompletionSource();
        var cancelled = new TaskCompletionSource();
        server.OnAsync<ForwardRequest, ForwardResponse>(async (request, context) =>
        {
            context.CancellationToken.Register(cancelled.SetResult);
            reached.SetResult();
            await cancelled.Task;
            return Fakes.Echo(request);
        });
        await using var client = server.NewClient();
        using var stop = new CancellationTokenSource();

        var call = client.Module("m").ForwardAsync(TensorData.Scalar(1f), null, stop.Token);
        await reached.Task.WaitAsync(Streams.Bound);
        await stop.CancelAsync();

        var error = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call);
        Assert.Equal(stop.Token, error.CancellationToken);
        await cancelled.Task.WaitAsync(Streams.Bound);
    }

    [Fact]
    public async Task Cancelled_whileWaitingToRepeat_throwsAtOnce()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<GetHostRequest, GetHostResponse>((_, _) => throw Fakes.Error(StatusCode.Unavailable, "draining", Fakes.RetryIn(15_000)));
        await using var client = server.NewClient();
        using var stop = new CancellationTokenSource(TimeSpan.FromMilliseconds(300));

        var started = Stopwatch.GetTimestamp();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => client.GetHostAsync(stop.Token));

        Assert.InRange(Stopwatch.GetElapsedTime(started).TotalSeconds, 0, 8);
    }

    [Fact]
    public async Task Restart_callMadeMeanwhile_waitsForTheServer()
    {
        await using var server = await FakeServer.StartOnOwnPortAsync();
        await using var client = server.NewClient(o => o.Retry.MaxAttempts = 100);
        await client.GetHostAsync();
        await server.StopAsync();

        var call = client.Module("m").TrainAsync();
        await Task.Delay(500);
        Assert.False(call.IsCompleted);
        await server.RestartAsync();

        Assert.Equal("m", (await call.WaitAsync(Streams.Bound)).Name);
    }

    [Fact]
    public async Task Restart_betweenCalls_isNotNoticed()
    {
        await using var server = await FakeServer.StartOnOwnPortAsync();
        await using var client = server.NewClient();
        await client.GetHostAsync();

        for (var i = 0; i < 3; i++)
        {
            await server.StopAsync();
            await server.RestartAsync();
            await client.GetHostAsync();
        }

        Assert.Equal(4, server.Seen<GetHostRequest>().Count);
    }
}
