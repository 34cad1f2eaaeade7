using System.Collections.Concurrent;
using System.Text;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Sconce.Engine.Execution;
using Sconce.Engine.Snapshots;
using Sconce.Engine.Storage;
using Sconce.Engine.Tensors;
using Sconce.Engine.Weights.Safetensors;
using static Sconce.Engine.Tests.Execution.Testing;

namespace Sconce.Engine.Tests.Snapshots;

/// <summary>Modules on a disk, while other things happen to them or to it.</summary>
public sealed class DurableTests
{
    private readonly FaultDisk _disk = new();

    [Theory]
    [InlineData("flush /data/tmp-", false)]
    [InlineData("rename /data/tmp-", true)]
    public async Task A_module_that_is_deleted_while_it_is_saved_has_no_snapshot_when_the_deletion_is_acknowledged(string blocked, bool isRenamed)
    {
        await using var host = On(_disk);
        await host.Create("m", Mlp());
        using var save = new Blocked(_disk, blocked);
        var saving = host.Durable.SaveAsync("m", null, null, default);
        await save.Reached.WaitAsync(Limit);
        var deleting = host.DeleteModuleAsync("m", null, default);
        await Gone(host, "m");

        // Until then the name is not free: the snapshots of the next module would go with those of this one.
        await host.Create("m", Mlp()).Fails(EngineError.AlreadyExists);
        Assert.False(deleting.IsCompleted);
        save.Release();
        await saving.Fails(EngineError.NotFound, "\"m\"");
        await deleting.WaitAsync(Limit);
        Assert.Empty(host.Durable.List(""));

        // What was never there cannot come back, whenever the process is killed.
        Assert.Equal(isRenamed, _disk.Operations.Any(operation => operation.StartsWith("rename /data/tmp-", StringComparison.Ordinal)));
        await host.Create("m", Mlp());
        var kept = await host.Durable.SaveAsync("m", null, null, default);
        Assert.Equal(kept.Id, Assert.Single(host.Durable.List("m")).Id);
    }

    [Fact]
    public async Task A_module_that_is_deleted_while_its_policy_saves_it_is_no_error()
    {
        var log = new ErrorLog();
        await using var host = On(_disk, loggers: log);
        var module = await host.Create("m", Mlp());
        await module.CreateOptimizerAsync("", "SGD", new Dictionary<string, object?>(), [], null, default);
        await module.SetSnapshotPolicyAsync(new SnapshotPolicy(EverySteps: 1), null, default);
        using var save = new Blocked(_disk, "flush /data/tmp-");
        await module.OptimizerStepAsync("", null, true, null, default);
        await save.Reached.WaitAsync(Limit);
        var deleting = host.DeleteModuleAsync("m", null, default);
        await Gone(host, "m");
        save.Release();
        await deleting.WaitAsync(Limit);
        Assert.Empty(host.Durable.List(""));
        await host.DisposeAsync();
        Assert.Empty(log.Errors);
    }

    [Fact]
    public async Task The_newest_snapshot_is_of_the_newest_state_whoever_asked_for_it()
    {
        const int Steps = 300;
        const int Keep = 1000;
        await using var host = On(_disk);
        var module = await host.Create("m", Mlp());
        await module.CreateOptimizerAsync("", "SGD", new Dictionary<string, object?>(), [], null, default);
        await module.SetSnapshotPolicyAsync(new SnapshotPolicy(EverySteps: 1, KeepLast: Keep), null, default);
        var stepping = Task.Run(async () =>
        {
            for (var i = 0; i < Steps; i++)
            {
                await module.OptimizerStepAsync("", null, true, null, default);
            }
        });
        var saving = Enumerable.Range(0, 4).Select(_ => Task.Run(async () =>
        {
            while (!stepping.IsCompleted)
            {
                var saved = await host.Durable.SaveAsync("m", Keep, null, default);
                Assert.True(host.Durable.List("m")[^1].Facts.Step >= saved.Facts.Step, "an acknowledged step is not in the newest snapshot");
            }
        })).Append(stepping);
        await Task.WhenAll(saving);
        var steps = host.Durable.List("m").Select(snapshot => snapshot.Facts.Step).ToList();
        Assert.Equal(steps.Order(), steps);
    }

