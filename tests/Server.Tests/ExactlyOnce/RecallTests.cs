using System.Text;
using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Server.ExactlyOnce;
using Sconce.V1;

namespace Sconce.Server.Tests.ExactlyOnce;

/// <summary>Answers that come back out of a snapshot.</summary>
public sealed class RecallTests
{
    private readonly SconceServerOptions _options = new();
    private int _runs;

    [Fact]
    public async Task A_recalled_answer_is_given_to_a_repeat_and_to_no_other_call()
    {
        var store = Store();
        var recalled = store.Recall([Call("a", new TrainResponse { Module = new Module { Name = "m", Generation = 7 } })]);

        Assert.Single(recalled);
        Assert.Equal(7UL, (await RunAsync(store, "a")).Module.Generation);
        var other = await Assert.ThrowsAsync<EngineException>(() => RunAsync(store, "a", module: "other"));
        Assert.Equal(("REQUEST_ID_REUSED", 0), (other.Reason, _runs));
    }

    [Fact]
    public async Task A_recalled_error_is_the_first_in_full()
    {
        var first = new EngineException(EngineError.FailedPrecondition, "SOME_REASON", "what was given")
        {
            Fields = [new("inputs[0].shape[1]", "is 3")],
            Resource = new("graph", "g-1"),
            Quota = new("memory_budget_bytes", 1, 2, 3),
            RetryAfter = TimeSpan.FromSeconds(1.5),
        };
        var store = Store();
        store.Recall([Call("a", first)]);

        var error = await Assert.ThrowsAsync<EngineException>(() => RunAsync(store, "a"));

        Assert.Equal((first.Error, first.Reason, first.Message), (error.Error, error.Reason, error.Message));
        Assert.Equal((first.Resource, first.Quota, first.RetryAfter), (error.Resource, error.Quota, error.RetryAfter));
        Assert.Equal(first.Fields, error.Fields);
        store.Recall([Call("b", new EngineException(EngineError.NotFound, "MODULE_NOT_FOUND", "none"))]);
        Assert.Null((await Assert.ThrowsAsync<EngineException>(() => RunAsync(store, "b"))).Quota);
    }

    [Fact]
    public async Task A_bug_stays_one()
    {
        var store = Store();
        store.Recall([Call("a", new InvalidOperationException("a bug"))]);

        Assert.Equal(EngineError.Internal, (await Assert.ThrowsAsync<EngineException>(() => RunAsync(store, "a"))).Error);
    }

    [Fact]
    public async Task What_is_known_of_an_id_stays()
    {
        var store = Store();
        var known = await RunAsync(store, "same");
        await RunAsync(store, "other", module: "n");
        var running = new TaskCompletionSource<TrainResponse>();
        var runs = RunAsync(store, "running", work: () => running.Task);

        var recalled = store.Recall([Call("same", new TrainResponse()), Call("other", new TrainResponse()), Call("running", new TrainResponse())]);

        // Only the first is of the snapshot's call, and has ended.
        Assert.Single(recalled);
        Assert.Same(known, await RunAsync(store, "same"));
        running.SetResult(new TrainResponse());
        await runs;
        Assert.Equal(3, _runs);
    }

    [Fact]
    public void No_more_is_recalled_than_may_be_remembered()
    {
        _options.RequestIdCapacity = 3;
        var store = Store();
        store.Recall([.. Enumerable.Range(0, 10).Select(i => Call($"id{i}", new TrainResponse()))]);
        Assert.Equal(3, store.Count);
        Assert.NotNull(store.Find("id9"));
    }

    [Theory]
    [InlineData("", "0123456789abcdef0123456789abcdef", "sconce.v1.TrainResponse", "", EngineError.DataLoss)]
    [InlineData("tab\t", "0123456789abcdef0123456789abcdef", "sconce.v1.TrainResponse", "", EngineError.DataLoss)]
    [InlineData("a", "0123456789abcdef0123456789abcde", "sconce.v1.TrainResponse", "", EngineError.DataLoss)]
    [InlineData("a", "0123456789abcdef0123456789ABCDEF", "sconce.v1.TrainResponse", "", EngineError.DataLoss)]
    [InlineData("a", "0123456789abcdef0123456789abcdef", "sconce.v1.TrainResponse", "\u000A\u0009", EngineError.DataLoss)]
    [InlineData("a", "0123456789abcdef0123456789abcdef", "error", "{}", EngineError.DataLoss)]
    [InlineData("a", "0123456789abcdef0123456789abcdef", "error", "null", EngineError.DataLoss)]
    [InlineData("a", "0123456789abcdef0123456789abcdef", "sconce.v1.TrainRequest", "", EngineError.FailedPrecondition)]
    [InlineData("a", "0123456789abcdef0123456789abcdef", "sconce.v9.Unheard", "", EngineError.FailedPrecondition)]
    public void Where_one_is_no_answer_none_is_recalled(string id, string fingerprint, string answer, string content, EngineError error)
    {
        var store = Store();

        Assert.Equal(error, Assert.Throws<EngineException>(() => store.Recall([Call("good", new TrainResponse()), new(id, fingerprint, answer, Encoding.UTF8.GetBytes(content))])).Error);

        Assert.Equal(0, store.Count);
    }

    [Fact]
    public async Task A_call_that_is_done_and_cannot_be_answered_is_not_done_again()
    {
        await using var host = new EngineHost(new() { GraphBudgetBytes = 0, KeptTensorBudgetBytes = 0, MemoryBudgetBytes = 1 << 26 });
        var module = await host.CreateModuleAsync("m", new("Identity"), null, default, default);
        var store = Store();
        async Task<TrainResponse> Work()
        {
            await module.TrainAsync(default, false, default);
            throw new EngineException(EngineError.ResourceExhausted, "OUT_OF_MEMORY", "no memory for the answer");
        }

        Assert.Equal(EngineError.ResourceExhausted, (await Assert.ThrowsAsync<EngineException>(() => RunAsync(store, "a", work: Work))).Error);
        var again = await Assert.ThrowsAsync<EngineException>(() => RunAsync(store, "a", work: Work));
        Assert.Equal((EngineError.FailedPrecondition, "ANSWER_NOT_KEPT", 1), (again.Error, again.Reason, _runs));
        Assert.Contains("no memory for the answer", again.Message, StringComparison.Ordinal);
    }

    private static RememberedCall Call(string id, TrainResponse response) => RememberedAnswer.Write(id, Print(id), new RequestOutcome(response, null));

    private static RememberedCall Call(string id, Exception error) => RememberedAnswer.Write(id, Print(id), new RequestOutcome(null, error));

    private static Fingerprint Print(string id) => Fingerprint.Of(new TrainRequest { Module = "m", RequestId = id });

    private RequestIdStore Store() => new(_options, TimeProvider.System);

    private Task<TrainResponse> RunAsync(RequestIdStore store, string id, string module = "m", Func<Task<TrainResponse>>? work = null) => store.RunAsync(
        new TrainRequest { Module = module, RequestId = id }, id,
        (_, _) =>
        {
            Interlocked.Increment(ref _runs);
            return work?.Invoke() ?? Task.FromResult(new TrainResponse());
        },
        default);
}
