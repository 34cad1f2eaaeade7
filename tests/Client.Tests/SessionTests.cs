using Grpc.Core;
using Microsoft.Extensions.Logging;
using Sconce.V1;
using static Sconce.Client.Tests.Streams;

namespace Sconce.Client.Tests;

public sealed class SessionTests
{
    [Fact]
    public async Task OpenSession_disposed_endsTheStreamOnTheServer()
    {
        await using var server = await FakeServer.StartAsync();
        var gone = Hold(server);
        await using var client = server.NewClient();

        var session = await client.OpenSessionAsync("notebook");
        Assert.Equal("s1", session.Id);
        Assert.False(session.Ended.IsCancellationRequested);
        await session.DisposeAsync();

        await gone.Task.WaitAsync(Bound);
        Assert.True(session.Ended.IsCancellationRequested);
        Assert.Equal("notebook", server.Seen<OpenSessionRequest>()[0].Label);
    }

    [Fact]
    public async Task OpenSession_tensorsAndGraphs_carryItsId()
    {
        await using var server = await FakeServer.StartAsync();
        Hold(server);
        server.On<PutTensorRequest, PutTensorResponse>((_, _) => new PutTensorResponse { Tensor = new KeptTensor { Id = "t1" } });
        server.On<ForwardRequest, ForwardResponse>((request, _) => Graphs.Recorded(request));
        await using var client = server.NewClient();
        await using var session = await client.OpenSessionAsync();

        await session.PutTensorAsync(TensorData.Scalar(1f));
        await session.ListTensorsAsync();
        await client.Module("m").ForwardWithGraphAsync(TensorData.Scalar(1f), new GraphOptions { Session = session });

        Assert.Equal("s1", server.Seen<PutTensorRequest>()[0].Session);
        Assert.Equal("s1", server.Seen<ListTensorsRequest>()[0].Session);
        Assert.Equal("s1", server.Seen<ForwardRequest>()[0].Session);
    }

    [Fact]
    public async Task OpenSession_serverGoes_endsTheSessionAndLogsIt()
    {
        await using var server = await FakeServer.StartAsync();
        Hold(server);
        var log = new Lines();
        using var loggers = LoggerFactory.Create(builder => builder.AddProvider(log));
        await using var client = server.NewClient(loggers: loggers);
        await using var session = await client.OpenSessionAsync();
        var ended = new TaskCompletionSource();
        session.Ended.Register(ended.SetResult);

        await server.StopAsync();

        await ended.Task.WaitAsync(Bound);
        Assert.Contains(log.All, line => line.StartsWith("Warning: Session s1 ended:", StringComparison.Ordinal));
    }

    [Fact]
    public async Task OpenSession_tokenCancelledLater_doesNotEndIt()
    {
        await using var server = await FakeServer.StartAsync();
        Hold(server);
        await using var client = server.NewClient();
        using var stop = new CancellationTokenSource();
        await using var session = await client.OpenSessionAsync("", stop.Token);

        await stop.CancelAsync();
        await Task.Delay(200);

        Assert.False(session.Ended.IsCancellationRequested);
    }

    [Fact]
    public async Task OpenSession_silentServer_givesUpAtTheDeadline()
    {
        await using var server = await FakeServer.StartAsync();
        server.OnStream<OpenSessionRequest, OpenSessionResponse>(async (_, _, context) =>
        {
            await Task.Delay(Timeout.Infinite, context.CancellationToken);
            return null;
        });
        await using var client = server.NewClient(o => o.Timeout = TimeSpan.FromMilliseconds(300));

        await Assert.ThrowsAsync<SconceDeadlineExceededException>(() => client.OpenSessionAsync().WaitAsync(Bound));
    }

    [Fact]
    public async Task OpenSession_refusedOnce_isTriedAgain()
    {
        await using var server = await FakeServer.StartAsync();
        server.OnStream<OpenSessionRequest, OpenSessionResponse>(async (_, writer, context) =>
        {
            if (server.Seen<OpenSessionRequest>().Count < 2)
                throw Fakes.Error(StatusCode.Unavailable, "starting");
            await writer!.WriteAsync(new OpenSessionResponse { Session = "s2" });
            await Task.Delay(Timeout.Infinite, context.CancellationToken);
            return null;
        });
        await using var client = server.NewClient();

        await using var session = await client.OpenSessionAsync();

        Assert.Equal("s2", session.Id);
    }

    private static TaskCompletionSource Hold(FakeServer server)
    {
        var gone = new TaskCompletionSource();
        server.OnStream<OpenSessionRequest, OpenSessionResponse>(async (_, writer, context) =>
        {
            using var registration = context.CancellationToken.Register(() => gone.TrySetResult());
            await writer!.WriteAsync(new OpenSessionResponse { Session = "s1" });
            await writer.WriteAsync(new OpenSessionResponse { Session = "s1" });
            await Task.Delay(Timeout.Infinite, context.CancellationToken);
            return null;
        });
        return gone;
    }
}
