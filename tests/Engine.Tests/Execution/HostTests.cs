using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using static Sconce.Engine.Tests.Execution.Testing;

namespace Sconce.Engine.Tests.Execution;

public sealed class HostTests
{
    [Fact]
    public async Task CreateModule_makes_a_module_in_training_mode_and_lists_it()
    {
        await using var host = Host();
        var module = await host.Create("net-1", Mlp());
        Assert.Same(module, host.GetModule("net-1"));
        Assert.Same(module, Assert.Single(host.ListModules("net")));
        Assert.Empty(host.ListModules("other"));
        var summary = module.Summary;
        Assert.Equal(("net-1", "Sequential", 1UL, true), (summary.Name, summary.Type, summary.Generation, summary.Training));
        Assert.Equal((4 * 8) + 8 + (8 * 2) + 2, summary.Parameters);
        Assert.Equal(summary.Parameters * 4, summary.Bytes);
        Assert.Equal(summary.Bytes, host.Ledger.UsedBytes);
        Assert.Equal(1, host.Describe().Modules);
    }

    [Theory]
    [InlineData("")]
    [InlineData("a b")]
    [InlineData(".hidden")]
    [InlineData("name\n")]
    [InlineData("../etc")]
    public async Task Module_names_that_do_not_match_are_refused(string name)
    {
        await using var host = Host();
        var error = await host.Create(name, Mlp()).Fails(EngineError.InvalidArgument, "it must match");
        Assert.Equal("module", Assert.Single(error.Fields).Field);
        Fails(() => host.GetModule(name), EngineError.InvalidArgument, "it must match");
    }

    [Fact]
    public async Task Unknown_and_taken_names_are_told()
    {
        await using var host = Host();
        await host.Create("m", Mlp());
        await host.Create("m", Mlp()).Fails(EngineError.AlreadyExists, "\"m\"");
        var error = Fails(() => host.GetModule("other"), EngineError.NotFound, "ListModules");
        Assert.Equal(new ResourceRef("module", "other"), error.Resource);
    }

    [Fact]
    public async Task A_spec_that_does_not_fit_is_refused_before_it_is_built_and_its_name_stays_free()
    {
        await using var host = Host(options => options.MemoryBudgetBytes = 1_000_000);
        var error = await host.Create("big", Linear(100_000, 100_000)).Fails(EngineError.ResourceExhausted, "\"big\"", "memory_budget_bytes");
        Assert.Equal(new QuotaRef("memory_budget_bytes", 40_000_400_000, 0, 1_000_000), error.Quota);
        Assert.Equal(0, host.Ledger.UsedBytes);
        await host.Create("big", Mlp());
    }

    [Fact]
    public async Task A_bad_spec_leaves_nothing_behind()
    {
        await using var host = Host();
        await host.Create("m", Sequential(Linear(2, 2), Of("Linear"))).Fails(EngineError.InvalidArgument, "spec.children[1]");
        await host.Create("m", Of("Lineer")).Fails(EngineError.Unimplemented, "Linear");
        Assert.Equal(0, host.Ledger.UsedBytes);
        Assert.Empty(host.ListModules(""));
    }

    [Fact]
    public async Task Modules_beyond_the_limit_are_refused()
    {
        await using var host = Host(options => options.MaxModules = 1);
        await host.Create("a", Mlp());
        await host.Create("b", Mlp()).Fails(EngineError.ResourceExhausted, "max_modules");
        await host.DeleteModuleAsync("a", null, default);
        await host.Create("b", Mlp());
    }

    [Fact]
    public async Task DeleteModule_runs_after_the_calls_before_it_and_frees_everything()
    {
        await using var host = Host();
        var module = await host.Create("m", Mlp());
        await module.CreateOptimizerAsync("", "Adam", new Dictionary<string, object?>(), [], null, default);
        (await module.ForwardAsync(Record(Filled(1, 2, 4)), default)).Dispose();
        var before = Enumerable.Range(0, 20).Select(_ => module.ForwardAsync(Call(Filled(1, 2, 4)), default)).ToList();
        var delete = host.DeleteModuleAsync("m", null, default);
        var after = module.ForwardAsync(Call(Filled(1, 2, 4)), default);

        foreach (var outcome in await Task.WhenAll(before).WaitAsync(Limit))
        {
            outcome.Dispose();
        }

        await delete.WaitAsync(Limit);
        await after.Fails(EngineError.NotFound, "no module \"m\"");
        Fails(() => host.GetModule("m"), EngineError.NotFound);
        Assert.Equal(0, host.Ledger.UsedBytes);
    }

