using System.Diagnostics;
using Grpc.Core;
using Grpc.Net.Client;
using Sconce.Functional.Harness;

namespace Sconce.Functional.Serving;

/// <summary>
/// What happens to work that waits: one lane, a short queue, and calls long enough to wait behind. Each test has a server of its own.
/// </summary>
public sealed class QueueTests : IAsyncLifetime
{
    private const int QueueLimit = 4;
    private const string Module = "slow";

    private SconceProcess _server = null!;
    private GrpcChannel _channel = null!;
    private Stubs _stubs = null!;

    public async ValueTask InitializeAsync()
    {
        _server = await SconceProcess.StartAsync(
            ("lanes", "1"), ("intra-op-threads", "1"), ("max-queue-per-module", $"{QueueLimit}"), ("drain-timeout", "20s"));
        _channel = Channels.Open(_server);
        _stubs = new Stubs(_channel.CreateCallInvoker());
        await SlowWork.PrepareAsync(_stubs, Module);
    }

    public async ValueTask DisposeAsync()
    {
        _channel.Dispose();
        await using (_server)
        {
            if (_server.IsRunning)
            {
                _server.Terminate();
            }

            Assert.Equal(0, await _server.WaitForExitAsync());
            Assert.Empty(_server.ErrorLines);
        }
    }

    [Fact]
    public async Task Full_queue_is_RESOURCE_EXHAUSTED_with_RetryInfo_at_once()
    {
        var running = SlowWork.Start(_stubs, Module);
        await SlowWork.UntilRunningAsync();
        var queued = Enumerable.Range(0, QueueLimit).Select(_ => SlowWork.Start(_stubs, Module)).ToList();
        await Task.Delay(100);

        var began = Stopwatch.GetTimestamp();
        var refusal = await Refusal.OfAsync(async () => await SlowWork.Start(_stubs, Module), StatusCode.ResourceExhausted, "max_queue_per_module", $"{QueueLimit}");
        Assert.True(Stopwatch.GetElapsedTime(began) < TimeSpan.FromMilliseconds(500), "a full queue must be told at once");
        refusal.For("QUEUE_FULL");
        Assert.True(refusal.RetryAfter > TimeSpan.Zero);
        Assert.NotNull(refusal.Quota);

        await running;
        await Task.WhenAll(queued);
    }

    [Fact]
    public async Task Full_queue_slows_a_stream_of_the_client_and_fails_nothing()
    {
        await _stubs.Modules.CreateModuleAsync(new() { Module = "forwards", Spec = Specs.Slow(4), Seed = 1 });
        await using var client = new Sconce.Client.SconceClient(_server.Address.ToString());
        var module = client.Module("forwards");
        var inputs = Enumerable.Range(0, 24).Select(i => Sconce.Client.TensorData.Create(Enumerable.Repeat(i / 24f, 128 * 1024).ToArray(), 128, 1024)).ToList();

        // Three times as many in flight as one lane and its queue take.
        var outputs = await module.ForwardStreamAsync(inputs.Select(input => (Sconce.Client.Inputs)input).ToAsyncEnumerable(), maxInFlight: 16).ToListAsync();

        Assert.Equal(inputs.Count, outputs.Count);
        for (var i = 0; i < inputs.Count; i += 5)
        {
            Assert.True((await module.ForwardAsync(inputs[i])).Tensor.Bytes.Span.SequenceEqual(outputs[i].Tensor.Bytes.Span), $"answer {i} is another's");
        }
    }

    [Fact]
    public async Task Deadline_that_passes_in_the_queue_means_the_step_is_never_run()
    {
        var running = SlowWork.Start(_stubs, Module);
        await SlowWork.UntilRunningAsync();
        var late = _stubs.Training.TrainStepAsync(SlowWork.Step(Module), deadline: DateTime.UtcNow.AddMilliseconds(150));
        Assert.Equal(StatusCode.DeadlineExceeded, (await Assert.ThrowsAsync<RpcException>(async () => await late)).StatusCode);
        await running;
        Assert.Equal(1UL, await StepsAsync());
    }

    [Fact]
    public async Task Cancelled_in_the_queue_means_the_step_is_never_run_and_its_place_is_free()
    {
        var running = SlowWork.Start(_stubs, Module);
        await SlowWork.UntilRunningAsync();
        using var cancellation = new CancellationTokenSource();
        var queued = Enumerable.Range(0, QueueLimit).Select(_ => _stubs.Training.TrainStepAsync(SlowWork.Step(Module), cancellationToken: cancellation.Token).ResponseAsync).ToList();
        await Task.Delay(150);
        await cancellation.CancelAsync();
        foreach (var call in queued)
        {
            Assert.Equal(StatusCode.Cancelled, (await Assert.ThrowsAsync<RpcException>(() => call)).StatusCode);
        }

        await Task.Delay(150); // the resets travel to the server
        var next = SlowWork.Start(_stubs, Module); // refused if the places were still taken
        await running;
        await next;
        Assert.Equal(2UL, await StepsAsync());
    }

    [Fact]
    public async Task Client_that_vanishes_with_work_queued_leaves_nothing()
    {
        var used = (await _stubs.Host.GetHostAsync(new())).Memory.UsedBytes;
        var running = SlowWork.Start(_stubs, Module);
        await SlowWork.UntilRunningAsync();
        var vanishing = Channels.Open(_server);
        var queued = new Stubs(vanishing.CreateCallInvoker()).Training.TrainStepAsync(SlowWork.Step(Module)).ResponseAsync;
        await Task.Delay(150);
        vanishing.Dispose(); // closes the connection under the call
        await Assert.ThrowsAsync<RpcException>(() => queued);
        await running;
        Assert.Equal(1UL, await StepsAsync());
        var began = Stopwatch.GetTimestamp();
        ulong now;
        do
        {
            now = (await _stubs.Host.GetHostAsync(new())).Memory.UsedBytes;
        }
        while (now != used && Stopwatch.GetElapsedTime(began) < TimeSpan.FromSeconds(5));

        // A step leaves gradients behind, which are charged: the same step again must add nothing.
        await SlowWork.Start(_stubs, Module);
        Assert.Equal(now, (await _stubs.Host.GetHostAsync(new())).Memory.UsedBytes);
    }

    [Fact]
    public async Task Sigterm_finishes_the_running_call_refuses_the_queued_one_and_exits_0()
    {
        var health = new Grpc.Health.V1.Health.HealthClient(_channel);
        using var watch = health.Watch(new());
        Assert.True(await watch.ResponseStream.MoveNext(CancellationToken.None));
        Assert.Equal(Grpc.Health.V1.HealthCheckResponse.Types.ServingStatus.Serving, watch.ResponseStream.Current.Status);

        var running = SlowWork.Start(_stubs, Module);
        await SlowWork.UntilRunningAsync();
        var queued = SlowWork.Start(_stubs, Module);
        await Task.Delay(150);
        _server.Terminate();

        (await Refusal.OfAsync(() => queued, StatusCode.Unavailable)).For("DRAINING");
        Assert.False(running.IsCompleted, "the call that ran when the signal came must still run when the queued one is refused");
        Assert.True(await watch.ResponseStream.MoveNext(CancellationToken.None));
        Assert.Equal(Grpc.Health.V1.HealthCheckResponse.Types.ServingStatus.NotServing, watch.ResponseStream.Current.Status);
        Assert.True((await running).Steps == 1);
        Assert.Equal(0, await _server.WaitForExitAsync());
    }

    private async Task<ulong> StepsAsync() => (await _stubs.Training.GetOptimizerAsync(new() { Module = Module })).Optimizer.Steps;
}
