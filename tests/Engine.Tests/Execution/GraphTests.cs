using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static Sconce.Engine.Tests.Execution.Testing;

namespace Sconce.Engine.Tests.Execution;

public sealed class GraphTests
{
    [Fact]
    public async Task Backward_across_calls_gives_input_and_parameter_gradients()
    {
        await using var host = Host();
        var module = await host.Create("m", Linear(3, 1));
        using var forward = await module.ForwardAsync(Record(Floats([2, 3], 1, 2, 3, 4, 5, 6)), default);

        using var backward = await module.BackwardAsync(new BackwardCall { Graph = forward.Graph!.Id, OutputGrads = [Floats([2, 1], 1, 10)] }, default);

        using var state = await module.GetStateAsync("", [], default);
        var weight = System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(state.Read(0, 0, 12).Span).ToArray();
        var gradient = Assert.Single(backward.InputGrads)!;
        Assert.Equal([2L, 3L], gradient.Shape);
        Assert.Equal([.. weight, .. weight.Select(w => w * 10)], gradient.Values());
        var description = await module.DescribeAsync("", default);
        Assert.All(description.Root.Parameters, parameter => Assert.True(parameter.HasGrad));
        Assert.Equal(0, module.Summary.LiveGraphs);
    }

    [Fact]
    public async Task Backward_of_named_inputs_gives_their_gradients_by_name()
    {
        await using var host = Host();
        var module = await host.Create("m", Linear(2, 1));
        var inputs = new CallInputs([], [KeyValuePair.Create("input", Floats([1, 2], 1, 2))]);
        using var forward = await module.ForwardAsync(new ForwardCall { Inputs = inputs, RecordGraph = true }, default);

        // The output is one scalar, so its gradient may be left out.
        using var backward = await module.BackwardAsync(new BackwardCall { Graph = forward.Graph!.Id }, default);

        Assert.Empty(backward.InputGrads);
        var (name, gradient) = Assert.Single(backward.NamedInputGrads);
        Assert.Equal("input", name);
        Assert.Equal([1L, 2L], gradient!.Shape);
    }

    [Fact]
    public async Task Backward_without_input_grads_returns_none_for_the_input()
    {
        await using var host = Host();
        var module = await host.Create("m", Linear(2, 1));
        using var forward = await module.ForwardAsync(
            new ForwardCall { Inputs = new CallInputs([Floats([1, 2], 1, 2)]), RecordGraph = true, InputGrads = false }, default);
        using var backward = await module.BackwardAsync(new BackwardCall { Graph = forward.Graph!.Id }, default);
        Assert.Null(Assert.Single(backward.InputGrads));
    }

    [Fact]
    public async Task Backward_twice_without_retain_graph_says_that_it_was_used()
    {
        await using var host = Host();
        var module = await host.Create("m", Linear(2, 1));
        using var forward = await module.ForwardAsync(Record(Floats([1, 2], 1, 2)), default);
        var call = new BackwardCall { Graph = forward.Graph!.Id };
        (await module.BackwardAsync(call, default)).Dispose();

        var error = await module.BackwardAsync(call, default).Fails(EngineError.FailedPrecondition, "was used", "retain_graph");

        Assert.Equal("GRAPH_USED", error.Reason);
        Assert.Equal(new ResourceRef("graph", call.Graph), error.Resource);
    }

    [Fact]
    public async Task Backward_with_retain_graph_gives_the_same_input_gradients_again()
    {
        await using var host = Host();
        var module = await host.Create("m", Mlp());
        using var forward = await module.ForwardAsync(Record(Filled(1, 1, 4)), default);
        var call = new BackwardCall { Graph = forward.Graph!.Id, OutputGrads = [Filled(1, 1, 2)], RetainGraph = true };
        using var first = await module.BackwardAsync(call, default);
        using var second = await module.BackwardAsync(call, default);
        Assert.Equal(first.InputGrads[0]!.Values(), second.InputGrads[0]!.Values());
        module.ReleaseGraph(call.Graph);
        await module.BackwardAsync(call, default).Fails(EngineError.NotFound, "no graph");
    }

    [Fact]
    public async Task Backward_with_gradients_that_do_not_fit_names_each_and_keeps_the_graph()
    {
        await using var host = Host();
        var module = await host.Create("m", Mlp());
        using var forward = await module.ForwardAsync(Record(Filled(1, 3, 4)), default);
        var id = forward.Graph!.Id;

        var shape = await module.BackwardAsync(new BackwardCall { Graph = id, OutputGrads = [Filled(1, 3, 1)] }, default)
            .Fails(EngineError.InvalidArgument, "float32 [3, 1]", "float32 [3, 2]");
        Assert.Equal("output_grads[0]", Assert.Single(shape.Fields).Field);
        await module.BackwardAsync(new BackwardCall { Graph = id, OutputGrads = [Filled(1, 3, 2), Filled(1, 3, 2)] }, default)
            .Fails(EngineError.InvalidArgument, "has 2 gradients", "one output");
        await module.BackwardAsync(new BackwardCall { Graph = id }, default).Fails(EngineError.InvalidArgument, "is empty", "scalar");

        (await module.BackwardAsync(new BackwardCall { Graph = id, OutputGrads = [Filled(1, 3, 2)] }, default)).Dispose();
    }