    [Fact]
    public async Task A_stale_generation_is_aborted_and_changes_nothing()
    {
        await using var host = Host();
        var module = await host.Create("m", Mlp());
        await module.ConvertAsync(new ChangeTarget("", 1), new ConversionPlan(ConversionKind.Double), default);
        foreach (var call in new Func<Task>[]
        {
            () => module.ConvertAsync(new ChangeTarget("", 1), new ConversionPlan(ConversionKind.Float), default),
            () => module.TrainAsync(new ChangeTarget("", 1), false, default),
            () => host.DeleteModuleAsync("m", 1, default),
            () => host.CopyModuleAsync("m", "", "copy", 1, default),
            () => module.ForwardAsync(new ForwardCall { Inputs = new CallInputs([Filled(1, 1, 4)]), IfGeneration = 1 }, default),
        })
        {
            var error = await call().Fails(EngineError.Aborted, "if_generation is 1", "generation 2");
            Assert.Equal("STALE_GENERATION", error.Reason);
        }

        Assert.Equal(2UL, module.Summary.Generation);
        Assert.True(module.Summary.Training);
    }

    [Fact]
    public async Task CopyModule_is_equal_and_independent()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Mlp());
        var input = Floats([1, 4], 1, -2, 3, -4);
        var copy = await host.CopyModuleAsync("m", "", "c", null, default);
        var part = await host.CopyModuleAsync("m", "0", "part", null, default);
        var original = await module.Forward(input);
        var before = await copy.Forward(input);
        Assert.Equal(original, before);
        Assert.Equal("Linear", part.Summary.Type);
        Assert.False(copy.Summary.Training);

        await module.ApplyAsync(default, new ApplyPlan("zeros_"), null, default);

        original = await module.Forward(input);
        Assert.Equal([0f, 0f], original);
        var after = await copy.Forward(input);
        Assert.Equal(before, after);
        await host.CopyModuleAsync("m", "", "c", null, default).Fails(EngineError.AlreadyExists);
        await host.CopyModuleAsync("m", "7", "d", null, default).Fails(EngineError.NotFound, "submodule");
        await host.CopyModuleAsync("m", "", "d", null, default);
    }

    [Fact]
    public async Task Drain_finishes_what_runs_and_refuses_what_waits()
    {
        var host = Host(options => options.Lanes = 1);
        await using var _ = host;
        var module = await host.Create("m", Mlp());
        using var hold = new ManualResetEventSlim();
        using var started = new ManualResetEventSlim();
        var running = module.Change(null, () => { started.Set(); return hold.Wait(Limit); }, default);
        Assert.True(started.Wait(Limit));
        var waiting = module.ForwardAsync(Call(Filled(1, 1, 4)), default);
        var letIn = host.Create("other", Mlp());

        var drain = host.DrainAsync(Limit);
        var error = await waiting.Fails(EngineError.Unavailable, "shutting down");
        Assert.Equal("DRAINING", error.Reason);
        Assert.NotNull(error.RetryAfter);
        await module.ForwardAsync(Call(Filled(1, 1, 4)), default).Fails(EngineError.Unavailable);
        // Its gate had let it in, but the only lane is taken.
        await letIn.Fails(EngineError.Unavailable, "shutting down");
        Assert.False(drain.IsCompleted);
        hold.Set();

        Assert.True(await running.WaitAsync(Limit));
        await drain.WaitAsync(Limit);
        Assert.False(host.IsBusy);
    }

    [Fact]
    public async Task Drain_gives_up_at_its_limit_tells_the_callers_and_frees_nothing_that_is_in_use()
    {
        var host = Host();
        var module = await host.Create("m", Mlp());
        using var hold = new ManualResetEventSlim();
        using var started = new ManualResetEventSlim();
        var running = module.Change(null, () => { started.Set(); return hold.Wait(Limit); }, default);
        Assert.True(started.Wait(Limit));
        await host.DrainAsync(TimeSpan.FromMilliseconds(50)).WaitAsync(Limit);
        var error = await running.Fails(EngineError.Unavailable, "stopped before the call had ended");
        Assert.Equal("STOPPED", error.Reason);
        Assert.NotNull(error.RetryAfter);

        await host.DisposeAsync().AsTask().WaitAsync(Limit);
        Assert.True(host.IsBusy);
        Assert.True(host.Ledger.UsedBytes > 0, "the module belongs to the call that runs");
        hold.Set();
    }

    [Fact]
    public async Task A_full_queue_refuses_at_once_with_a_time_to_retry()
    {
        await using var host = Host(options => { options.MaxQueue = 3; options.MaxQueuePerModule = 2; });
        var module = await host.Create("m", Mlp());
        var other = await host.Create("o", Mlp());
        using var hold = new ManualResetEventSlim();
        using var started = new CountdownEvent(2);
        bool Hold() { started.Signal(); return hold.Wait(Limit); }
        var running = new[] { module.Change(null, Hold, default), other.Change(null, Hold, default) };
        Assert.True(started.Wait(Limit));
        var queued = new[] { module, module, other }.Select(m => m.ForwardAsync(Call(Filled(1, 1, 4)), default)).ToList();

        var perModule = await module.ForwardAsync(Call(Filled(1, 1, 4)), default).Fails(EngineError.ResourceExhausted, "max_queue_per_module");
        var whole = await other.ForwardAsync(Call(Filled(1, 1, 4)), default).Fails(EngineError.ResourceExhausted, "raise max_queue");
        hold.Set();

        Assert.All([perModule, whole], error => Assert.True(error is { Reason: "QUEUE_FULL", RetryAfter: not null }));
        Assert.All(await Task.WhenAll(running).WaitAsync(Limit), Assert.True);
        foreach (var outcome in await Task.WhenAll(queued).WaitAsync(Limit))
        {
            outcome.Dispose();
        }

        Assert.Equal(0, host.Ledger.Used(MemoryUse.Inputs));
    }

    [Fact]
    public async Task Describe_tells_versions_memory_and_limits()
    {
        await using var host = Host();
        var description = host.Describe();
        Assert.Equal("cpu", description.Device);
        Assert.Matches(@"^\d+\.\d+\.\d+$", description.LibtorchVersion);
        Assert.Matches(@"^\d+\.\d+\.\d+$", description.TorchSharpVersion);
        Assert.NotEmpty(description.DeviceName);
        Assert.Equal(["cpu"], description.Devices);
        Assert.Equal("300s", description.Limits["graph_ttl"]);
        Assert.Equal((1L << 30).ToString(System.Globalization.CultureInfo.InvariantCulture), description.Limits["memory_budget_bytes"]);
        Assert.True(description.Memory.ResidentBytes > 1 << 20);
    }

    [Fact]
    public void Options_that_make_no_sense_are_named()
    {
        var options = new EngineOptions { Lanes = 0, MaxQueue = -1, GraphTtl = TimeSpan.Zero, Device = "cuda:9", KeptTensorTtl = TimeSpan.FromDays(9) };
        var errors = options.Validate();
        Assert.Contains("Lanes is 0; it must be >= 1", errors);
        Assert.Contains("MaxQueue is -1; it must be >= 1", errors);
        Assert.Contains("GraphTtl is 0s; it must be > 0s", errors);
        Assert.Contains(errors, error => error.StartsWith("Device is \"cuda:9\"", StringComparison.Ordinal));
        Assert.Contains(errors, error => error.StartsWith("KeptTensorTtl is 777600s; it must be <= MaxTtl, which is 86400s", StringComparison.Ordinal));
        Assert.Throws<ArgumentException>(() => new EngineHost(options));
        Assert.Empty(new EngineOptions().Validate());
    }

    [Theory]
    [InlineData("a", "a/", false)]
    [InlineData("a", "a/b", false)]
    [InlineData("a/b", "a", false)]
    [InlineData("a", "ab", true)]
    public void What_callers_write_is_kept_apart_from_snapshots(string data, string export, bool isValid)
    {
        var root = Directory.CreateTempSubdirectory("sconce-").FullName;
        try
        {
            var options = new EngineOptions { Data = Path.Combine(root, data), ExportDir = Path.Combine(root, export) };
            Directory.CreateDirectory(options.ExportDir);
            Assert.Equal(isValid, options.Validate().All(error => !error.Contains("in the other", StringComparison.Ordinal)));
        }
        finally
        {
            Directory.Delete(root, recursive: true);
        }
    }
}
