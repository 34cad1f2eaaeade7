using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.Execution;

/// <summary>Autograd across the wire: what a graph gives, and every way in which it ends.</summary>
public sealed class LiveGraphTests(SharedServer server) : ServerTest(server)
{
    [Fact]
    public async Task Backward_of_a_loss_computed_here_gives_input_and_parameter_gradients()
    {
        var module = await CreateAsync(Specs.Linear);
        var x = Wire.Floats([2, 4], 1, 2, 3, 4, 5, 6, 7, 8);
        var graph = await RecordAsync(module, x);
        Assert.True(graph.Graph.EstimatedBytes > 0);
        Assert.True(graph.Graph.Expires.ToDateTime() > DateTime.UtcNow);

        var answer = await BackwardAsync(module, graph, Wire.Floats([2, 3], 1, 0, 0, 0, 1, 0));

        // d(loss)/dx is the row of the weight that each sample's gradient selects; d(loss)/dW has the samples in those rows.
        var weight = (await StateAsync(module))["weight"];
        var gradients = await GradientsAsync(module);
        Assert.Equal(weight[..8], answer.InputGrads[0].Floats());
        Assert.Equal([1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0], gradients["weight"]);
        Assert.Equal([1, 1, 0], gradients["bias"]);
    }

    [Fact]
    public async Task Backward_twice_accumulates_with_retain_and_is_refused_without()
    {
        var module = await CreateAsync(Specs.Linear);
        var graph = await RecordAsync(module, Wire.Pattern(2, 4));
        var gradient = Wire.Floats([2, 3], 1, 1, 1, 1, 1, 1);
        await BackwardAsync(module, graph, gradient, retain: true);
        var once = (await GradientsAsync(module))["bias"];
        await BackwardAsync(module, graph, gradient);
        Assert.Equal(once.Select(value => value * 2), (await GradientsAsync(module))["bias"]);

        var refusal = await Refusal.OfAsync(() => BackwardAsync(module, graph, gradient), StatusCode.FailedPrecondition, "retain_graph");
        refusal.For("GRAPH_USED");
        Assert.NotNull(refusal.Precondition);
    }

    [Fact]
    public async Task Backward_without_input_grads_returns_none_and_named_inputs_get_theirs()
    {
        var module = await CreateAsync(Specs.Linear);
        var without = await Stubs.Execution.ForwardAsync(new() { Module = module, Inputs = { Wire.Pattern(1, 4) }, RecordGraph = true, InputGrads = false });
        var answer = await BackwardAsync(module, without, Wire.Pattern(1, 3));
        Assert.Equal(DataType.Unspecified, Assert.Single(answer.InputGrads).Dtype);

        var named = await Stubs.Execution.ForwardAsync(new() { Module = module, NamedInputs = { ["input"] = Wire.Pattern(1, 4) }, RecordGraph = true });
        answer = await BackwardAsync(module, named, Wire.Pattern(1, 3));
        Assert.Empty(answer.InputGrads);
        Assert.Equal([1, 4], answer.NamedInputGrads["input"].Shape);
    }

    [Fact]
    public async Task Backward_gradients_of_wrong_count_shape_or_dtype_keep_the_graph()
    {
        var module = await CreateAsync(Specs.Linear);
        var graph = await RecordAsync(module, Wire.Pattern(2, 4));
        (await Refusal.OfAsync(() => BackwardAsync(module, graph, Wire.Pattern(2, 4)), StatusCode.InvalidArgument, "[2, 4]", "[2, 3]")).At("output_grads[0]");
        (await Refusal.OfAsync(() => BackwardAsync(module, graph, Wire.Of(DataType.Float64, [2, 3], new byte[48])), StatusCode.InvalidArgument, "float64", "float32")).At("output_grads[0]");
        await Refusal.OfAsync(
            async () => await Stubs.Execution.BackwardAsync(new() { Module = module, Graph = graph.Graph.Id, OutputGrads = { Wire.Pattern(2, 3), Wire.Pattern(2, 3) } }),
            StatusCode.InvalidArgument, "2", "one");
        await Refusal.OfAsync(async () => await Stubs.Execution.BackwardAsync(new() { Module = module, Graph = graph.Graph.Id }), StatusCode.InvalidArgument);
        await BackwardAsync(module, graph, Wire.Pattern(2, 3));
    }

