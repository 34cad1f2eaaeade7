using System.Diagnostics;
using Google.Protobuf;
using Grpc.Core;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.BadInput;

/// <summary>Uploads that break the framing: refused with the offset, and nothing of them is kept.</summary>
public sealed class StateStreamTests(SharedServer server) : ServerTest(server)
{
    // Linear(4, 3): weight [3, 4] is 48 bytes, bias [3] is 12.
    private static readonly StateEntry Weight = new() { Key = "weight", Dtype = DataType.Float32, Shape = { 3, 4 } };
    private static readonly StateEntry Bias = new() { Key = "bias", Dtype = DataType.Float32, Shape = { 3 } };

    private static readonly Dictionary<string, (LoadStateDictRequest[] Parts, StatusCode Code, string[] Words)> Broken = new()
    {
        ["no header"] = ([Chunk(0, 0, 48)], StatusCode.InvalidArgument, ["header"]),
        ["two headers"] = ([Header(), Header(), Chunk(0, 0, 48), Chunk(1, 0, 12), End()], StatusCode.InvalidArgument, ["header"]),
        ["empty stream"] = ([], StatusCode.InvalidArgument, ["header"]),
        ["empty message"] = ([Header(), new()], StatusCode.InvalidArgument, []),
        ["gap"] = ([Header(), Chunk(0, 0, 16), Chunk(0, 32, 16)], StatusCode.InvalidArgument, ["16", "32"]),
        ["repeat"] = ([Header(), Chunk(0, 0, 16), Chunk(0, 0, 16)], StatusCode.InvalidArgument, ["16", "0"]),
        ["overlap"] = ([Header(), Chunk(0, 0, 16), Chunk(0, 8, 16)], StatusCode.InvalidArgument, ["16", "8"]),
        ["excess"] = ([Header(), Chunk(0, 0, 52)], StatusCode.InvalidArgument, ["48"]),
        ["offset beyond 2^63"] = ([Header(), Chunk(0, ulong.MaxValue, 16)], StatusCode.InvalidArgument, ["18446744073709551615"]),
        ["unknown entry"] = ([Header(), Chunk(2, 0, 4)], StatusCode.InvalidArgument, ["2"]),
        ["entries out of order"] = ([Header(), Chunk(1, 0, 12), Chunk(0, 0, 48), End()], StatusCode.InvalidArgument, []),
        ["a skipped entry"] = ([Header(), Chunk(0, 0, 24), Chunk(1, 0, 12), End()], StatusCode.InvalidArgument, ["tensor 1", "tensor 0 offset 24"]),
        ["end too early"] = ([Header(), Chunk(0, 0, 48), End()], StatusCode.InvalidArgument, ["tensor 1", "12"]),
        ["no end"] = ([Header(), Chunk(0, 0, 48), Chunk(1, 0, 12)], StatusCode.InvalidArgument, ["end"]),
        ["data after the end"] = ([Header(), Chunk(0, 0, 48), Chunk(1, 0, 12), End(), Chunk(1, 0, 12)], StatusCode.InvalidArgument, ["end"]),
        ["digest differs"] = ([Header(), Chunk(0, 0, 48), Chunk(1, 0, 12), End(0x1234)], StatusCode.DataLoss, ["1234"]),
        ["declared size beyond the budget"] = ([Header(new StateEntry { Key = "weight", Dtype = DataType.Float32, Shape = { 1L << 40 } })], StatusCode.ResourceExhausted, ["memory_budget_bytes"]),
        ["negative size"] = ([Header(new StateEntry { Key = "weight", Dtype = DataType.Float32, Shape = { -1 } })], StatusCode.InvalidArgument, ["-1"]),
        ["unknown dtype"] = ([Header(new StateEntry { Key = "weight", Dtype = (DataType)77, Shape = { 3, 4 } })], StatusCode.InvalidArgument, ["77"]),
        ["repeated key"] = ([Header(Weight, Weight)], StatusCode.InvalidArgument, ["weight"]),
        ["missing, unexpected and mismatched"] = (
            [
                Header(new StateEntry { Key = "weight", Dtype = DataType.Float32, Shape = { 4, 3 } }, new StateEntry { Key = "biass", Dtype = DataType.Float32, Shape = { 3 } }),
                Chunk(0, 0, 48), Chunk(1, 0, 12), End(),
            ],
            StatusCode.InvalidArgument, ["biass", "\"bias\"", "[4, 3]", "[3, 4]"]),
        ["a shape that would broadcast"] = (
            [Header(Weight, new StateEntry { Key = "bias", Dtype = DataType.Float32, Shape = { 1 } }), Chunk(0, 0, 48), Chunk(1, 0, 4), End()],
            StatusCode.InvalidArgument, ["bias", "[1]", "[3]"]),
    };

