using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.Modules;

/// <summary>What nn.Module registers, reads and lists by name, on a live server.</summary>
public sealed class RegistrationTests(SharedServer server) : ClientTest(server)
{
    [Fact]
    public async Task A_head_is_replaced_and_trained_and_the_rest_stays()
    {
        var model = await NewAsync(Specs.Mlp);
        var before = await model.StateDictAsync();
        var generation = (await model.GetAsync()).Generation;
        var head = await model.AddModuleAsync("2", Nn.Linear(8, 5), seed: 3);
        Assert.Equal("2", head.Path);
        var summary = await model.GetAsync();
        Assert.Equal((generation + 1, (ulong)((4 * 8) + 8 + (8 * 5) + 5)), (summary.Generation, summary.Parameters));
        Assert.Equal(summary.Parameters * 4, summary.Bytes);

        var after = await model.StateDictAsync();
        Assert.Equal(["0.weight", "0.bias", "2.weight", "2.bias"], after.Keys);
        Assert.Equal(before["0.weight"].As<float>().ToArray(), after["0.weight"].As<float>().ToArray());
        Assert.Equal([2L, 5L], (await model.ForwardAsync(Pattern(2, 4))).Tensor.Shape);
        await model.CreateOptimizerAsync("SGD", [("lr", 0.1)]);
        await model.TrainStepAsync(Pattern(2, 4), Classes(2), Nn.CrossEntropyLoss());
        Assert.NotEqual(after["2.bias"].As<float>().ToArray(), (await model.GetParameterAsync("2.bias")).Tensor.As<float>().ToArray());

        // What the optimizer holds stays, and the message names both.
        var error = await Assert.ThrowsAsync<SconceFailedPreconditionException>(() => model.AddModuleAsync("2", Nn.Linear(8, 2)));
        Assert.Contains("\"2.weight\"", error.Message, StringComparison.Ordinal);
        Assert.Contains("\"default\"", error.Message, StringComparison.Ordinal);

        await model.AddModuleAsync("soft", Nn.Module("Softmax", ("dim", -1)));
        Assert.Equal(1, (await model.ForwardAsync(Pattern(1, 4))).Tensor.As<float>().ToArray().Sum(), 4);
    }

    [Fact]
    public async Task Dropout_that_is_added_draws_from_then_on()
    {
        var model = await NewAsync(Specs.Linear);
        await model.AddModuleAsync("aside", Nn.Dropout(0.5));
        var net = await NewAsync(Nn.Sequential(Nn.ReLU()));
        await net.AddModuleAsync("drop", Nn.Dropout(0.5));
        await net.ManualSeedAsync(5);
        var first = (await net.ForwardAsync(Pattern(1, 64))).Tensor.As<float>().ToArray();
        await net.ManualSeedAsync(5);
        Assert.Equal(first, (await net.ForwardAsync(Pattern(1, 64))).Tensor.As<float>().ToArray());
        Assert.NotEqual(first, (await net.ForwardAsync(Pattern(1, 64))).Tensor.As<float>().ToArray());
    }

    [Fact]
    public async Task Parameters_and_buffers_are_registered_read_copied_converted_and_loaded()
    {
        var model = await NewAsync(Specs.Mlp);
        var layer = model.GetSubmodule("0");
        await layer.RegisterParameterAsync("scale", TensorData.Create([1f, 2f]), requiresGrad: false);
        await layer.RegisterBufferAsync("count", TensorData.Scalar(3L));
        await layer.RegisterBufferAsync("cache", TensorData.Create([1f, 2f, 3f]), persistent: false);
        await layer.RegisterParameterAsync("none", TensorData.None);
        await layer.RegisterBufferAsync("nothing", TensorData.None);

        var state = await model.StateDictAsync();
        Assert.Equal(["0.weight", "0.bias", "0.scale", "0.count", "2.weight", "2.bias"], state.Keys);
        Assert.Equal(["0.weight", "0.bias", "0.scale", "2.weight", "2.bias"], (await model.NamedParametersAsync()).Select(p => p.Name));
        Assert.Equal(["count", "cache"], (await layer.NamedBuffersAsync()).Select(b => b.Name));
        var node = (await layer.DescribeAsync()).Root;
        Assert.Equal([("weight", false), ("bias", false), ("scale", false), ("none", true)], node.Parameters.Select(p => (p.Name, p.IsNone)));
        Assert.Equal([("count", false, true), ("cache", false, false), ("nothing", true, true)], node.Buffers.Select(b => (b.Name, b.IsNone, b.Persistent)));

        var scale = await model.GetParameterAsync("0.scale");
        Assert.Equal((DataType.Float32, false), (scale.Info.Dtype, scale.Info.RequiresGrad));
        Holds(scale.Tensor, 1f, 2f);
        Holds((await model.GetBufferAsync("0.cache")).Tensor, 1f, 2f, 3f);
        Assert.True((await model.GetBufferAsync("0.nothing")).Tensor.IsNone);
        await Assert.ThrowsAsync<SconceNotFoundException>(() => model.GetParameterAsync("0.none"));

        var copyName = NewName();
        var copy = await model.CopyAsync(copyName);
        Owns(copyName);
        await copy.DoubleAsync();
        Assert.Equal((DataType.Float64, DataType.Float64, DataType.Int64), (
            (await copy.GetBufferAsync("0.cache")).Info.Dtype, (await copy.GetParameterAsync("0.scale")).Info.Dtype, (await copy.GetBufferAsync("0.count")).Info.Dtype));
        Assert.Equal(state.Keys, (await copy.StateDictAsync()).Keys);
        await layer.RegisterParameterAsync("scale", TensorData.Create([5f, 6f]));
        await copy.LoadStateDictAsync(await model.StateDictAsync());
        Holds((await copy.GetParameterAsync("0.scale")).Tensor, 5.0, 6.0);
    }