    [Fact]
    public async Task A_deletion_that_has_begun_is_not_taken_back_since_a_retry_would_find_nothing()
    {
        await using var host = On(_disk);
        await host.Create("m", Mlp());
        var saved = await host.Durable.SaveAsync("m", null, null, default);
        using var removal = new Blocked(_disk, $"rename /data/{saved.Id}");
        using var leaving = new CancellationTokenSource();
        var deleting = host.Durable.DeleteAsync(saved.Id, leaving.Token);
        await removal.Reached.WaitAsync(Limit);
        await leaving.CancelAsync();
        Assert.False(deleting.IsCompleted);
        removal.Release();
        await deleting.WaitAsync(Limit);
        Assert.Empty(host.Durable.List(""));
    }

    [Fact]
    public async Task A_deletion_that_fails_leaves_the_name_to_its_snapshots()
    {
        await using var host = On(_disk);
        await host.Create("m", Mlp());
        await host.Durable.SaveAsync("m", null, null, default);
        _disk.Inject = (_, operation) => operation.StartsWith("rename", StringComparison.Ordinal) ? Fault.Fail : null;
        await host.DeleteModuleAsync("m", null, default).Fails(EngineError.FailedPrecondition, "was not deleted");
        _disk.Inject = (_, _) => null;
        Assert.Equal("SNAPSHOTS_EXIST", (await host.Create("m", Mlp()).Fails(EngineError.AlreadyExists)).Reason);
        await host.Durable.RestoreAsync("m", "", null, default);
        await host.DeleteModuleAsync("m", null, default);
        Assert.Empty(host.Durable.List(""));
        await host.Create("m", Mlp());
    }

    [Fact]
    public async Task A_drain_saves_every_module_where_the_memory_is_enough_for_one_copy()
    {
        const int Modules = 6;
        var spec = Linear(1000, 500);
        await using (var host = On(_disk, options => options.MemoryBudgetBytes = 2_000_000L * (Modules + 1) + 200_000))
        {
            for (var i = 0; i < Modules; i++)
            {
                var module = await host.Create($"m{i}", spec);
                await module.SetSnapshotPolicyAsync(new SnapshotPolicy(OnDrain: true), null, default);
            }

            await host.DrainAsync(Limit);
        }

        await using var again = On(_disk.AfterKill());
        await again.Durable.RestoreAllAsync(default);
        Assert.Equal(Modules, again.ListModules("").Count);
    }

    [Fact]
    public async Task Snapshots_that_make_no_sense_keep_no_other_module_from_coming_back()
    {
        byte[] good;
        await using (var host = On(_disk))
        {
            var module = await host.Create("good", Mlp());
            await host.Durable.SaveAsync("good", null, null, default);
            using var image = await module.Capture();
            good = Encoding.UTF8.GetBytes(Images.Json(image.Facts));
        }

        var deep = Encoding.UTF8.GetBytes(Deep(100_000));
        using (var store = SnapshotStore.Open("/data", TimeProvider.System, NullLogger.Instance, _disk))
        {
            Save(store, "a.alone", ("module.json", good));
            Save(store, "b.deep", ("module.json", deep), ("weights.safetensors", File(("x", 4))), ("training.safetensors", File(("y", 4))));
            Save(store, "c.twice", ("module.json", good), ("weights.safetensors", File(("x", 4))), ("training.safetensors", File(("x", 4))));
            Save(store, "d.random", ("module.json", good), ("weights.safetensors", File(("x", 4))), ("training.safetensors", File((ImageKeys.Random, 4))));
            Save(store, "z.list", ("module.json", "[]"u8.ToArray()), ("weights.safetensors", File(("x", 4))), ("training.safetensors", File(("y", 4))));
        }

        await using var again = On(_disk);
        await again.Durable.RestoreAllAsync(default);
        Assert.Equal(["good"], again.ListModules("").Select(module => module.Name));
        Assert.Equal(["a.alone", "b.deep", "c.twice", "d.random", "z.list"], again.Durable.Progress.Failed.Keys.Order());
        Assert.False(again.IsRestoring);
        Assert.Equal(again.GetModule("good").Summary.Bytes, again.Ledger.UsedBytes);

        static void Save(SnapshotStore store, string module, params (string Name, byte[] Bytes)[] parts) =>
            store.Save(module, [.. parts.Select(part => new SnapshotPart(part.Name, stream => stream.Write(part.Bytes)))], new SnapshotFacts(1, 1, "request"), 3);

        static byte[] File(params (string Key, int Bytes)[] entries)
        {
            var layout = SafetensorsLayout.Of([.. entries.Select(entry => new StateEntryInfo(entry.Key, ElementType.UInt8, [entry.Bytes]))]);
            return [.. layout.Header.Span, .. new byte[entries.Sum(entry => entry.Bytes)]];
        }
    }