    public static TheoryData<string> Cases => [.. Broken.Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task LoadStateDict_broken_stream_changes_nothing(string which)
    {
        var module = await CreateAsync(Specs.Linear);
        var before = await Streams.DrainAsync(Stubs.State.GetStateDict(new() { Module = module }));
        var (parts, code, words) = Broken[which];
        await Refusal.OfAsync(
            () => Streams.SendAsync(Stubs.State.LoadStateDict(), parts.Select(part =>
            {
                var own = part.Clone();
                own.Header?.Module = module;
                return own;
            })),
            code, words);
        Assert.Equal(before, await Streams.DrainAsync(Stubs.State.GetStateDict(new() { Module = module })));
    }

    [Fact]
    public async Task LoadStateDict_silence_beyond_the_limit_is_DEADLINE_EXCEEDED()
    {
        const string Module = "m";
        await using var server = await SconceProcess.StartAsync(("stream-idle-timeout", "2s"));
        using var channel = Channels.Open(server);
        var stubs = new Stubs(channel.CreateCallInvoker());
        await stubs.Modules.CreateModuleAsync(new() { Module = Module, Spec = Specs.Linear });
        var used = await UsedAsync();
        using var call = stubs.State.LoadStateDict(deadline: DateTime.UtcNow.AddSeconds(60));
        await call.RequestStream.WriteAsync(Header(Module));
        var began = Stopwatch.GetTimestamp(); // the silence cannot begin before
        await call.RequestStream.WriteAsync(Chunk(0, 0, 16));
        await Refusal.OfAsync(async () => await call.ResponseAsync, StatusCode.DeadlineExceeded, "stream_idle_timeout");
        Assert.InRange(Stopwatch.GetElapsedTime(began).TotalSeconds, 1, 10);
        await SettlesAsync(async () => await UsedAsync() == used, async () => $"{await UsedAsync()} bytes are charged; {used} were before the upload");
        server.Terminate();
        Assert.Equal(0, await server.WaitForExitAsync());
        Assert.Empty(server.ErrorLines);

        async Task<ulong> UsedAsync() => (await stubs.Host.GetHostAsync(new())).Memory.UsedBytes;
    }

    [Fact]
    public async Task LoadStateDict_trickle_is_DEADLINE_EXCEEDED()
    {
        var module = await CreateAsync(Specs.Linear);
        using var call = Stubs.State.LoadStateDict(deadline: DateTime.UtcNow.AddSeconds(120));
        await call.RequestStream.WriteAsync(Header(module));
        var refused = Refusal.OfAsync(async () => await call.ResponseAsync, StatusCode.DeadlineExceeded, "stream_min_bytes_per_second");
        for (var offset = 0; offset < 48 && !refused.IsCompleted; offset++)
        {
            try
            {
                await call.RequestStream.WriteAsync(Chunk(0, (ulong)offset, 1));
            }
            catch (Exception e) when (e is RpcException or InvalidOperationException)
            {
                break; // refused already
            }

            await Task.Delay(500);
        }

        await refused;
    }

    [Fact]
    public async Task LoadOptimizerState_that_does_not_fit_changes_nothing()
    {
        var module = await CreateAsync(Specs.Linear);
        await Stubs.Training.CreateOptimizerAsync(new() { Module = module, Type = "Adam" });
        await Stubs.Training.TrainStepAsync(new() { Module = module, Inputs = { Wire.Pattern(2, 4) }, Targets = { Wire.Pattern(2, 3) }, Loss = new() { Type = "MSELoss" } });
        var before = await Streams.DrainAsync(Stubs.Training.GetOptimizerState(new() { Module = module }));
        OptimizerState[] bad =
        [
            new(), // no groups
            new() { Groups = { new OptimizerStateGroup { Parameters = { 0 } } } }, // one parameter of two
            new()
            {
                Groups = { new OptimizerStateGroup { Parameters = { 0, 1 } } },
                Entries = { new StateEntry { Key = "0.exp_avg", Dtype = DataType.Float32, Shape = { 1 } } },
            },
            new()
            {
                Groups = { new OptimizerStateGroup { Parameters = { 0, 1 } } },
                Entries = { new StateEntry { Key = "5.exp_avg", Dtype = DataType.Float32, Shape = { 1 } } },
            },
        ];
        foreach (var state in bad)
        {
            LoadOptimizerStateRequest[] messages =
            [
                new() { Header = new() { Module = module, State = state } },
                .. state.Entries.Select((_, i) => new LoadOptimizerStateRequest { Chunk = new() { Entry = (uint)i, Data = ByteString.CopyFrom(new byte[4]) } }),
                new() { End = new() },
            ];
            await Refusal.OfAsync(() => Streams.SendAsync(Stubs.Training.LoadOptimizerState(), messages), StatusCode.InvalidArgument);
        }

        Assert.Equal(before, await Streams.DrainAsync(Stubs.Training.GetOptimizerState(new() { Module = module })));
    }

    [Fact]
    public async Task GetStateDict_chunk_beyond_the_limit_is_INVALID_ARGUMENT()
    {
        var module = await CreateAsync(Specs.Linear);
        (await Refusal.OfAsync(() => Streams.DrainAsync(Stubs.State.GetStateDict(new() { Module = module, ChunkBytes = 17 << 20 })), StatusCode.InvalidArgument)).At("chunk_bytes");
    }

    private static LoadStateDictRequest Header(string module) => new() { Header = new() { Module = module, Entries = { Weight, Bias } } };

    private static LoadStateDictRequest Header(params StateEntry[] entries) =>
        new() { Header = new() { Entries = { entries.Length == 0 ? [Weight, Bias] : entries } } };

    private static LoadStateDictRequest Chunk(uint entry, ulong offset, int bytes) =>
        new() { Chunk = new() { Entry = entry, Offset = offset, Data = ByteString.CopyFrom(new byte[bytes]) } };

    private static LoadStateDictRequest End(ulong? digest = null) => new() { End = digest is { } xxh3 ? new StateEnd { Xxh3 = xxh3 } : new StateEnd() };
}
