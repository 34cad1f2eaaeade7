using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;

namespace Sconce.Server.Tests.Wire;

/// <summary>LoadOptimizerState: uploads that are broken or do not fit are refused where they stand in the request, and nothing of them is kept.</summary>
public sealed class OptimizerUploadTests : IAsyncLifetime
{
    private const long Budget = 64 << 20;

    // Linear(2, 1) with Adam: weight [1, 2] is 8 bytes, bias [1] is 4.
    private static readonly V1.StateEntry[] Entries = [Entry("0.exp_avg", 1, 2), Entry("0.exp_avg_sq", 1, 2), Entry("1.exp_avg", 1), Entry("1.exp_avg_sq", 1)];

    private static readonly Dictionary<string, (StatusCode Code, string? Field, V1.LoadOptimizerStateRequest[] Parts)> Broken = new()
    {
        ["empty stream"] = (StatusCode.InvalidArgument, "header", []),
        ["no header"] = (StatusCode.InvalidArgument, "header", [Chunk(0, 0, 8)]),
        ["no state"] = (StatusCode.InvalidArgument, "header.state", [new() { Header = new() { Module = "m" } }, End()]),
        ["two headers"] = (StatusCode.InvalidArgument, "part", [Header(), Header()]),
        ["gap"] = (StatusCode.InvalidArgument, "chunk", [Header(), Chunk(0, 4, 4)]),
        ["repeat"] = (StatusCode.InvalidArgument, "chunk", [Header(), Chunk(0, 0, 4), Chunk(0, 0, 4)]),
        ["excess"] = (StatusCode.InvalidArgument, "chunk.data", [Header(), Chunk(0, 0, 12)]),
        ["empty chunk"] = (StatusCode.InvalidArgument, "chunk.data", [Header(), Chunk(0, 0, 0)]),
        ["end too early"] = (StatusCode.InvalidArgument, "end", [Header(), Chunk(0, 0, 8), End()]),
        ["no end"] = (StatusCode.InvalidArgument, "end", [Header(), .. All()]),
        ["data after the end"] = (StatusCode.InvalidArgument, "end", [Header(), .. All(), End(), Chunk(0, 0, 8)]),
        ["digest differs"] = (StatusCode.DataLoss, null, [Header(), .. All(), new() { End = new() { Xxh3 = 0x1234 } }]),
        ["beyond the budget"] = (StatusCode.ResourceExhausted, null, [Header(Entry("0.exp_avg", 1L << 40))]),
        ["bytes beyond 63 bits"] = (StatusCode.InvalidArgument, "header.state.entries[0].shape[0]", [Header(Entry("0.exp_avg", 1L << 62, 1L << 62))]),
        ["bytes beyond 63 bits together"] = (StatusCode.InvalidArgument, "header.state.entries[1].shape", [Header(Entry("a", (1L << 61) - 1), Entry("b", (1L << 61) - 1))]),
        ["repeated key"] = (StatusCode.InvalidArgument, "header.state.entries[1].key", [Header(Entries[0], Entries[0])]),
        ["unknown dtype"] = (StatusCode.InvalidArgument, "header.state.entries[0].dtype", [Header(new V1.StateEntry { Key = "0.exp_avg", Dtype = (V1.DataType)77 })]),
        ["other shape"] = (StatusCode.InvalidArgument, "header.state.entries[0]", [Header(Entry("0.exp_avg", 1), Entry("0.exp_avg_sq", 1)), Chunk(0, 0, 4), Chunk(1, 0, 4), End()]),
        ["state of nobody"] = (StatusCode.InvalidArgument, "header.state.entries[0]", [Header(Entry("7.exp_avg", 1)), Chunk(0, 0, 4), End()]),
        ["state missing"] = (StatusCode.InvalidArgument, "header.state.entries", [Header(Entries[0]), Chunk(0, 0, 8), End()]),
        ["scalar of nobody"] = (StatusCode.InvalidArgument, "header.state.scalars[\"7.step\"]", [Scalar("7.step", 1), .. All(), End()]),
        ["scalar with a line break"] = (StatusCode.InvalidArgument, "header.state.scalars[\"a\\u000ab\"]", [Scalar("a\nb", 1), .. All(), End()]),
        ["step that is not finite"] = (StatusCode.InvalidArgument, "header.state.scalars[\"0.step\"]", [Scalar("0.step", double.NaN), .. All(), End()]),
        ["step below zero"] = (StatusCode.InvalidArgument, "header.state.scalars[\"0.step\"]", [Scalar("0.step", -1), .. All(), End()]),
        ["no groups"] = (StatusCode.InvalidArgument, "header.state.groups", [new() { Header = new() { Module = "m", State = new() } }, End()]),
        ["parameters of another"] = (StatusCode.InvalidArgument, "header.state.groups[0].parameters", [Group(new() { Parameters = { 0 } }), End()]),
        ["parameter beyond int"] = (StatusCode.InvalidArgument, "header.state.groups[0].parameters[0]", [Group(new() { Parameters = { uint.MaxValue } }), End()]),
        ["unknown option"] = (StatusCode.InvalidArgument, "header.state.groups[0].options.nope", [Options("nope", Value.ForNumber(1)), End()]),
        ["option of another kind"] = (StatusCode.InvalidArgument, "header.state.groups[0].options.lr", [Options("lr", Value.ForString("x")), End()]),
        ["infinite option"] = (StatusCode.InvalidArgument, "header.state.groups[0].options.eps", [Options("eps", Value.ForString("inf")), End()]),
        ["initial_lr NaN"] = (StatusCode.InvalidArgument, "header.state.groups[0].options.initial_lr", [Options("initial_lr", Value.ForNumber(double.NaN)), End()]),
        ["initial_lr below zero"] = (StatusCode.InvalidArgument, "header.state.groups[0].options.initial_lr", [Options("initial_lr", Value.ForNumber(-5)), End()]),
        ["initial_lr that is text"] = (StatusCode.InvalidArgument, "header.state.groups[0].options.initial_lr", [Options("initial_lr", Value.ForString("x")), End()]),
    };