    [Theory]
    [InlineData(2040)]
    [InlineData(100_000)]
    public void Facts_as_deep_as_they_like_are_refused(int depth) =>
        Fails(() => FactsJson.Read(new MemoryStream(Encoding.UTF8.GetBytes(Deep(depth)))), EngineError.DataLoss);

    [Fact]
    public async Task The_deepest_module_comes_back()
    {
        await using var host = On(_disk, options => options.MaxSpecDepth = 256);
        var spec = Linear(1, 1);
        for (var i = 1; i < 256; i++)
        {
            spec = Sequential(spec);
        }

        await host.Create("m", spec);
        await host.Durable.SaveAsync("m", null, null, default);
        await host.Durable.RestoreAsync("again", (await host.Durable.SaveAsync("m", null, null, default)).Id, null, default);
    }

    // Children's children, as the text of a spec has them.
    private static string Deep(int depth) => new StringBuilder("""{ "format": 1, "spec": """)
        .Insert("""{ "format": 1, "spec": """.Length, """{ "type": "Sequential", "children": [{ "name": "", "spec": """, depth / 3).Append("""{ "type": "ReLU" }""").Append(string.Concat(Enumerable.Repeat("}]}", depth / 3))).Append('}').ToString();

    private static EngineHost On(IDisk disk, Action<EngineOptions>? configure = null, ILoggerFactory? loggers = null)
    {
        var options = new EngineOptions { Lanes = 2, IntraOpThreads = 1, MemoryBudgetBytes = 1L << 30, GraphBudgetBytes = 0, KeptTensorBudgetBytes = 0, Data = "/data" };
        configure?.Invoke(options);
        return new EngineHost(options, loggers, null, disk);
    }

    private static async Task Gone(EngineHost host, string module)
    {
        var started = TimeProvider.System.GetTimestamp();
        while (host.ListModules(module).Count > 0)
        {
            Assert.True(TimeProvider.System.GetElapsedTime(started) < Limit);
            await Task.Delay(1, TestContext.Current.CancellationToken);
        }
    }

    private sealed class ErrorLog : ILoggerFactory, ILogger
    {
        public ConcurrentQueue<string> Errors { get; } = new();

        public ILogger CreateLogger(string categoryName) => this;

        public void AddProvider(ILoggerProvider provider)
        {
        }

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Error;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (IsEnabled(logLevel))
            {
                Errors.Enqueue(formatter(state, exception));
            }
        }

        public void Dispose()
        {
        }
    }

    /// <summary>Holds the first operation of a kind up.</summary>
    private sealed class Blocked : IDisposable
    {
        private readonly TaskCompletionSource _reached = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly ManualResetEventSlim _go = new();

        public Blocked(FaultDisk disk, string operation) => disk.Inject = (_, next) =>
        {
            if (next.StartsWith(operation, StringComparison.Ordinal) && _reached.TrySetResult())
            {
                _go.Wait(Limit, CancellationToken.None);
            }

            return null;
        };

        public Task Reached => _reached.Task;

        public void Release() => _go.Set();

        public void Dispose() => _go.Set();
    }
}