    [Fact]
    public async Task Kept_tensors_are_registered_by_reference_and_copied()
    {
        var model = await NewAsync(Specs.Linear);
        await using var kept = await Client.PutTensorAsync(TensorData.Create([7f, 8f, 9f]));
        await model.RegisterParameterAsync("bias", kept);
        await kept.DropAsync();
        Holds((await model.GetParameterAsync("bias")).Tensor, 7f, 8f, 9f);
    }

    [Fact]
    public async Task Tied_weights_are_one_parameter()
    {
        var model = await NewAsync(Nn.Sequential(("wte", Nn.Module("Embedding", ("num_embeddings", 6), ("embedding_dim", 4))), ("lm_head", Nn.Linear(4, 6, bias: false))));
        await model.GetSubmodule("lm_head").TieParameterAsync("weight", "wte.weight");
        Assert.Equal(96UL, (await model.GetAsync()).Bytes);
        Assert.Equal(["wte.weight"], (await model.NamedParametersAsync()).Select(p => p.Name));
        Assert.Equal(["wte.weight", "lm_head.weight"], (await model.NamedParametersAsync(removeDuplicate: false)).Select(p => p.Name));
        await model.CreateOptimizerAsync("Adam", [("lr", 0.1)]);
        await model.DoubleAsync();
        await model.TrainStepAsync(TensorData.Create([1L, 2L]), TensorData.Create([0L, 3L]), Nn.CrossEntropyLoss());
        var state = await model.StateDictAsync();
        Assert.Equal(state["wte.weight"].Bytes.ToArray(), state["lm_head.weight"].Bytes.ToArray());
    }

    [Fact]
    public async Task Shared_children_are_one_module()
    {
        var model = await NewAsync(Nn.Sequential(("a", Nn.Linear(4, 4)), ("b", Nn.ReLU())));
        await model.AddModuleAsync("c", model.GetSubmodule("a"));
        Assert.Equal(["", "a", "b"], (await model.NamedModulesAsync()).Select(m => m.Key));
        Assert.Equal(["a.weight", "a.bias", "c.weight", "c.bias"], (await model.StateDictAsync()).Keys);
        await model.GetSubmodule("c").RegisterParameterAsync("bias", TensorData.Create([1f, 1f, 1f, 1f]));
        Holds((await model.GetParameterAsync("a.bias")).Tensor, 1f, 1f, 1f, 1f);
    }

    [Fact]
    public async Task Extra_state_goes_with_state_dicts_and_is_missed_or_unexpected()
    {
        var model = await NewAsync(Specs.Mlp);
        Assert.Null(await model.GetSubmodule("0").GetExtraStateAsync());
        await model.GetSubmodule("0").SetExtraStateAsync("{\"epoch\":3}"u8.ToArray());
        var state = await model.StateDictAsync();
        Assert.Equal(["0.weight", "0.bias", "0._extra_state", "2.weight", "2.bias"], state.Keys);
        Assert.Equal((DataType.Uint8, 11L), (state["0._extra_state"].DType, state["0._extra_state"].Length));
        var copyName = NewName();
        var copy = await model.CopyAsync(copyName);
        Owns(copyName);
        Assert.Equal("{\"epoch\":3}"u8.ToArray(), (await copy.GetSubmodule("0").GetExtraStateAsync())!.Value.ToArray());
        await copy.HalfAsync();
        await copy.GetSubmodule("0").SetExtraStateAsync(new byte[2]);
        await copy.LoadStateDictAsync(state);
        Assert.Equal("{\"epoch\":3}"u8.ToArray(), (await copy.GetSubmodule("0").GetExtraStateAsync())!.Value.ToArray());

        await copy.GetSubmodule("0").SetExtraStateAsync(null);
        var unexpected = await Assert.ThrowsAsync<SconceInvalidArgumentException>(() => copy.LoadStateDictAsync(state));
        Assert.Contains("\"0._extra_state\" is unexpected", unexpected.Message, StringComparison.Ordinal);
        var missing = await Assert.ThrowsAsync<SconceInvalidArgumentException>(async () => await model.LoadStateDictAsync(await copy.StateDictAsync()));
        Assert.Contains("\"0._extra_state\" is missing", missing.Message, StringComparison.Ordinal);
        Assert.Equal(["0._extra_state"], (await model.LoadStateDictAsync(await copy.StateDictAsync(), strict: false)).MissingKeys);
    }

