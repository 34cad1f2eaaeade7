using Grpc.Core;
using Grpc.Net.Client;
using Sconce.Functional.Harness;

namespace Sconce.Functional.Serving;

/// <summary>Stops that cannot wait for what runs.</summary>
public sealed class StopTests : IDisposable
{
    private readonly HeldWork _work = new();

    [Fact]
    public async Task Calls_that_outlast_the_drain_timeout_are_answered_UNAVAILABLE_and_the_process_exits_0()
    {
        await using var server = await StartAsync(drainTimeout: "100ms");
        using var channel = Channels.Open(server);
        var running = await RunHeldAsync(channel);
        server.Terminate();

        var refusal = await Refusal.OfAsync(() => running, StatusCode.Unavailable, "stopped before the call had ended");
        refusal.For("STOPPED");
        Assert.NotNull(refusal.RetryAfter);
        Assert.Equal(0, await server.WaitForExitAsync());
        Assert.Empty(server.ErrorLines);
        Assert.Single(server.Log, line => line.Contains("Calls were still running", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(SconceProcess.Sigterm, 143)]
    [InlineData(SconceProcess.Sigint, 130)]
    public async Task Second_signal_ends_the_process_at_once(int signal, int exitCode)
    {
        await using var server = await StartAsync(drainTimeout: "1h");
        using var channel = Channels.Open(server);
        var running = await RunHeldAsync(channel);
        server.Terminate();
        using (var watch = new Grpc.Health.V1.Health.HealthClient(channel).Watch(new()))
        {
            // Whatever it says at first, it says NOT_SERVING once the first signal has come through.
            do
            {
                Assert.True(await watch.ResponseStream.MoveNext(CancellationToken.None));
            }
            while (watch.ResponseStream.Current.Status != Grpc.Health.V1.HealthCheckResponse.Types.ServingStatus.NotServing);
        }

        server.Signal(signal);

        Assert.Equal(exitCode, await server.WaitForExitAsync());
        Assert.Equal(StatusCode.Unavailable, (await Assert.ThrowsAsync<RpcException>(() => running)).StatusCode);
        Assert.Empty(server.ErrorLines);
    }

    public void Dispose() => _work.Dispose();

    private static Task<SconceProcess> StartAsync(string drainTimeout) =>
        SconceProcess.StartAsync(("lanes", "1"), ("intra-op-threads", "1"), ("drain-timeout", drainTimeout), HeldWork.PlugIn);

    private async Task<Task> RunHeldAsync(GrpcChannel channel)
    {
        var stubs = new Stubs(channel.CreateCallInvoker());
        await _work.PrepareAsync(stubs);
        var running = stubs.Execution.ForwardAsync(new() { Module = HeldWork.Module, Inputs = { HeldWork.Input() } }).ResponseAsync;
        await _work.RunsAsync();
        return running;
    }
}
