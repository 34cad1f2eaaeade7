using System.Text;
using System.Text.Json;
using Sconce.Engine.Execution;
using Sconce.Engine.Hooks;
using Sconce.Engine.Snapshots;
using Sconce.Engine.Tensors;
using Sconce.Engine.Weights;
using static Sconce.Engine.Tests.Execution.Testing;

namespace Sconce.Engine.Tests.Snapshots;

/// <summary>A snapshot holds the calls with an id whose effects it holds, all of them and no others.</summary>
public sealed class OnceCallTests
{
    private static readonly Dictionary<string, object?> NoArgs = [];

    private readonly FaultDisk _disk = new();

    [Fact]
    public async Task A_snapshot_holds_the_calls_before_it_with_their_answers()
    {
        await using (var host = On(_disk))
        {
            var module = await Called.Answered("create", () => host.Create("m", Mlp()));
            await Called.Answered("optimizer", () => module.CreateOptimizerAsync("", "SGD", NoArgs, [], null, default));
            await Called.Answered("step-1", () => StepAsync(module));
            await StepAsync(module);
            await Called.Answered("failed", () => module.TrainAsync(new ChangeTarget("nowhere", null), true, default).Fails(EngineError.NotFound));
            await host.Durable.SaveAsync("m", null, null, default);
            await Called.Answered("step-2", () => StepAsync(module));
        }

        var (again, calls) = await RestoredAsync(_disk);
        await using (again)
        {
            Assert.Equal(["create", "optimizer", "step-1", "failed"], calls.Select(call => call.Id));
            Assert.All(calls, call => Assert.Equal((call.Id + " print", "Text", $"answer to {call.Id}"), (call.Fingerprint, call.Answer, Encoding.UTF8.GetString(call.Content.Span))));
            Assert.Equal((2, 2L), (again.GetModule("m").Summary.Steps, again.GetModule("m").Summary.DurableSteps));
        }
    }

    [Fact]
    public async Task The_step_that_makes_a_snapshot_due_is_in_it_with_the_answer_that_it_gets_afterwards()
    {
        await using var host = On(_disk);
        var module = await TrainedAsync(host, every: 2);
        await Called.Answered("step-1", () => StepAsync(module));
        var due = new Called("step-2");
        await due.RunAsync(() => StepAsync(module));

        // Its turn is over, and the copy taken; the answer is not made yet.
        await Called.Answered("step-3", () => StepAsync(module));
        Assert.Empty(host.Durable.List("m"));
        due.Answer();
        await UntilAsync(() => host.Durable.List("m").Count > 0);
        Assert.Equal(2, host.Durable.List("m")[0].Facts.Step);
        Assert.Equal(["step-1", "step-2"], Ids(_disk, host.Durable.List("m")[0]));
    }