    public static TheoryData<string> Changes => ["load", "convert", "step", "train step", "apply"];

    [Theory]
    [MemberData(nameof(Changes))]
    public async Task Backward_after_a_change_names_both_generations(string change)
    {
        var module = await CreateAsync(Specs.Linear);
        await Stubs.Training.CreateOptimizerAsync(new() { Module = module, Type = "SGD" });
        var state = await Streams.DrainAsync(Stubs.State.GetStateDict(new() { Module = module }));
        var loss = new Loss { Type = "MSELoss" };
        await Stubs.Training.ForwardBackwardAsync(new() { Module = module, Inputs = { Wire.Pattern(1, 4) }, Targets = { Wire.Pattern(1, 3) }, Loss = loss });
        var graph = await RecordAsync(module, Wire.Pattern(1, 4));

        var after = change switch
        {
            "load" => (await Streams.SendAsync(Stubs.State.LoadStateDict(), state.Select(part => AsLoad(part, module)))).Generation,
            "convert" => (await Stubs.Modules.ToAsync(new() { Module = module, Conversion = Conversion.Double })).Module.Generation,
            "step" => (await Stubs.Training.OptimizerStepAsync(new() { Module = module })).Generation,
            "train step" => (await Stubs.Training.TrainStepAsync(new() { Module = module, Inputs = { Wire.Pattern(1, 4) }, Targets = { Wire.Pattern(1, 3) }, Loss = loss })).Generation,
            _ => (await Stubs.Modules.ApplyAsync(new() { Module = module, Function = "zeros_" })).Module.Generation,
        };

        Assert.True(after > graph.Generation);
        var refusal = await Refusal.OfAsync(() => BackwardAsync(module, graph, Wire.Pattern(1, 3)), StatusCode.FailedPrecondition, $"{graph.Generation}", $"{after}");
        refusal.For("GRAPH_INVALIDATED");
    }

    [Fact]
    public async Task Graph_released_expired_or_of_another_module_is_NOT_FOUND()
    {
        var module = await CreateAsync(Specs.Linear);
        var other = await CreateAsync(Specs.Linear);
        var released = await RecordAsync(module, Wire.Pattern(1, 4));
        await Stubs.Execution.ReleaseGraphAsync(new() { Module = module, Graph = released.Graph.Id });
        await Refusal.OfAsync(() => BackwardAsync(module, released, Wire.Pattern(1, 3)), StatusCode.NotFound, released.Graph.Id);
        await Refusal.OfAsync(async () => await Stubs.Execution.ReleaseGraphAsync(new() { Module = module, Graph = released.Graph.Id }), StatusCode.NotFound);

        var graph = await RecordAsync(module, Wire.Pattern(1, 4));
        await Refusal.OfAsync(() => BackwardAsync(other, graph, Wire.Pattern(1, 3)), StatusCode.NotFound);

        var brief = await Stubs.Execution.ForwardAsync(
            new() { Module = module, Inputs = { Wire.Pattern(1, 4) }, RecordGraph = true, GraphTtl = Duration.FromTimeSpan(TimeSpan.FromMilliseconds(50)) });
        await Task.Delay(200);
        await Refusal.OfAsync(() => BackwardAsync(module, brief, Wire.Pattern(1, 3)), StatusCode.NotFound);
    }

    [Fact]
    public async Task Graph_ttl_that_is_not_positive_or_beyond_the_limit_names_field()
    {
        var module = await CreateAsync(Specs.Linear);
        foreach (var (ttl, words) in new[] { (TimeSpan.Zero, "is 0s"), (TimeSpan.FromSeconds(-1), "is -1s"), (TimeSpan.FromMilliseconds(90_000_500), "is 90000.5s; it must be > 0 and at most max_ttl, which is 86400s") })
        {
            (await Refusal.OfAsync(
                async () => await Stubs.Execution.ForwardAsync(new() { Module = module, Inputs = { Wire.Pattern(1, 4) }, RecordGraph = true, GraphTtl = Duration.FromTimeSpan(ttl) }),
                StatusCode.InvalidArgument, words)).At("graph_ttl");
        }
    }

