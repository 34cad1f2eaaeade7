using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Sconce.Engine;
using Sconce.Server.ExactlyOnce;
using Sconce.V1;
using Value = Google.Protobuf.WellKnownTypes.Value;

namespace Sconce.Server.Tests.ExactlyOnce;

public sealed class RequestIdStoreTests
{
    private readonly ManualTime _time = new();
    private readonly SconceServerOptions _options = new();
    private int _runs;

    [Fact]
    public async Task RunAsync_without_id_runs_every_time()
    {
        var store = Store();

        await RunAsync(store, "");
        await RunAsync(store, "");

        Assert.Equal((2, 0), (_runs, store.Count));
    }

    [Fact]
    public async Task RunAsync_repeated_returns_the_first_answer()
    {
        var store = Store();

        var first = await RunAsync(store, "a");
        var second = await RunAsync(store, "a");

        Assert.Same(first, second);
        Assert.Equal(1, _runs);
    }

    [Fact]
    public async Task RunAsync_while_the_first_runs_joins_it()
    {
        var store = Store();
        var gate = new TaskCompletionSource<TrainResponse>();

        var first = RunAsync(store, "a", work: () => gate.Task);
        var second = RunAsync(store, "a");
        Assert.False(second.IsCompleted);
        gate.SetResult(new TrainResponse());

        Assert.Same(await first, await second.WaitAsync(TimeSpan.FromSeconds(10)));
        Assert.Equal(1, _runs);
    }