    [Fact]
    public async Task A_repeat_with_the_same_id_registers_once_and_a_stale_generation_nothing()
    {
        var model = await NewAsync(Specs.Mlp);
        var request = new AddModuleRequest { Module = model.Name, Name = "extra", Spec = Nn.Linear(3, 3), RequestId = "add-once-" + model.Name };
        var first = await Stubs.Modules.AddModuleAsync(request);
        Assert.Equal(first, await Stubs.Modules.AddModuleAsync(request));
        var stale = model.With(new CallSettings { IfGeneration = 1 });
        await Assert.ThrowsAsync<SconceStaleGenerationException>(() => stale.RegisterBufferAsync("b", TensorData.Scalar(1f)));
        await Assert.ThrowsAsync<SconceStaleGenerationException>(() => stale.SetExtraStateAsync(new byte[1]));
        Assert.Equal(first.Module.Generation, (await model.GetAsync()).Generation);
    }

    [Fact]
    public async Task A_live_graph_ends_with_a_change_of_structure()
    {
        var model = await NewAsync(Specs.Mlp);
        await using var graph = await model.ForwardWithGraphAsync(Pattern(1, 4));
        await model.RegisterBufferAsync("b", TensorData.Scalar(1f));
        await Assert.ThrowsAsync<SconceFailedPreconditionException>(() => graph.BackwardAsync(Pattern(1, 3)));
    }

    [Fact]
    public async Task A_hook_stands_at_the_module_that_took_the_place()
    {
        var model = await NewAsync(Specs.Mlp);
        var hook = await model.GetSubmodule("2").RegisterForwardHookAsync(hook => hook.Mul(0.0));
        await model.AddModuleAsync("2", Nn.Linear(8, 5));
        Holds((await model.ForwardAsync(Pattern(1, 4))).Tensor, 0f, 0f, 0f, 0f, 0f);
        Assert.Equal([hook.Id], (await model.DescribeAsync()).Root.Children[2].Hooks);
    }

    [Fact]
    public async Task Rules_hold_what_is_added_later_and_show()
    {
        var model = await NewAsync(Specs.Mlp);
        await model.SetTrainPolicyAsync(new TrainPolicy { Rules = { new TrainRule { Path = "0", Hold = TrainHold.Eval, RequiresGrad = false }, new TrainRule { Path = "1", Hold = TrainHold.Train } } });
        await model.EvalAsync();
        await model.AddModuleAsync("0", Nn.Linear(4, 8));
        await model.TrainAsync();
        await model.EvalAsync();
        var description = await model.DescribeAsync();
        Assert.Equal(2, description.TrainPolicy.Rules.Count);
        Assert.Equal([(false, TrainHold.Eval), (true, TrainHold.Train), (false, TrainHold.Unspecified)], description.Root.Children.Select(child => (child.Training, child.Hold)));
        Assert.Equal([true, false, false], description.Root.Children.Select(child => child.HasHoldRequiresGrad));
        Assert.All(description.Root.Children[0].Parameters, parameter => Assert.False(parameter.RequiresGrad));
        Assert.All(description.Root.Children[2].Parameters, parameter => Assert.True(parameter.RequiresGrad));
    }

    [Fact]
    public async Task Apply_shows_each_visit_in_PyTorchs_order()
    {
        // The example of the documentation of nn.Module.apply.
        var net = await NewAsync(Nn.Sequential(Nn.Linear(2, 2), Nn.Linear(2, 2)));
        var applied = await net.ApplyAsync("fill_", [("val", 1.0)], new ApplyFilter { Type = "Linear", Parameters = ["weight"] });
        Assert.Equal(
            [("0", "Linear(in_features=2, out_features=2, bias=True)", true), ("1", "Linear(in_features=2, out_features=2, bias=True)", true), ("", "Sequential()", false)],
            applied.Visits.Select(visit => (visit.Path, visit.Repr, visit.Applied)));
        Assert.Equal(["0", "1"], applied.Applied);
        Holds((await net.GetParameterAsync("1.weight")).Tensor, 1f, 1f, 1f, 1f);
    }

    private static void Holds<T>(TensorData tensor, params T[] expected)
        where T : unmanaged => Assert.Equal(expected, tensor.As<T>().ToArray());
}
