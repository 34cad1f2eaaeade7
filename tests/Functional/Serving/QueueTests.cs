using System.Diagnostics;
using Grpc.Core;
using Grpc.Net.Client;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.Serving;

/// <summary>
/// What happens to work that waits: one lane, a short queue, and a call that is held to wait behind. Each test has a server of its own.
/// </summary>
public sealed class QueueTests : IAsyncLifetime
{
    private const int QueueLimit = 4;
    private readonly HeldWork _work = new();
    private SconceProcess _server = null!;
    private GrpcChannel _channel = null!;
    private Stubs _stubs = null!;

    public async ValueTask InitializeAsync()
    {
        _server = await SconceProcess.StartAsync(
            ("lanes", "1"), ("intra-op-threads", "1"), ("max-queue-per-module", $"{QueueLimit}"), ("drain-timeout", "5m"), ("log-level", "debug"), HeldWork.PlugIn);
        _channel = Channels.Open(_server);
        _stubs = new Stubs(_channel.CreateCallInvoker());
        await _work.PrepareAsync(_stubs);
    }

    public async ValueTask DisposeAsync()
    {
        _work.LetGo();
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

        _work.Dispose();
    }

    [Fact]
    public async Task Full_queue_is_RESOURCE_EXHAUSTED_with_RetryInfo_at_once()
    {
        var running = HeldWork.Start(_stubs);
        await _work.RunsAsync();
        var queued = await FillAsync(_stubs);

        // One of some: the machine may be busy with other things.
        var took = TimeSpan.MaxValue;
        for (var i = 0; i < 20 && took >= TimeSpan.FromMilliseconds(500); i++)
        {
            var began = Stopwatch.GetTimestamp();
            var refusal = await Refusal.OfAsync(() => HeldWork.Start(_stubs), StatusCode.ResourceExhausted, "max_queue_per_module", $"{QueueLimit}");
            took = Stopwatch.GetElapsedTime(began);
            refusal.For("QUEUE_FULL");
            Assert.True(refusal.RetryAfter > TimeSpan.Zero);
            Assert.NotNull(refusal.Quota);
        }

        Assert.True(took < TimeSpan.FromMilliseconds(500), "a full queue must be told at once");
        Assert.DoesNotContain(queued.Append(running), call => call.IsCompleted);
        _work.LetGo();
        await running;
        await Task.WhenAll(queued);
    }

    [Fact]
    public async Task Full_queue_slows_a_stream_of_the_client_and_fails_nothing()
    {
        await using var client = new Sconce.Client.SconceClient(_server.Address.ToString());
        var module = client.Module(HeldWork.Module);
        var input = HeldWork.Input();
        var inputs = Enumerable.Range(0, 24).Select(i => Sconce.Client.TensorData.Create(input.Floats().Select(value => value + i).ToArray(), [.. input.Shape])).ToList();

        // Three times as many in flight as one lane and its queue take, while the first is held. That the queue is full is told to others.
        var sequence = module.ForwardStreamAsync(inputs.Select(one => (Sconce.Client.Inputs)one).ToAsyncEnumerable(), maxInFlight: 16).ToListAsync().AsTask();
        await _work.RunsAsync();
        var others = Enumerable.Range(0, QueueLimit + 1).Select(_ => HeldWork.Start(_stubs)).ToList();
        (await Refusal.OfAsync(() => Task.WhenAny(others).Unwrap(), StatusCode.ResourceExhausted)).For("QUEUE_FULL");
        _work.LetGo();
        var outputs = await sequence;
        await Task.WhenAll(others).ContinueWith(_ => { }, TaskScheduler.Default);

        Assert.Equal(inputs.Count, outputs.Count);
        for (var i = 0; i < inputs.Count; i += 5)
        {
            Assert.True((await module.ForwardAsync(inputs[i])).Tensor.Bytes.Span.SequenceEqual(outputs[i].Tensor.Bytes.Span), $"answer {i} is another's");
        }
    }

    [Fact]
    public async Task Deadline_that_passes_in_the_queue_means_the_step_is_never_run()
    {
        var running = HeldWork.Start(_stubs);
        await _work.RunsAsync();

        // Time enough to get into the queue, which nothing leaves.
        var late = _stubs.Training.TrainStepAsync(HeldWork.Step(), deadline: DateTime.UtcNow.AddSeconds(2));
        Assert.Equal(StatusCode.DeadlineExceeded, (await Assert.ThrowsAsync<RpcException>(async () => await late)).StatusCode);
        await LoggedAsync("DEADLINE_EXCEEDED", 1); // the server has a clock of its own
        _work.LetGo();
        await running;
        Assert.Equal(1UL, await StepsAsync());
    }

