using System.Globalization;
using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.Tests;
using Sconce.V1;

namespace Sconce.Functional.Durability;

/// <summary>A run of training whose server is killed again and again: repeating what is not known to be durable, under the first ids, ends where an unbroken run does.</summary>
public sealed class ReplayTests : IDisposable
{
    private const int Steps = 300;
    private const int Kills = 5;
    private const int EverySteps = 20;

    private readonly string _data = Directory.CreateTempSubdirectory("sconce-replayed-").FullName;

    public void Dispose() => Directory.Delete(_data, recursive: true);

    [Fact]
    public async Task A_killed_run_that_repeats_all_that_it_is_unsure_of_ends_as_an_unbroken_one()
    {
        var random = new Random(20261125);
        var (acknowledged, lost) = (0, 0);
        for (var kill = 0; kill < Kills; kill++)
        {
            await using var server = await SconceProcess.StartAsync(("data", _data));
            Assert.Empty(server.ErrorLines);
            await using var client = Client(server);
            var module = kill == 0 ? await BeginAsync(client) : client.Module("m");
            var durable = await DurableAsync(module);
            lost += Math.Max(0, acknowledged - durable);

            // What the crash has lost is unsure, and so a caller may be of more.
            var first = Math.Max(0, durable - random.Next(15));
            acknowledged = durable + random.Next(EverySteps, 2 * EverySteps);
            Assert.True(acknowledged < Steps);
            await (kill % 2 == 0 ? StreamedAsync(module, first, acknowledged, server.KillNow) : OneByOneAsync(module, first, acknowledged, server.KillNow));
        }

        await using var last = await SconceProcess.StartAsync(("data", _data));
        await using var other = Client(last);
        var ended = other.Module("m");
        lost += Math.Max(0, acknowledged - await DurableAsync(ended));
        await StreamedAsync(ended, 0, Steps, null);
        Assert.Equal((ulong)Steps, (await ended.GetAsync()).Steps);

        // Each step has moved every weight by its own number: one that was left out or taken twice shows.
        var expected = -Enumerable.Range(1, Steps).Sum();
        Assert.All((await ended.StateDictAsync())["weight"].As<float>().ToArray(), weight => Assert.Equal(expected, weight));
        Assert.True(lost > 0, "no kill has lost a step, so nothing was taken anew");
    }

    [Fact]
    public async Task A_stream_does_not_go_on_by_itself_with_a_server_that_has_lost_steps()
    {
        var port = ("port", OwnPort.Next().ToString(CultureInfo.InvariantCulture));
        SconceClient client;
        TrainStream stream;
        string instance;
        await using (var server = await SconceProcess.StartAsync(("data", _data), port))
        {
            // As often as it takes: a busy machine may need longer to start a server than the default attempts last.
            client = new(new SconceClientOptions { Address = server.Address.ToString(), Retry = { MaxAttempts = 100 } });
            var module = await BeginAsync(client);
            instance = (await client.GetHostAsync()).Instance;
            stream = module.OpenTrainStream(Loss);
            Assert.Equal(1UL, (await stream.StepAsync(Batch(1))).Steps);
            server.KillNow();
        }

        await using (client)
        await using (stream)
        await using (await SconceProcess.StartAsync(("data", _data), port))
        {
            await Assert.ThrowsAsync<SconceServerRestartedException>(() => stream.StepAsync(Batch(2)).WaitAsync(TimeSpan.FromSeconds(60)));
            var module = client.Module("m");
            await Assert.ThrowsAsync<SconceServerRestartedException>(() => module.With(new() { IfInstance = instance }).ZeroGradAsync());
            await Assert.ThrowsAsync<SconceServerRestartedException>(() => module.With(new() { IfInstance = instance }).StateDictAsync());
            Assert.Equal(0, await DurableAsync(module));
            await StreamedAsync(module.With(new() { IfInstance = (await client.GetHostAsync()).Instance }), 0, 2, null);
        }
    }

    // What the kill has broken off is not to be tried again.
    private static SconceClient Client(SconceProcess server) => new(new SconceClientOptions { Address = server.Address.ToString(), Retry = new SconceRetryOptions { MaxAttempts = 1 } });

    private static async Task<RemoteModule> BeginAsync(SconceClient client)
    {
        var module = await client.CreateModuleAsync("m", Nn.Linear(8, 8, bias: false));
        await module.ApplyAsync("zeros_");
        await module.CreateOptimizerAsync("SGD", [("lr", 1.0)]);
        await module.SetSnapshotPolicyAsync(new() { EverySteps = EverySteps, KeepLast = 2 });
        await module.SaveSnapshotAsync();
        return module;
    }

    private static async Task<int> DurableAsync(RemoteModule module)
    {
        var held = await module.GetAsync();
        Assert.Equal(held.Steps, held.DurableSteps);
        return (int)held.DurableSteps;
    }

    /// <summary>Takes steps through a stream from after <paramref name="first"/>, and does something once <paramref name="last"/> is answered, while those behind it are on their way.</summary>
    private static async Task StreamedAsync(RemoteModule module, int first, int last, Action? then)
    {
        await using var stream = module.OpenTrainStream(Loss);
        var sent = new Queue<Task<TrainStepResult>>();
        var (step, answered) = (first, first);
        while (answered < last)
        {
            while (step < Math.Min(Steps, last + 7) && sent.Count < 8)
            {
                sent.Enqueue(stream.StepAsync(Batch(++step)));
            }

            Assert.Equal((ulong)++answered, (await sent.Dequeue()).Steps);
        }

        then?.Invoke();
        foreach (var behind in sent)
        {
            // May be taken or not, answered or not.
            await behind.ContinueWith(ended => ended.Exception, TaskScheduler.Default);
        }
    }

    private static async Task OneByOneAsync(RemoteModule module, int first, int last, Action then)
    {
        for (var step = first + 1; step <= last; step++)
        {
            var batch = Batch(step);
            Assert.Equal((ulong)step, (await module.With(new() { RequestId = batch.RequestId }).TrainStepAsync(batch.Inputs, batch.Targets, Loss)).Steps);
        }

        then();
    }

    private static Loss Loss => Nn.Loss("L1Loss", ("reduction", "sum"));

    // The loss falls with every output: the gradient of each weight is the input, which is the step's number.
    private static TrainBatch Batch(int step) => new(
        TensorData.Create(Enumerable.Repeat((float)step, 8).ToArray(), 1, 8), TensorData.Create(Enumerable.Repeat(-1e30f, 8).ToArray(), 1, 8))
    {
        RequestId = $"step-{step}",
    };
}