    [Fact]
    public async Task Backward_after_a_conversion_names_both_generations()
    {
        await using var host = Host();
        var module = await host.Create("m", Mlp());
        using var forward = await module.ForwardAsync(Record(Filled(1, 1, 4)), default);
        var graphs = host.Ledger.Used(MemoryUse.Graphs);
        await module.ConvertAsync(default, new ConversionPlan(ConversionKind.Double), default);

        var error = await module.BackwardAsync(new BackwardCall { Graph = forward.Graph!.Id, OutputGrads = [Filled(1, 1, 2)] }, default)
            .Fails(EngineError.FailedPrecondition, "generation 1 ", "generation 2;");

        Assert.Equal("GRAPH_INVALIDATED", error.Reason);
        Assert.True(graphs > 0);
        Assert.Equal(0, host.Ledger.Used(MemoryUse.Graphs));
    }

    [Fact]
    public async Task Graph_past_its_time_to_live_is_gone_and_uncharged()
    {
        var time = new ManualTime();
        await using var host = Host(time: time);
        var module = await host.Create("m", Mlp());
        using var forward = await module.ForwardAsync(
            new ForwardCall { Inputs = new CallInputs([Filled(1, 1, 4)]), RecordGraph = true, GraphTtl = TimeSpan.FromSeconds(10) }, default);
        Assert.Equal(time.GetUtcNow() + TimeSpan.FromSeconds(10), forward.Graph!.Expires);

        time.Advance(TimeSpan.FromSeconds(10));
        await module.BackwardAsync(new BackwardCall { Graph = forward.Graph.Id }, default).Fails(EngineError.NotFound, "expired");
        host.Sweep();

        Assert.Equal(0, host.Ledger.Used(MemoryUse.Graphs));
        Assert.Equal(0, module.Summary.LiveGraphs);
    }

    [Fact]
    public async Task Forward_over_the_graph_budget_is_refused_and_leaves_nothing()
    {
        await using var host = Host(options => options.GraphBudgetBytes = 1000);
        var module = await host.Create("m", Mlp(hidden: 16));
        var before = host.Ledger.UsedBytes;

        var error = await module.ForwardAsync(Record(Filled(1, 64, 4)), default).Fails(EngineError.ResourceExhausted, "graph_budget_bytes");

        // 64 x (16 + 16 + 2) outputs and 64 x 4 inputs of 4 bytes.
        Assert.Equal(64 * (16 + 16 + 2 + 4) * 4, error.Quota!.Asked);
        Assert.Equal(before, host.Ledger.UsedBytes);
        Assert.Equal(0, module.Summary.LiveGraphs);
    }

    [Fact]
    public async Task Forward_beyond_the_graphs_of_a_module_is_refused()
    {
        await using var host = Host(options => options.MaxGraphsPerModule = 2);
        var module = await host.Create("m", Mlp());
        for (var i = 0; i < 2; i++)
        {
            (await module.ForwardAsync(Record(Filled(1, 1, 4)), default)).Dispose();
        }

        await module.ForwardAsync(Record(Filled(1, 1, 4)), default).Fails(EngineError.ResourceExhausted, "max_graphs_per_module");
        Assert.Equal(2, module.Summary.LiveGraphs);
    }

    [Fact]
    public async Task Session_end_frees_its_graphs_and_tensors_and_no_others()
    {
        await using var host = Host();
        var module = await host.Create("m", Mlp());
        var session = host.Sessions.Open("test");
        host.Tensors.Put("mine", Payload([2], 1, 2), null, session.Id);
        host.Tensors.Put("free", Payload([2], 1, 2), null, "");
        using var owned = await module.ForwardAsync(new ForwardCall { Inputs = new CallInputs([Filled(1, 1, 4)]), RecordGraph = true, Session = session.Id }, default);
        using var free = await module.ForwardAsync(Record(Filled(1, 1, 4)), default);

        session.Dispose();

        Assert.Equal("free", Assert.Single(host.Tensors.List("")).Id);
        await module.BackwardAsync(new BackwardCall { Graph = owned.Graph!.Id, OutputGrads = [Filled(1, 1, 2)] }, default).Fails(EngineError.NotFound, "no graph");
        (await module.BackwardAsync(new BackwardCall { Graph = free.Graph!.Id, OutputGrads = [Filled(1, 1, 2)] }, default)).Dispose();
        Assert.Equal(8, host.Ledger.Used(MemoryUse.KeptTensors));
        await module.ForwardAsync(new ForwardCall { Inputs = new CallInputs([Filled(1, 1, 4)]), RecordGraph = true, Session = session.Id }, default)
            .Fails(EngineError.NotFound, "no session");
    }