    [Fact]
    public async Task Cancelled_in_the_queue_means_the_step_is_never_run_and_its_place_is_free()
    {
        var running = HeldWork.Start(_stubs);
        await _work.RunsAsync();
        using var cancellation = new CancellationTokenSource();
        var queued = await FillAsync(_stubs, cancellation.Token);
        await cancellation.CancelAsync();
        foreach (var call in queued)
        {
            Assert.Equal(StatusCode.Cancelled, (await Assert.ThrowsAsync<RpcException>(() => call)).StatusCode);
        }

        await LoggedAsync("CANCELLED", QueueLimit); // the resets travel to the server
        var next = await FillAsync(_stubs); // refused if the places were still taken
        _work.LetGo();
        await running;
        await Task.WhenAll(next);
        Assert.Equal(1UL + QueueLimit, await StepsAsync());
    }

    [Fact]
    public async Task Client_that_vanishes_with_work_queued_leaves_nothing()
    {
        var used = await UsedBytesAsync();
        var running = HeldWork.Start(_stubs);
        await _work.RunsAsync();
        var vanishing = Channels.Open(_server);
        var queued = await FillAsync(new Stubs(vanishing.CreateCallInvoker()));
        vanishing.Dispose(); // closes the connection under the calls
        foreach (var call in queued)
        {
            await Assert.ThrowsAsync<RpcException>(() => call);
        }

        await LoggedAsync("CANCELLED", QueueLimit);
        _work.LetGo();
        await running;
        Assert.Equal(1UL, await StepsAsync());

        // A step leaves gradients behind, which are charged: the same step again must add nothing.
        used += HeldWork.GradientBytes;
        await Eventually.TrueAsync(async () => await UsedBytesAsync() == used, async () => $"{await UsedBytesAsync()} bytes are charged, not {used}");
        await HeldWork.Start(_stubs);
        Assert.Equal(used, await UsedBytesAsync());
    }

    [Fact]
    public async Task Sigterm_finishes_the_running_call_refuses_the_queued_one_and_exits_0()
    {
        var health = new Grpc.Health.V1.Health.HealthClient(_channel);
        using var watch = health.Watch(new());
        Assert.True(await watch.ResponseStream.MoveNext(CancellationToken.None));
        Assert.Equal(Grpc.Health.V1.HealthCheckResponse.Types.ServingStatus.Serving, watch.ResponseStream.Current.Status);

        var running = HeldWork.Start(_stubs);
        await _work.RunsAsync();
        var queued = await FillAsync(_stubs);
        _server.Terminate();

        foreach (var call in queued)
        {
            (await Refusal.OfAsync(() => call, StatusCode.Unavailable)).For("DRAINING");
        }

        Assert.False(running.IsCompleted, "the call that ran when the signal came must still run when the queued ones are refused");
        Assert.True(await watch.ResponseStream.MoveNext(CancellationToken.None));
        Assert.Equal(Grpc.Health.V1.HealthCheckResponse.Types.ServingStatus.NotServing, watch.ResponseStream.Current.Status);
        _work.LetGo();
        Assert.True((await running).Steps == 1);
        Assert.Equal(0, await _server.WaitForExitAsync());
    }

    /// <summary>Fills the queue while a call is held: of one more than it takes one is refused, and then all others are in it.</summary>
    private static async Task<List<Task<TrainStepResponse>>> FillAsync(Stubs stubs, CancellationToken cancellationToken = default)
    {
        var calls = Enumerable.Range(0, QueueLimit + 1).Select(_ => HeldWork.Start(stubs, cancellationToken)).ToList();
        var beyond = await Task.WhenAny(calls);
        (await Refusal.OfAsync(() => beyond, StatusCode.ResourceExhausted)).For("QUEUE_FULL");
        calls.Remove(beyond);
        return calls;
    }

    private Task LoggedAsync(string reason, int times)
    {
        return Eventually.TrueAsync(() => Lines() >= times, () => $"{reason} was logged {Lines()} times, not {times}");

        int Lines() => _server.Log.Count(line => line.Contains($"\"{reason}\"", StringComparison.Ordinal));
    }

    private async Task<ulong> UsedBytesAsync() => (await _stubs.Host.GetHostAsync(new())).Memory.UsedBytes;

    private async Task<ulong> StepsAsync() => (await _stubs.Training.GetOptimizerAsync(new() { Module = HeldWork.Module })).Optimizer.Steps;
}