    [Fact]
    public async Task RunAsync_joiner_leaves_alone()
    {
        var store = Store();
        var gate = new TaskCompletionSource<TrainResponse>();
        using var leaving = new CancellationTokenSource();

        var first = RunAsync(store, "a", work: () => gate.Task);
        var second = RunAsync(store, "a", cancellationToken: leaving.Token);
        await leaving.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => second);
        gate.SetResult(new TrainResponse());
        Assert.NotNull(await first);
    }

    [Fact]
    public async Task RunAsync_first_was_cancelled_in_the_queue_joiner_runs_it()
    {
        var store = Store();
        var gate = new TaskCompletionSource<TrainResponse>();

        var first = RunAsync(store, "a", work: () => gate.Task);
        var second = RunAsync(store, "a");
        gate.SetCanceled();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => first);
        Assert.NotNull(await second.WaitAsync(TimeSpan.FromSeconds(10)));
        Assert.Equal(2, _runs);
    }

    [Fact]
    public async Task RunAsync_another_request_with_the_id_is_refused()
    {
        var store = Store();
        await RunAsync(store, "a");

        var error = await Assert.ThrowsAsync<EngineException>(() => RunAsync(store, "a", module: "other"));

        Assert.Equal((EngineError.InvalidArgument, "REQUEST_ID_REUSED", "request_id"), (error.Error, error.Reason, error.Fields[0].Field));
        Assert.Equal(1, _runs);
    }

    [Fact]
    public async Task RunAsync_another_method_with_the_same_bytes_is_refused()
    {
        var store = Store();
        await RunAsync(store, "a");

        // ZeroGradRequest has the same fields under the same numbers as TrainRequest.
        var other = new ZeroGradRequest { Module = "m", RequestId = "a" };

        await Assert.ThrowsAsync<EngineException>(() => store.RunAsync(other, "a", (_, _) => Task.FromResult(new ZeroGradResponse()), default));
    }

    [Fact]
    public async Task RunAsync_other_bytes_beside_the_request_are_another_call()
    {
        var store = Store();
        var request = new TrainRequest { Module = "m", RequestId = "a" };
        await store.RunAsync(request, "a", (_, _) => Task.FromResult(new TrainResponse()), default, beside: 1);

        await Assert.ThrowsAsync<EngineException>(() => store.RunAsync(request, "a", (_, _) => Task.FromResult(new TrainResponse()), default, beside: 2));
    }

    [Fact]
    public async Task RunAsync_maps_in_another_order_are_the_same_call()
    {
        // protobuf fixes no order of a map's entries, and some languages send another one each time.
        var store = Store();
        var first = Request("in_features", "out_features");
        var second = Request("out_features", "in_features");
        Assert.NotEqual(first.ToByteString(), second.ToByteString());

        var answer = await store.RunAsync(first, "a", (_, _) => Task.FromResult(new CreateModuleResponse()), default);

        Assert.Same(answer, await store.RunAsync(second, "a", (_, _) => Task.FromResult(new CreateModuleResponse()), default));

        static CreateModuleRequest Request(params string[] names)
        {
            var request = new CreateModuleRequest { RequestId = "a", Spec = new ModuleSpec { Args = new Struct() } };
            foreach (var name in names)
            {
                request.Spec.Args.Fields.Add(name, Value.ForNumber(name.Length));
            }

            return request;
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(2_500_000)]
    [InlineData(4_999_999)]
    public async Task RunAsync_one_byte_of_a_large_tensor_makes_another_call(int place)
    {
        var store = Store();
        var bytes = new byte[5_000_000];
        await store.RunAsync(Request(), "a", (_, _) => Task.FromResult(new PutTensorResponse()), default);
        await store.RunAsync(Request(), "a", (_, _) => Task.FromResult(new PutTensorResponse()), default);
        bytes[place] = 1;

        await Assert.ThrowsAsync<EngineException>(() => store.RunAsync(Request(), "a", (_, _) => Task.FromResult(new PutTensorResponse()), default));

        PutTensorRequest Request() => new() { RequestId = "a", Tensor = new Tensor { Data = ByteString.CopyFrom(bytes) } };
    }

    [Theory]
    [InlineData(EngineError.InvalidArgument, true)]
    [InlineData(EngineError.NotFound, true)]
    [InlineData(EngineError.Aborted, true)]
    [InlineData(EngineError.FailedPrecondition, true)]
    [InlineData(EngineError.AlreadyExists, true)]
    [InlineData(EngineError.Internal, true)]
    [InlineData(EngineError.ResourceExhausted, false)]
    [InlineData(EngineError.Unavailable, false)]
    [InlineData(EngineError.DeadlineExceeded, false)]
    [InlineData(EngineError.DataLoss, false)]
    public async Task RunAsync_failed_is_remembered_unless_a_retry_could_succeed(EngineError failure, bool remembered)
    {
        var store = Store();
        await Assert.ThrowsAsync<EngineException>(() => RunAsync(store, "a", work: () => throw new EngineException(failure, "R", "why") { Resource = new ResourceRef("module", "m") }));

        if (remembered)
        {
            var again = await Assert.ThrowsAsync<EngineException>(() => RunAsync(store, "a"));
            Assert.Equal((failure, "R", "why", "m"), (again.Error, again.Reason, again.Message, again.Resource?.Name));
        }
        else
        {
            Assert.NotNull(await RunAsync(store, "a"));
        }

        Assert.Equal(remembered ? 1 : 2, _runs);
    }

    [Fact]
    public async Task RunAsync_after_the_retention_runs_again()
    {
        var store = Store();
        await RunAsync(store, "a");

        _time.Advance(_options.RequestIdRetention - TimeSpan.FromSeconds(1));
        await RunAsync(store, "a");
        Assert.Equal(1, _runs);
        _time.Advance(TimeSpan.FromSeconds(2));
        await RunAsync(store, "a");

        Assert.Equal((2, 1), (_runs, store.Count));
    }

    [Fact]
    public async Task RunAsync_beyond_the_capacity_forgets_the_oldest()
    {
        _options.RequestIdCapacity = 2;
        var store = Store();
        foreach (var id in new[] { "a", "b", "c" })
        {
            await RunAsync(store, id);
        }

        await RunAsync(store, "c");
        await RunAsync(store, "b");
        Assert.Equal(3, _runs);
        await RunAsync(store, "a");

        Assert.Equal((4, 2), (_runs, store.Count));
    }

    [Fact]
    public async Task RunAsync_beyond_the_bytes_forgets_the_oldest()
    {
        _options.RequestIdMaxBytes = 16_000;
        var store = Store();
        for (var i = 0; i < 20; i++)
        {
            await RunAsync(store, $"id{i}", work: () => Task.FromResult(Answer(3000)));
        }

        Assert.InRange(store.Count, 2, 5);
    }

    [Fact]
    public async Task RunAsync_answer_too_large_to_keep_is_never_run_twice()
    {
        _options.RequestIdMaxBytes = 4000;
        var store = Store();
        Assert.Equal(3000, (await RunAsync(store, "a", work: () => Task.FromResult(Answer(3000)))).Module.Name.Length);

        var error = await Assert.ThrowsAsync<EngineException>(() => RunAsync(store, "a"));

        Assert.Equal((EngineError.FailedPrecondition, "ANSWER_NOT_KEPT", 1), (error.Error, error.Reason, _runs));
    }

    [Theory]
    [InlineData("tab\tinside")]
    [InlineData("naïve")]
    public async Task RunAsync_id_of_other_characters_is_refused(string id) =>
        Assert.Equal("request_id", (await Assert.ThrowsAsync<EngineException>(() => RunAsync(Store(), id))).Fields[0].Field);

    [Fact]
    public async Task RunAsync_id_too_long_is_refused()
    {
        var error = await Assert.ThrowsAsync<EngineException>(() => RunAsync(Store(), new string('a', 129)));

        Assert.Contains("129 characters; at most 128", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task RunAsync_many_callers_of_one_id_run_once()
    {
        var store = Store();

        var answers = await Task.WhenAll(Enumerable.Range(0, 64).Select(_ => Task.Run(() => RunAsync(store, "a", work: async () =>
        {
            await Task.Delay(5);
            return new TrainResponse();
        }))));

        Assert.Equal(1, _runs);
        Assert.All(answers, answer => Assert.Same(answers[0], answer));
    }

    private static TrainResponse Answer(int size) => new() { Module = new Module { Name = new string('x', size) } };

    private RequestIdStore Store() => new(_options, _time);

    private Task<TrainResponse> RunAsync(
        RequestIdStore store, string id, string module = "m", Func<Task<TrainResponse>>? work = null, CancellationToken cancellationToken = default) =>
        store.RunAsync(
            new TrainRequest { Module = module, RequestId = id }, id,
            (_, _) =>
            {
                Interlocked.Increment(ref _runs);
                return work?.Invoke() ?? Task.FromResult(new TrainResponse());
            },
            cancellationToken);

    private sealed class ManualTime : TimeProvider
    {
        private long _now;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => _now;

        public void Advance(TimeSpan by) => _now += by.Ticks;
    }
}