    [Fact]
    public async Task Forward_in_place_records_a_graph_that_reaches_the_input()
    {
        await using var host = Host();
        var module = await host.Create("m", Sequential(Of("ReLU", ("inplace", true))));
        using var forward = await module.ForwardAsync(Record(Floats([3], -1, 2, 3)), default);
        using var backward = await module.BackwardAsync(new BackwardCall { Graph = forward.Graph!.Id, OutputGrads = [Floats([3], 5, 6, 7)] }, default);
        Assert.Equal([0f, 6f, 7f], backward.InputGrads[0]!.Values());
    }

    [Fact]
    public async Task Backward_of_identity_gives_the_gradient_itself()
    {
        await using var host = Host();
        var module = await host.Create("m", Of("Identity"));
        using var forward = await module.ForwardAsync(Record(Floats([2], 1, 2)), default);
        Assert.Equal([1f, 2f], forward.Values());
        using var backward = await module.BackwardAsync(new BackwardCall { Graph = forward.Graph!.Id, OutputGrads = [Floats([2], 3, 4)] }, default);
        Assert.Equal([3f, 4f], backward.InputGrads[0]!.Values());
    }

    [Fact]
    public async Task Backward_where_nothing_requires_a_gradient_says_so()
    {
        await using var host = Host();
        var module = await host.Create("m", Mlp());
        await module.RequiresGradAsync(default, false, [], default);
        using var forward = await module.ForwardAsync(new ForwardCall { Inputs = new CallInputs([Filled(1, 1, 4)]), RecordGraph = true, InputGrads = false }, default);
        var error = await module.BackwardAsync(new BackwardCall { Graph = forward.Graph!.Id, OutputGrads = [Filled(1, 1, 2)] }, default)
            .Fails(EngineError.FailedPrecondition, "requires a gradient");
        Assert.Equal("NO_GRADIENT", error.Reason);
    }

    [Fact]
    public async Task Backward_after_statistics_have_moved_says_that_the_module_has_changed()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("BatchNorm1d", ("num_features", 4.0)));
        using var forward = await module.ForwardAsync(Record(Filled(1, 3, 4)), default);
        await module.TrainAsync(default, true, default);
        (await module.ForwardAsync(Call(Filled(2, 3, 4)), default)).Dispose();
        var error = await module.BackwardAsync(new BackwardCall { Graph = forward.Graph!.Id, OutputGrads = [Filled(1, 3, 4)] }, default)
            .Fails(EngineError.FailedPrecondition, "generation 1", "has changed");
        Assert.Equal("GRAPH_INVALIDATED", error.Reason);
        Assert.Equal(0, host.Ledger.Used(MemoryUse.Gradients));
    }

    [Fact]
    public async Task Graphs_of_several_forwards_in_training_mode_accumulate()
    {
        await using var host = Host();
        var module = await host.Create("m", Of("BatchNorm1d", ("num_features", 4.0)));
        using var first = await module.ForwardAsync(Record(Floats([2, 4], 1, 2, 3, 4, 5, 6, 7, 8)), default);
        using var second = await module.ForwardAsync(Record(Floats([2, 4], 8, 7, 6, 5, 1, 2, 3, 4)), default);
        foreach (var forward in new[] { second, first })
        {
            (await module.BackwardAsync(new BackwardCall { Graph = forward.Graph!.Id, OutputGrads = [Filled(1, 2, 4)] }, default)).Dispose();
        }

        using var gradients = await module.GetGradientsAsync("", ["bias"], default);
        Assert.Equal([4f, 4f, 4f, 4f], System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(gradients.Read(0, 0, 16).Span).ToArray());
    }

    [Fact]
    public async Task Outputs_and_gradients_keep_the_structure_of_a_tuple()
    {
        await using var host = Host();
        var module = await host.Create("m", Of("LSTM", ("input_size", 3.0), ("hidden_size", 2.0)));
        using var forward = await module.ForwardAsync(Record(Filled(1, 5, 1, 3)), default);
        Assert.Equal(2, forward.Output.Items!.Count);
        Assert.Equal([5L, 1L, 2L], forward.Output.Items[0].Tensor!.Shape);
        Assert.Equal([[1L, 1L, 2L], [1L, 1L, 2L]], forward.Output.Items[1].Items!.Select(item => item.Tensor!.Shape));

        // output, h_n, c_n: only the middle one takes part.
        using var backward = await module.BackwardAsync(
            new BackwardCall { Graph = forward.Graph!.Id, OutputGrads = [TensorInput.None, Filled(1, 1, 1, 2), TensorInput.None] }, default);
        Assert.Contains(backward.InputGrads[0]!.Values(), value => value != 0);
    }
}