    [Fact]
    public async Task Graph_expires_by_itself_and_frees_its_memory()
    {
        var module = await CreateAsync(Specs.Linear);
        var used = await UsedBytesAsync();

        // Time enough to see it first.
        await Stubs.Execution.ForwardAsync(
            new() { Module = module, Inputs = { Wire.Pattern(64, 4) }, RecordGraph = true, GraphTtl = Duration.FromTimeSpan(TimeSpan.FromSeconds(4)) });
        Assert.True(await UsedBytesAsync() > used, "a live graph is charged");
        await SettlesAsync(async () => await UsedBytesAsync() == used, async () => $"{await UsedBytesAsync()} bytes are charged after the graph's time; {used} were before it");
    }

    [Fact]
    public async Task Graph_budget_full_is_RESOURCE_EXHAUSTED_and_recovers()
    {
        // 4 MiB outputs against a budget of 64 MiB.
        var module = await CreateAsync(Specs.Identity);
        var x = Wire.Pattern(1 << 20);
        var graphs = new List<string>();
        var refused = false;
        for (var i = 0; i < 64 && !refused; i++)
        {
            try
            {
                graphs.Add((await RecordAsync(module, x)).Graph.Id);
            }
            catch (RpcException e) when (e.StatusCode == StatusCode.ResourceExhausted)
            {
                Assert.Contains("graph_budget_bytes", e.Status.Detail, StringComparison.Ordinal);
                refused = true;
            }
        }

        Assert.True(refused, "64 graphs of 4 MiB fitted into 64 MiB");
        await Stubs.Execution.ReleaseGraphAsync(new() { Module = module, Graph = graphs[0] });
        await RecordAsync(module, x);
    }

    [Fact]
    public async Task DeleteModule_with_a_live_graph_frees_it()
    {
        var used = await UsedBytesAsync();
        var module = await CreateAsync(Specs.Mlp);
        await RecordAsync(module, Wire.Pattern(8, 4));
        Assert.Equal(1U, (await Stubs.Modules.GetModuleAsync(new() { Module = module })).Module.LiveGraphs);
        await Stubs.Modules.DeleteModuleAsync(new() { Module = module });
        Deleted(module);
        await SettlesAsync(async () => await UsedBytesAsync() == used, async () => $"{await UsedBytesAsync()} bytes are charged; {used} were before");
    }

    private async Task<ForwardResponse> RecordAsync(string module, Tensor x) =>
        await Stubs.Execution.ForwardAsync(new() { Module = module, Inputs = { x }, RecordGraph = true });

    private async Task<BackwardResponse> BackwardAsync(string module, ForwardResponse forward, Tensor gradient, bool retain = false) =>
        await Stubs.Execution.BackwardAsync(new() { Module = module, Graph = forward.Graph.Id, OutputGrads = { gradient }, RetainGraph = retain });

    private async Task<Dictionary<string, float[]>> StateAsync(string module) =>
        StateReader.Read(await Streams.DrainAsync(Stubs.State.GetStateDict(new() { Module = module })), part => (part.Manifest, part.Chunk));

    private async Task<Dictionary<string, float[]>> GradientsAsync(string module) =>
        StateReader.Read(await Streams.DrainAsync(Stubs.Training.GetGradients(new() { Module = module })), part => (part.Manifest, part.Chunk));

    private static LoadStateDictRequest AsLoad(GetStateDictResponse part, string module) => part.PartCase switch
    {
        GetStateDictResponse.PartOneofCase.Manifest => new() { Header = new() { Module = module, Entries = { part.Manifest.Entries } } },
        GetStateDictResponse.PartOneofCase.Chunk => new() { Chunk = part.Chunk },
        _ => new() { End = part.End },
    };
}
