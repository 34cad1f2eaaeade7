using Google.Rpc;
using Grpc.Core;

namespace Sconce.Server.Tests.Wire;

/// <summary>What a call makes of little: refused where there is no room for it, with what was asked, used and allowed, before it is made.</summary>
public sealed class MemoryTests : IAsyncLifetime
{
    private const long Budget = 64 << 20;

    private RunningServer _server = null!;
    private ulong _used;

    public async ValueTask InitializeAsync()
    {
        _server = await RunningServer.StartAsync(options => (options.Engine.MemoryBudgetBytes, options.Engine.GraphBudgetBytes) = (Budget, Budget / 2));
        _used = await UsedAsync();
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var module in (await _server.Modules.ListModulesAsync(new V1.ListModulesRequest())).Modules)
        {
            await _server.Modules.DeleteModuleAsync(new V1.DeleteModuleRequest { Module = module.Name });
        }

        await Eventually.TrueAsync(async () => await UsedAsync() == _used);
        Assert.Empty(_server.Errors);
        await _server.DisposeAsync();
    }

    /// <summary>Modules of one input, its shape, and its dtype where that is not float32.</summary>
    public static TheoryData<string, long[]> Modules => new()
    {
        { """{ "type": "Linear", "args": { "in_features": 1, "out_features": 10000, "bias": false } }""", [10_000, 1] },
        { """{ "type": "Linear", "args": { "in_features": 0, "out_features": 10000 } }""", [100_000, 0] },
        { """{ "type": "Conv2d", "args": { "in_channels": 1, "out_channels": 1, "kernel_size": 1, "padding": 5000 } }""", [1, 1, 2, 2] },
        { """{ "type": "Conv1d", "args": { "in_channels": 1, "out_channels": 1, "kernel_size": 1, "padding": 5e7, "padding_mode": "replicate" } }""", [1, 1, 2] },
        { """{ "type": "Conv1d", "args": { "in_channels": 1, "out_channels": 10000, "kernel_size": 1, "padding": "same" } }""", [1, 1, 10_000] },
        { """{ "type": "ConvTranspose2d", "args": { "in_channels": 1, "out_channels": 1, "kernel_size": 2, "stride": 10000 } }""", [1, 1, 2, 2] },
        { """{ "type": "ConstantPad1d", "args": { "padding": 2147483648, "value": 0 } }""", [1, 1, 2] },
        { """{ "type": "ZeroPad2d", "args": { "padding": 9e15 } }""", [1, 1, 2, 2] },
        { """{ "type": "ReplicationPad2d", "args": { "padding": 10000 } }""", [1, 1, 2, 2] },
        { """{ "type": "Upsample", "args": { "scale_factor": 1e9 } }""", [1, 1, 2, 2] },
        { """{ "type": "UpsamplingBilinear2d", "args": { "size": 10000 } }""", [1, 1, 2, 2] },
        { """{ "type": "AdaptiveAvgPool2d", "args": { "output_size": 10000 } }""", [1, 1, 2, 2] },
        { """{ "type": "AdaptiveMaxPool1d", "args": { "output_size": 1e9 } }""", [1, 1, 2] },
        { """{ "type": "Fold", "args": { "output_size": 10000, "kernel_size": 1, "stride": 10000 } }""", [1, 1, 1] },
        { """{ "type": "Unfold", "args": { "kernel_size": 1, "padding": 5000 } }""", [1, 1, 4, 4] },
        { """{ "type": "LocalResponseNorm", "args": { "size": 1000000000 } }""", [1, 4, 2, 2] },
        { """{ "type": "CrossMapLRN2d", "args": { "size": 1 } }""", [1, 10_000, 1, 1] },
        { """{ "type": "GRU", "args": { "input_size": 1, "hidden_size": 500 } }""", [10_000, 2, 1] },
        { """{ "type": "LSTMCell", "args": { "input_size": 1, "hidden_size": 500 } }""", [10_000, 1] },
        { """{ "type": "Embedding", "args": { "num_embeddings": 1, "embedding_dim": 10000 } }""", [10_000] },
        { """{ "type": "EmbeddingBag", "args": { "num_embeddings": 1, "embedding_dim": 10000 } }""", [10_000, 1] },
    };

    /// <summary>Functions, their arguments, and the shapes of their inputs.</summary>
    public static TheoryData<string, string, long[][]> Functions => new()
    {
        { "expand", """{ "size": [1e9, 2, 3] }""", [[2, 3]] },
        { "expand", """{ "size": [1e9, -1, -1] }""", [[2, 3]] },
        { "repeat", """{ "repeats": [1e9, 1] }""", [[2, 3]] },
        { "tile", """{ "dims": [4e15, 4e15] }""", [[2, 3]] },
        { "cat", "{}", [[1_000_000], [1_000_000], [1_000_000], [1_000_000], [1_000_000], [1_000_000], [1_000_000], [1_000_000], [1_000_000]] },
        { "pad", """{ "pad": [1e9, 1e9] }""", [[2, 3]] },
        { "one_hot", """{ "num_classes": 1e9 }""", [[2]] },
        { "interpolate", """{ "size": [1e9, 1e9] }""", [[1, 1, 2, 2]] },
        { "local_response_norm", """{ "size": 1e9 }""", [[1, 4, 2, 2]] },
        { "matmul", "{}", [[10_000, 1], [1, 10_000]] },
        { "matmul", "{}", [[1, 10, 1], [100_000, 1, 20]] },
        { "mm", "{}", [[10_000, 1], [1, 10_000]] },
        { "bmm", "{}", [[1, 10_000, 1], [1, 1, 10_000]] },
        { "einsum", """{ "equation": "i,j->ij" }""", [[10_000], [10_000]] },
        { "einsum", """{ "equation": "i, j" }""", [[10_000], [10_000]] },
        { "linear", "{}", [[10_000, 1], [10_000, 1]] },
        { "add", "{}", [[10_000, 1], [1, 10_000]] },
        { "mul", "{}", [[10_000, 1], [1, 10_000]] },
        { "div", "{}", [[10_000, 1], [1, 10_000]] },
        { "lt", "{}", [[10_000, 1], [1, 10_000]] },
        { "lerp", """{ "weight": 0.5 }""", [[10_000, 1], [1, 10_000]] },
        { "cosine_similarity", """{ "dim": 2 }""", [[10_000, 1, 1], [1, 10_000, 1]] },
        { "scaled_dot_product_attention", "{}", [[1, 10_000, 1], [1, 10_000, 1], [1, 10_000, 1]] },
        { "grid_sample", "{}", [[1, 10_000, 1, 1], [1, 100, 100, 2]] },
    };

    [Theory]
    [MemberData(nameof(Modules))]
    public async Task Module_whose_result_does_not_fit_is_refused(string spec, long[] shape)
    {
        var module = Make.Spec(spec);
        await Make.ModuleAsync(_server, "m", module);

        await RefusedAsync(Make.Forward("m", Zeros(shape, module.Type.StartsWith("Embedding", StringComparison.Ordinal) ? V1.DataType.Int64 : V1.DataType.Float32)));
    }

    [Theory]
    [MemberData(nameof(Functions))]
    public async Task Function_whose_result_does_not_fit_is_refused(string function, string args, long[][] shapes)
    {
        string[] names = [.. shapes.Select((_, i) => $"x{i}")];
        var spec = new V1.ModuleSpec
        {
            Type = "Graph",
            Wiring = new V1.Wiring
            {
                Inputs = { names },
                Steps = { new V1.WiringStep { Name = "y", Function = function, Inputs = { names }, Args = Google.Protobuf.WellKnownTypes.Struct.Parser.ParseJson(args) } },
                Outputs = { "y" },
            },
        };
        await Make.ModuleAsync(_server, "m", spec);

        await RefusedAsync(Make.Forward("m", [.. shapes.Select(shape => Zeros(shape, function == "one_hot" ? V1.DataType.Int64 : V1.DataType.Float32))]));
    }

    [Fact]
    public async Task One_hot_by_its_greatest_index_and_index_select_are_refused()
    {
        await Make.ModuleAsync(_server, "hot", Graph("""{ "name": "y", "function": "one_hot", "inputs": ["x"] }"""));
        await RefusedAsync(Make.Forward("hot", Make.Longs([1], 1L << 40)));
        await Make.ModuleAsync(_server, "select", Make.Spec("""
            { "type": "Graph", "wiring": { "inputs": ["x", "i"], "steps": [{ "name": "y", "function": "index_select", "inputs": ["x", "i"], "args": { "dim": 0 } }], "outputs": ["y"] } }
            """));
        await RefusedAsync(Make.Forward("select", Zeros([1, 10_000]), Zeros([10_000], V1.DataType.Int64)));
    }

    [Fact]
    public async Task Attention_whose_weights_do_not_fit_is_refused()
    {
        await Make.ModuleAsync(_server, "m", Make.Spec("""{ "type": "MultiheadAttention", "args": { "embed_dim": 1, "num_heads": 1 } }"""));
        var x = Zeros([10_000, 1, 1]);
        await RefusedAsync(Make.Forward("m", x, x, x));
    }

    [Fact]
    public async Task Chain_of_results_that_autograd_keeps_is_refused_as_it_grows()
    {
        // 8 MB each: five of them are beyond the graphs' budget, ten beyond the budget of all.
        var steps = string.Join(", ", Enumerable.Range(0, 40).Select(i => $$"""{ "name": "y{{i + 1}}", "function": "exp", "inputs": ["{{(i == 0 ? "x" : $"y{i}")}}"] }"""));
        await Make.ModuleAsync(_server, "chain", Make.Spec($$"""{ "type": "Graph", "wiring": { "inputs": ["x"], "steps": [{{steps}}], "outputs": ["y40"] } }"""));
        var forward = Make.Forward("chain", Zeros([2_000_000]));
        forward.RecordGraph = true;
        await RefusedAsync(forward, "graph_budget_bytes", Budget / 2);
        await RefusedAsync(new V1.ForwardBackwardRequest { Module = "chain", Inputs = { forward.Inputs }, Targets = { forward.Inputs }, Loss = new V1.Loss { Type = "MSELoss" } });
    }

    [Fact]
    public async Task Sequential_in_eval_mode_that_frees_as_it_goes_is_not_refused()
    {
        var spec = new V1.ModuleSpec { Type = "Sequential", Children = { Enumerable.Range(0, 40).Select(_ => new V1.ChildSpec { Spec = new V1.ModuleSpec { Type = "Sigmoid" } }) } };
        await Make.ModuleAsync(_server, "m", spec);

        Assert.Equal(4_000_000, (await _server.Execution.ForwardAsync(Make.Forward("m", Zeros([1_000_000])))).Output.Tensor.Data.Length);
    }

    [Fact]
    public async Task Loss_that_broadcasts_beyond_the_budget_is_refused()
    {
        await Make.ModuleAsync(_server, "m", Make.Linear(1, 1));
        await RefusedAsync(new V1.ForwardBackwardRequest { Module = "m", Inputs = { Zeros([10_000, 1]) }, Targets = { Zeros([1, 10_000]) }, Loss = new V1.Loss { Type = "MSELoss" } });
    }

    [Fact]
    public async Task Calls_that_would_double_a_module_are_refused()
    {
        await Make.ModuleAsync(_server, "half", Make.Linear(3000, 3000));
        await Make.ModuleAsync(_server, "rest", Make.Linear(2000, 1000));

        await RefusedAsync(_server.Modules.CopyModuleAsync(new V1.CopyModuleRequest { Module = "half", Copy = "copy" }).ResponseAsync);
        await RefusedAsync(_server.Modules.ToAsync(new V1.ToRequest { Module = "half", Conversion = V1.Conversion.Double }).ResponseAsync);
        await RefusedAsync(_server.Training.CreateOptimizerAsync(new V1.CreateOptimizerRequest { Module = "half", Type = "Adam" }).ResponseAsync);
        using var state = _server.State.GetStateDict(new V1.GetStateDictRequest { Module = "half" });
        await RefusedAsync(state.ResponseStream.MoveNext(default));
    }

    private static V1.ModuleSpec Graph(string step) => Make.Spec($$"""{ "type": "Graph", "wiring": { "inputs": ["x"], "steps": [{{step}}], "outputs": ["y"] } }""");

    private static V1.Tensor Zeros(long[] shape, V1.DataType type = V1.DataType.Float32) =>
        Make.Tensor(type, shape, new byte[shape.Aggregate(1L, (a, b) => a * b) * (type == V1.DataType.Int64 ? 8 : 4)]);

    private async Task<ulong> UsedAsync() => (await _server.Host.GetHostAsync(new V1.GetHostRequest())).Memory.UsedBytes;

    private Task RefusedAsync(V1.ForwardRequest request, string setting = "memory_budget_bytes", long allowed = Budget) =>
        RefusedAsync(_server.Execution.ForwardAsync(request).ResponseAsync, setting, allowed);

    private Task RefusedAsync(V1.ForwardBackwardRequest request) => RefusedAsync(_server.Training.ForwardBackwardAsync(request).ResponseAsync);

    private static async Task RefusedAsync<T>(Task<T> call, string setting = "memory_budget_bytes", long allowed = Budget)
    {
        var thrown = await Assert.ThrowsAsync<RpcException>(() => call.WaitAsync(TimeSpan.FromSeconds(60)));
        Assert.True(thrown.StatusCode == StatusCode.ResourceExhausted, thrown.Status.Detail);
        Assert.Contains($"of {allowed:N0} are in use; free some, or raise {setting}", thrown.Status.Detail, StringComparison.Ordinal);
        var violation = Assert.Single(thrown.GetRpcStatus()!.GetDetail<QuotaFailure>()!.Violations);
        Assert.Equal(setting, violation.Subject);
        Assert.EndsWith($"allowed {allowed}", violation.Description, StringComparison.Ordinal);
    }
}
