using System.Globalization;
using Sconce.Client;
using Sconce.Functional.Harness;

namespace Sconce.Functional.Durability;

/// <summary>
/// A server that is killed at random instants while it trains, loads and saves: whatever it had acknowledged is there when it starts again, nothing is torn, and nothing is
/// left lying about.
/// </summary>
/// <remarks>
/// Every parameter of the module that trains is minus the number of its steps, and every parameter of the other one is the number of its load, so that a snapshot of two
/// instants, or of part of one, shows.
/// </remarks>
public sealed class KillTests : IDisposable
{
    private const string Trained = "trained";
    private const string Loaded = "loaded";

    // Each is a start of the whole server; a soak asks for many more.
    private static readonly int Kills = int.Parse(Environment.GetEnvironmentVariable("SCONCE_SERVER_KILLS") ?? "100", CultureInfo.InvariantCulture);

    private readonly string _data = Directory.CreateTempSubdirectory("sconce-killed-").FullName;
    private readonly Lock _lock = new();
    private long _stepsSaved;
    private long _loadsSaved;
    private long _loads;
    private int _acknowledged;

    public void Dispose() => Directory.Delete(_data, recursive: true);

    [Fact]
    public async Task Kill_at_any_instant_loses_nothing_acknowledged_and_tears_nothing()
    {
        var random = new Random(20261125);
        await using (var server = await SconceProcess.StartAsync(("data", _data)))
        {
            await using var client = Client(server);
            await BeginAsync(client);
            await KilledAsync(server, client, TimeSpan.FromMilliseconds(300), inProgress: true);
        }

        for (var i = 0; i < Kills; i++)
        {
            await using var server = await SconceProcess.StartAsync(("data", _data));
            Assert.Empty(server.ErrorLines);
            await using var client = Client(server);
            await CheckAsync(client);
            await KilledAsync(server, client, TimeSpan.FromMilliseconds(random.Next(250)), inProgress: i % 2 == 0);
        }

        // A kill between a save and the deletion of the oldest leaves one too many, until the next save.
        await using (var last = await SconceProcess.StartAsync(("data", _data)))
        {
            await using var client = Client(last);
            await CheckAsync(client);
            await client.Module(Trained).SaveSnapshotAsync();
            await client.Module(Loaded).SaveSnapshotAsync();
            Assert.Equal([2, 2], (await client.ListSnapshotsAsync()).Snapshots.CountBy(snapshot => snapshot.Module).Select(count => count.Value));
        }

        // It would pass without this if nothing ever got as far as an answer.
        Assert.True(_acknowledged > Kills / 2, $"only {_acknowledged} snapshots were acknowledged over {Kills} kills");
        Assert.True(_stepsSaved > Kills / 2, $"only {_stepsSaved} steps are durable after {Kills} kills");
    }

    // What the kill has broken off is not to be tried again.
    private static SconceClient Client(SconceProcess server) => new(new SconceClientOptions { Address = server.Address.ToString(), Retry = new SconceRetryOptions { MaxAttempts = 1 } });

    private static async Task BeginAsync(SconceClient client)
    {
        foreach (var name in (string[])[Trained, Loaded])
        {
            var module = await client.CreateModuleAsync(name, Nn.Sequential(Nn.Linear(64, 256), Nn.Linear(256, 64)));
            await module.ApplyAsync("zeros_");
            await module.SetSnapshotPolicyAsync(new() { EverySteps = 3, KeepLast = 2 });
            await module.SaveSnapshotAsync();
        }

        // The second layer sees what the first makes; only the layer that is called has gradients.
        await client.Module(Trained).CreateOptimizerAsync("SGD", [("lr", 1.0)]);
        await client.Module(Trained).SaveSnapshotAsync();
    }

    /// <summary>Works on both modules from all sides, and kills the server in the middle: so long after it has started or, where it is to be in progress, after a new step was acknowledged as durable.</summary>
    private async Task KilledAsync(SconceProcess server, SconceClient client, TimeSpan after, bool inProgress)
    {
        var before = _stepsSaved;
        var (trained, loaded) = (client.Module(Trained), client.Module(Loaded));
        var work = new[]
        {
            UntilKilledAsync(() => StepAsync(trained)),
            UntilKilledAsync(async () => Acknowledge(ref _stepsSaved, (long)(await trained.SaveSnapshotAsync()).Step)),
            UntilKilledAsync(async () =>
            {
                var load = Interlocked.Increment(ref _loads);
                await loaded.LoadStateDictAsync(await ConstantAsync(loaded, load));
                await loaded.SaveSnapshotAsync();
                Acknowledge(ref _loadsSaved, load);
            }),
        };
        for (var waited = 0; inProgress && Interlocked.Read(ref _stepsSaved) == before; waited++)
        {
            Assert.True(waited < 12_000, "no step became durable within a minute");
            await Task.Delay(5);
        }

        await Task.Delay(after);
        server.KillNow();
        await Task.WhenAll(work).WaitAsync(TimeSpan.FromSeconds(60));
    }

    private void Acknowledge(ref long newest, long value)
    {
        lock (_lock)
        {
            newest = Math.Max(newest, value);
            _acknowledged++;
        }
    }

    private async Task CheckAsync(SconceClient client)
    {
        var list = await client.ListSnapshotsAsync();
        Assert.Empty(list.Damaged);
        Assert.All(Directory.EnumerateFileSystemEntries(_data).Select(Path.GetFileName), name => Assert.Matches("^(lock|quarantine|snap-[0-9a-f]+)$", name));

        var step = (long)list.Snapshots.Last(snapshot => snapshot.Module == Trained).Step;
        Assert.True(step >= _stepsSaved, $"the newest snapshot is of step {step}; {_stepsSaved} was acknowledged");
        _stepsSaved = step;
        Assert.All(await ValuesAsync(client.Module(Trained), "0."), value => Assert.Equal(-step, value));

        var values = (await ValuesAsync(client.Module(Loaded), "")).Distinct().ToList();
        var load = Assert.Single(values);
        Assert.InRange(load, _loadsSaved, _loads);
        _loadsSaved = (long)load;
    }

    private static async Task UntilKilledAsync(Func<Task> work)
    {
        try
        {
            while (true)
            {
                await work();
            }
        }
        catch (SconceException e) when (e is SconceUnavailableException or SconceDeadlineExceededException)
        {
            // Killed. What had not been answered may be durable or not.
        }
    }

    // The loss falls with every output, and every input is 1: so is each gradient.
    private static Task<TrainStepResult> StepAsync(RemoteModule module)
    {
        var layer = module.GetSubmodule("0");
        var input = TensorData.Create(Enumerable.Repeat(1f, 64).ToArray(), 1, 64);
        var target = TensorData.Create(Enumerable.Repeat(-1e30f, 256).ToArray(), 1, 256);
        return layer.TrainStepAsync(input, target, Nn.Loss("L1Loss", ("reduction", "sum")));
    }

    private static async Task<StateDict> ConstantAsync(RemoteModule module, long value)
    {
        var state = await module.StateDictAsync();
        return new StateDict(state.Select(entry => KeyValuePair.Create(entry.Key, TensorData.Create(Enumerable.Repeat((float)value, (int)entry.Value.Length).ToArray(), [.. entry.Value.Shape]))));
    }

    private static async Task<IEnumerable<float>> ValuesAsync(RemoteModule module, string prefix) =>
        (await module.StateDictAsync()).Where(entry => entry.Key.StartsWith(prefix, StringComparison.Ordinal)).SelectMany(entry => entry.Value.As<float>().ToArray());
}