    [Fact]
    public async Task A_save_waits_for_the_answers_of_the_calls_before_it_until_it_is_cancelled()
    {
        await using var host = On(_disk);
        var module = await TrainedAsync(host);
        var step = new Called("step");
        await step.RunAsync(() => StepAsync(module));
        using var leaving = new CancellationTokenSource();
        var cancelled = host.Durable.SaveAsync("m", null, null, leaving.Token);
        var saving = host.Durable.SaveAsync("m", null, null, default);
        await leaving.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cancelled.WaitAsync(Limit));
        Assert.False(saving.IsCompleted);
        step.Answer();
        Assert.Equal(["step"], Ids(_disk, await saving.WaitAsync(Limit)));
    }

    [Fact]
    public async Task A_call_that_changed_nothing_and_may_be_made_anew_is_left_out()
    {
        await using var host = On(_disk);
        var module = await TrainedAsync(host);
        var refused = new Called("refused");
        await refused.RunAsync(() => module.TrainAsync(new ChangeTarget("nowhere", null), true, default).Fails(EngineError.NotFound));
        var saving = host.Durable.SaveAsync("m", null, null, default);
        refused.Refuse();
        Assert.Empty(Ids(_disk, await saving.WaitAsync(Limit)));
        Assert.False(refused.IsDone);
    }

    [Fact]
    public async Task There_is_no_snapshot_of_a_step_whose_caller_was_told_that_it_is_lost()
    {
        await using var host = On(_disk);
        var module = await TrainedAsync(host);
        var cut = new Called("cut");
        await cut.RunAsync(() => StepAsync(module));
        var saving = host.Durable.SaveAsync("m", null, null, default);
        cut.Refuse();
        Assert.Equal("STOPPED", (await saving.Fails(EngineError.Unavailable)).Reason);
        Assert.Empty(host.Durable.List("m"));
    }

    [Fact]
    public async Task There_is_none_of_a_step_whose_caller_was_told_so_while_it_ran()
    {
        await using var host = On(_disk);
        var module = await TrainedAsync(host);
        var cut = new Called("cut");
        var told = cut.RunAsync(() => module.Change(null, () =>
        {
            cut.Refuse();
            module.State.StepTaken();
            return true;
        }, default));
        await told.WaitAsync(Limit);
        await host.Durable.SaveAsync("m", null, null, default).Fails(EngineError.Unavailable);
        Assert.Empty(host.Durable.List("m"));
    }

    [Fact]
    public async Task What_no_snapshot_holds_is_not_noted()
    {
        var shared = Directory.CreateTempSubdirectory("sconce-shared-");
        try
        {
            await using var host = On(_disk, options => options.SharedMemoryDir = shared.FullName);
            var module = await TrainedAsync(host);
            using var session = host.Sessions.Open("");
            await Called.Answered("shared", () => module.ShareMemoryAsync(default, default));
            await Called.Answered("session", () => module.RegisterHookAsync(Hook("a", session.Id), null, null, default));
            await Called.Answered("hook", () => module.RegisterHookAsync(Hook("b", ""), null, null, default));
            await Called.Answered("read", () => module.DescribeAsync("", default));
            Assert.Equal(["hook"], Ids(_disk, await host.Durable.SaveAsync("m", null, null, default)));
        }
        finally
        {
            shared.Delete(recursive: true);
        }
    }

    [Fact]
    public async Task A_restored_module_has_its_calls_and_hands_them_on_to_its_own_snapshots()
    {
        await using (var host = On(_disk))
        {
            var module = await TrainedAsync(host);
            await Called.Answered("step", () => StepAsync(module));
            await Called.Answered("forgotten", () => StepAsync(module), out var forgotten);
            await host.Durable.SaveAsync("m", null, null, default);
            forgotten.Leave();
            Assert.Equal(["step"], Ids(_disk, await host.Durable.SaveAsync("m", null, null, default)));
        }

        var (again, calls) = await RestoredAsync(_disk);
        await using (again)
        {
            Assert.Equal(["step"], calls.Select(call => call.Id));
            await Called.Answered("next", () => StepAsync(again.GetModule("m")));
            var saved = await again.Durable.SaveAsync("m", null, null, default);
            Assert.Equal(["step", "next"], Ids(_disk, saved));

            // Of another name: what was called on this one says nothing of that one. The restore itself made it.
            await Called.Answered("twin", () => again.Durable.RestoreAsync("twin", saved.Id, null, default));
            Assert.Equal(["twin"], Ids(_disk, await again.Durable.SaveAsync("twin", null, null, default)));

            // In its own place: those of the snapshot, and the restore, which has undone what came after.
            await Called.Answered("undone", () => StepAsync(again.GetModule("m")));
            await Called.Answered("back", () => again.Durable.RestoreAsync("m", saved.Id, null, default));
            Assert.Equal(["step", "next", "back"], Ids(_disk, await again.Durable.SaveAsync("m", null, null, default)));
        }
    }

    [Fact]
    public async Task A_module_that_is_made_with_weights_or_copied_is_noted_when_it_is_there()
    {
        await using var host = On(_disk);
        var weights = new InitialState([new("weight", Floats([1, 1], 2)), new("bias", Floats([1], 3))], null, new LoadPlan());
        var made = new Called("made");
        await made.RunAsync(() => host.CreateModuleAsync("m", Linear(1, 1), null, ElementType.Float32, weights, default));
        Assert.True(made.IsDone);
        made.Answer();
        await Called.Answered("copied", () => host.CopyModuleAsync("m", "", "copy", null, default));
        Assert.Equal(["made"], Ids(_disk, await host.Durable.SaveAsync("m", null, null, default)));
        Assert.Equal(["copied"], Ids(_disk, await host.Durable.SaveAsync("copy", null, null, default)));

        // A load that fails leaves no module, and so nothing done.
        var refused = new Called("refused");
        var wrong = new InitialState([new("weight", Floats([1, 1], 2))], null, new LoadPlan());
        await refused.RunAsync(() => host.CreateModuleAsync("n", Linear(1, 1), null, ElementType.Float32, wrong, default).Fails(EngineError.InvalidArgument));
        Assert.False(refused.IsDone);
    }

    [Fact]
    public async Task Whatever_instant_a_snapshot_is_of_it_holds_as_many_steps_as_ids()
    {
        const int Steps = 200;
        await using var host = On(_disk);
        var module = await TrainedAsync(host, every: 1, keep: 1000);
        var steps = Enumerable.Range(0, Steps).Select(async i =>
        {
            var call = new Called($"step-{i}");
            await call.RunAsync(() => StepAsync(module));
            await Task.Yield();
            call.Answer();
        }).ToList();
        var saves = Enumerable.Range(0, 10).Select(_ => host.Durable.SaveAsync("m", 1000, null, default)).ToList();
        await Task.WhenAll([.. steps, .. saves]).WaitAsync(Limit);
        await host.DrainAsync(Limit);
        var snapshots = host.Durable.List("m");
        Assert.True(snapshots.Count > 10, $"{snapshots.Count} snapshots");
        Assert.All(snapshots, snapshot => Assert.Equal(snapshot.Facts.Step, Ids(_disk, snapshot).Distinct().Count()));
    }

    [Theory]
    [InlineData("", EngineError.DataLoss)]
    [InlineData("null", EngineError.DataLoss)]
    [InlineData("""{"format":1}""", EngineError.DataLoss)]
    [InlineData("""{"format":1,"requests":[null]}""", EngineError.DataLoss)]
    [InlineData("""{"format":1,"requests":[{"id":"a","fingerprint":"b","answer":"c"}]}""", EngineError.DataLoss)]
    [InlineData("""{"format":1,"requests":[{"id":"a","fingerprint":"b","answer":"c","content":"not base64"}]}""", EngineError.DataLoss)]
    [InlineData("""{"format":1,"requests":[]} and more""", EngineError.DataLoss)]
    [InlineData("""{"format":2,"calls":{}}""", EngineError.FailedPrecondition)]
    public void Text_that_is_none_of_requests_is_refused(string text, EngineError error) =>
        Fails(() => RequestsJson.Read(new MemoryStream(Encoding.UTF8.GetBytes(text))), error);

    [Fact]
    public async Task Requests_that_are_refused_set_the_snapshot_aside_and_the_one_before_it_is_used()
    {
        await using (var host = On(_disk))
        {
            var module = await TrainedAsync(host);
            await host.Durable.SaveAsync("m", null, null, default);
            await Called.Answered("step", () => StepAsync(module));
            await host.Durable.SaveAsync("m", null, null, default);
        }

        await using var again = On(_disk, recall: _ => throw new EngineException(EngineError.DataLoss, "SNAPSHOT_UNREADABLE", "no answer"));
        await again.Durable.RestoreAllAsync(default);
        Assert.Equal(0, again.GetModule("m").Summary.Steps);
        Assert.Contains("no answer", Assert.Single(again.Durable.Damaged).Why, StringComparison.Ordinal);
        Assert.Equal(again.GetModule("m").Summary.Bytes, again.Ledger.Used(MemoryUse.Modules));
    }

    private static EngineHost On(FaultDisk disk, Action<EngineOptions>? configure = null, Func<IReadOnlyList<RememberedCall>, IReadOnlyList<OnceCall>>? recall = null)
    {
        var options = new EngineOptions { Lanes = 2, IntraOpThreads = 1, MemoryBudgetBytes = 1L << 30, GraphBudgetBytes = 0, KeptTensorBudgetBytes = 0, Data = "/data" };
        configure?.Invoke(options);
        return new EngineHost(options, null, null, disk) { Recall = recall };
    }

    private static async Task<(EngineHost Host, IReadOnlyList<RememberedCall> Calls)> RestoredAsync(FaultDisk disk)
    {
        IReadOnlyList<RememberedCall> calls = [];
        var host = On(disk, recall: read =>
        {
            calls = read;
            return [.. read.Select(call => Called.Recalled(call.Id))];
        });
        await host.Durable.RestoreAllAsync(default);
        return (host, calls);
    }

    private static async Task<HostedModule> TrainedAsync(EngineHost host, int every = 0, int keep = 3)
    {
        var module = await host.Create("m", Mlp());
        await module.CreateOptimizerAsync("", "SGD", NoArgs, [], null, default);
        await module.SetSnapshotPolicyAsync(new SnapshotPolicy(every, KeepLast: keep), null, default);
        return module;
    }

    private static Task<OptimizerStepOutcome> StepAsync(HostedModule module) => module.OptimizerStepAsync("", null, true, null, default).WaitAsync(Limit);

    private static HookSpec Hook(string id, string session) => new() { Id = id, Session = session, Site = HookSite.Forward, Actions = [new CaptureAction(HookDestination.Default)] };

    private static List<string> Ids(FaultDisk disk, SnapshotInfo snapshot)
    {
        var text = disk.Files($"/data/{snapshot.Id}").SingleOrDefault(file => file.Path.EndsWith("requests.json", StringComparison.Ordinal)).Bytes;
        return text is null ? [] : [.. JsonDocument.Parse(text).RootElement.GetProperty("requests").EnumerateArray().Select(entry => entry.GetProperty("id").GetString()!)];
    }

    private static async Task UntilAsync(Func<bool> condition)
    {
        var started = TimeProvider.System.GetTimestamp();
        while (!condition())
        {
            Assert.True(TimeProvider.System.GetElapsedTime(started) < Limit);
            await Task.Delay(1, TestContext.Current.CancellationToken);
        }
    }

    /// <summary>A call whose answer is made when the test says so.</summary>
    private sealed class Called(string id) : OnceCall
    {
        private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private volatile bool _isRemembered;

        protected internal override Task Ended => _ended.Task;

        protected internal override bool IsRemembered => _isRemembered;

        /// <summary>Makes a call and answers it.</summary>
        public static Task<T> Answered<T>(string id, Func<Task<T>> work) => Answered(id, work, out _);

        public static Task<T> Answered<T>(string id, Func<Task<T>> work, out Called call)
        {
            var made = call = new Called(id);
            return RunAsync();

            async Task<T> RunAsync()
            {
                var result = await made.RunAsync(work);
                made.Answer();
                return result;
            }
        }

        public static Called Recalled(string id)
        {
            var call = new Called(id);
            call.Answer();
            return call;
        }

        public void Answer()
        {
            _isRemembered = true;
            _ended.SetResult();
        }

        /// <summary>It ends without an answer that is remembered.</summary>
        public void Refuse()
        {
            _ended.SetResult();
            Abandon();
        }

        public void Leave() => Forget();

        protected internal override RememberedCall Remember() => new(id, id + " print", "Text", Encoding.UTF8.GetBytes($"answer to {id}"));
    }
}