    private RunningServer _server = null!;
    private ulong _used;

    public static TheoryData<string> Cases => [.. Broken.Keys];

    public ValueTask InitializeAsync() => StartAsync(_ => { });

    // A busy machine keeps a caller waiting too: only what waits for a limit has a short one.
    private async Task RestartAsync(Action<SconceServerOptions> limit)
    {
        await _server.DisposeAsync();
        await StartAsync(limit);
    }

    private async ValueTask StartAsync(Action<SconceServerOptions> limit)
    {
        _server = await RunningServer.StartAsync(options =>
        {
            options.Engine.MemoryBudgetBytes = Budget;
            limit(options);
        });
        await Make.ModuleAsync(_server, "m", Make.Linear(2, 1));
        await _server.Training.CreateOptimizerAsync(new V1.CreateOptimizerRequest { Module = "m", Type = "Adam" });
        await _server.Training.TrainStepAsync(new V1.TrainStepRequest { Module = "m", Inputs = { Make.Floats([1, 2], 1, 2) }, Targets = { Make.Floats([1, 1], 1) }, Loss = new V1.Loss { Type = "MSELoss" } });
        _used = await UsedAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await Eventually.TrueAsync(async () => await UsedAsync() == _used);
        Assert.Empty(_server.Errors);
        await _server.DisposeAsync();
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Broken_upload_changes_nothing(string which)
    {
        var (code, field, parts) = Broken[which];
        var before = await StateAsync();

        using var call = _server.Training.LoadOptimizerState();
        await WriteAsync(call, parts);
        (await Refused.OfAsync(call.ResponseAsync)).Is(code, field);

        Assert.Equal(before, await StateAsync());
    }

    [Fact]
    public async Task Upload_that_is_right_is_loaded()
    {
        using var call = _server.Training.LoadOptimizerState();
        await WriteAsync(call, [Scalar("0.step", 3), .. All(), End()]);
        var refused = (await Refused.OfAsync(call.ResponseAsync)).Is(StatusCode.InvalidArgument, "header.state.entries");
        Assert.Contains("\"1.step\" is missing", refused.Message, StringComparison.Ordinal);

        var header = Scalar("0.step", 3);
        header.Header.State.Scalars["1.step"] = 3;
        using var whole = _server.Training.LoadOptimizerState();
        await WriteAsync(whole, [header, .. All(), End()]);
        Assert.Equal("Adam", (await whole).Optimizer.Type);
    }

    [Fact]
    public async Task Upload_repeated_with_its_request_id_has_its_first_answer_after_the_module_has_gone()
    {
        await _server.Modules.CopyModuleAsync(new V1.CopyModuleRequest { Module = "m", Copy = "c" });
        await _server.Training.CreateOptimizerAsync(new V1.CreateOptimizerRequest { Module = "c", Type = "Adam" });
        var header = Scalar("0.step", 3);
        (header.Header.Module, header.Header.RequestId, header.Header.State.Scalars["1.step"]) = ("c", "load", 3);
        var first = await LoadAsync(header);
        await _server.Modules.DeleteModuleAsync(new V1.DeleteModuleRequest { Module = "c" });

        Assert.Equal(first, await LoadAsync(header));
        header.Header.State.Scalars["1.step"] = 4;
        Assert.Equal("REQUEST_ID_REUSED", (await Refused.OfAsync(LoadAsync(header))).Is(StatusCode.InvalidArgument, "header.request_id").Reason);

        async Task<V1.LoadOptimizerStateResponse> LoadAsync(V1.LoadOptimizerStateRequest first)
        {
            using var call = _server.Training.LoadOptimizerState();
            await WriteAsync(call, [first, .. All(), End()]);
            return await call;
        }
    }

    [Fact]
    public async Task Silence_is_DEADLINE_EXCEEDED()
    {
        await RestartAsync(options => options.StreamIdleTimeout = TimeSpan.FromSeconds(1));
        using var call = _server.Training.LoadOptimizerState();
        await WriteAsync(call, [Header(), Chunk(0, 0, 4)], complete: false);

        var refused = (await Refused.OfAsync(call.ResponseAsync)).Is(StatusCode.DeadlineExceeded);

        Assert.Contains("stream_idle_timeout", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Trickle_is_DEADLINE_EXCEEDED()
    {
        await RestartAsync(options => options.StreamMinBytesPerSecond = 1 << 30);
        using var call = _server.Training.LoadOptimizerState();
        await call.RequestStream.WriteAsync(Header(Entry("0.exp_avg", 1024)));
        for (var offset = 0; offset < 1024 && !call.ResponseAsync.IsCompleted; offset++)
        {
            await WriteAsync(call, [Chunk(0, (ulong)offset, 1)], complete: false);
            await Task.Delay(200);
        }

        var refused = (await Refused.OfAsync(call.ResponseAsync)).Is(StatusCode.DeadlineExceeded);
        Assert.Contains("stream_min_bytes_per_second", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Announcement_alone_takes_no_room_from_others()
    {
        // Nearly all of the budget is announced, twice, and of each but a float sent, which tells that the announcement has come.
        var much = Entry("0.exp_avg", (Budget / 4) - (1 << 16));
        using var first = _server.Training.LoadOptimizerState();
        using var second = _server.Training.LoadOptimizerState();
        await first.RequestStream.WriteAsync(Header(much));
        await second.RequestStream.WriteAsync(Header(much));
        await first.RequestStream.WriteAsync(Chunk(0, 0, 4));
        await second.RequestStream.WriteAsync(Chunk(0, 0, 4));
        await Eventually.TrueAsync(async () => await UsedAsync() == _used + 8);

        await Make.ModuleAsync(_server, "large", Make.Linear(2000, 2000));
        Assert.True(await UsedAsync() < (ulong)Budget / 2);

        // What has come is charged.
        var before = await UsedAsync();
        await first.RequestStream.WriteAsync(Chunk(0, 4, 1 << 20));
        await Eventually.TrueAsync(async () => await UsedAsync() == before + (1 << 20));
        await first.RequestStream.CompleteAsync();
        await second.RequestStream.CompleteAsync();
        await Refused.OfAsync(first.ResponseAsync);
        await Refused.OfAsync(second.ResponseAsync);
        await _server.Modules.DeleteModuleAsync(new V1.DeleteModuleRequest { Module = "large" });
    }

    [Fact]
    public async Task State_dict_whose_keys_the_module_lacks_is_refused_at_its_header()
    {
        using var call = _server.State.LoadStateDict();
        await call.RequestStream.WriteAsync(new V1.LoadStateDictRequest { Header = new() { Module = "m", Entries = { Entry("weight", 1, 2), Entry("bias", 2), Entry("extra", 1 << 20) } } });

        // Nothing more is sent.
        var refused = (await Refused.OfAsync(call.ResponseAsync)).Is(StatusCode.InvalidArgument, "header.entries[1]").Is(StatusCode.InvalidArgument, "header.entries[2]");
        Assert.Contains("\"extra\" is unexpected", refused.Message, StringComparison.Ordinal);
    }

    private static V1.StateEntry Entry(string key, params long[] shape) => new() { Key = key, Dtype = V1.DataType.Float32, Shape = { shape } };

    private static V1.LoadOptimizerStateRequest Header(params V1.StateEntry[] entries)
    {
        var request = Group(new V1.OptimizerStateGroup { Parameters = { 0, 1 } });
        request.Header.State.Entries.Add(entries.Length == 0 ? Entries : entries);
        return request;
    }

    private static V1.LoadOptimizerStateRequest Group(V1.OptimizerStateGroup group) => new() { Header = new() { Module = "m", State = new() { Groups = { group } } } };

    private static V1.LoadOptimizerStateRequest Options(string name, Value value) => Group(new() { Parameters = { 0, 1 }, Options = new() { Fields = { [name] = value } } });

    private static V1.LoadOptimizerStateRequest Scalar(string key, double value)
    {
        var request = Header();
        request.Header.State.Scalars[key] = value;
        return request;
    }

    private static V1.LoadOptimizerStateRequest Chunk(uint entry, ulong offset, int bytes) =>
        new() { Chunk = new() { Entry = entry, Offset = offset, Data = ByteString.CopyFrom(new byte[bytes]) } };

    private static V1.LoadOptimizerStateRequest[] All() => [Chunk(0, 0, 8), Chunk(1, 0, 8), Chunk(2, 0, 4), Chunk(3, 0, 4)];

    private static V1.LoadOptimizerStateRequest End() => new() { End = new() };

    private static async Task WriteAsync(
        AsyncClientStreamingCall<V1.LoadOptimizerStateRequest, V1.LoadOptimizerStateResponse> call, V1.LoadOptimizerStateRequest[] parts, bool complete = true)
    {
        foreach (var part in parts)
        {
            await call.RequestStream.TryWriteAsync(part);
        }

        if (complete)
        {
            await call.RequestStream.TryCompleteAsync();
        }
    }

    private async Task<ulong> UsedAsync() => (await _server.Host.GetHostAsync(new V1.GetHostRequest())).Memory.UsedBytes;

    private async Task<List<V1.GetOptimizerStateResponse>> StateAsync()
    {
        using var call = _server.Training.GetOptimizerState(new V1.GetOptimizerStateRequest { Module = "m" });
        var parts = new List<V1.GetOptimizerStateResponse>();
        await foreach (var part in call.ResponseStream.ReadAllAsync())
        {
            parts.Add(part);
        }

        return parts;
    }
}
