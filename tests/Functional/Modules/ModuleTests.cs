using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.Modules;

/// <summary>A module's life: created, found, described, copied, deleted.</summary>
public sealed class ModuleTests(SharedServer server) : ClientTest(server)
{
    [Fact]
    public async Task Create_get_list_and_delete()
    {
        var name = NewName();
        var model = await Client.CreateModuleAsync(name, Specs.Mlp, seed: 3);
        Owns(name);
        var summary = await model.GetAsync();
        Assert.Equal("Sequential", summary.Type);
        Assert.True(summary.Training);
        Assert.Equal(67UL, summary.Parameters);
        Assert.Equal(268UL, summary.Bytes);
        Assert.Equal("cpu", summary.Device);
        Assert.Contains(await Client.ListModulesAsync(name), module => module.Name == name);

        await model.DeleteAsync();
        Deleted(name);
        await Assert.ThrowsAsync<SconceNotFoundException>(() => model.GetAsync());
        Assert.DoesNotContain(await Client.ListModulesAsync(), module => module.Name == name);
    }

    [Fact]
    public async Task Create_with_a_seed_is_repeatable_and_in_another_dtype_is_of_that()
    {
        var a = await NewAsync(Specs.Mlp, seed: 7);
        var b = await NewAsync(Specs.Mlp, seed: 7);
        var c = await NewAsync(Specs.Mlp, seed: 8);
        Assert.Equal(Flat(await a.StateDictAsync()), Flat(await b.StateDictAsync()));
        Assert.NotEqual(Flat(await a.StateDictAsync()), Flat(await c.StateDictAsync()));

        var name = NewName();
        var wide = await Client.CreateModuleAsync(name, Specs.Mlp, dtype: DataType.Float64);
        Owns(name);
        Assert.Equal(536UL, (await wide.GetAsync()).Bytes);
        Assert.Equal(DataType.Float64, (await wide.StateDictAsync())["0.weight"].DType);
    }

    [Fact]
    public async Task Describe_prints_as_PyTorch_does()
    {
        var model = await NewAsync(Specs.Conv);
        var description = await model.DescribeAsync();
        Assert.Equal(
            """
            Sequential(
              (stem): Sequential(
                (conv): Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1))
                (bn): BatchNorm2d(2, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)
                (relu): ReLU()
              )
              (flatten): Flatten(start_dim=1, end_dim=-1)
              (head): Linear(in_features=32, out_features=3, bias=True)
            )
            """,
            description.Repr);
        var bn = description.Root.Children[0].Children[1];
        Assert.Equal("stem.bn", bn.Path);
        Assert.Equal(["running_mean", "running_var", "num_batches_tracked"], bn.Buffers.Select(buffer => buffer.Name));
        Assert.Equal(DataType.Int64, bn.Buffers[2].Dtype);
        Assert.Equal(["weight", "bias"], bn.Parameters.Select(parameter => parameter.Name));
        Assert.Equal("conv", (await model.GetSubmodule("stem").DescribeAsync()).Root.Children[0].Name);
    }

    [Fact]
    public async Task Train_and_eval_recurse_and_a_policy_survives()
    {
        var model = await NewAsync(Specs.Conv);
        await model.EvalAsync();
        Assert.All(await ModesAsync(model), mode => Assert.False(mode.Training));
        await model.GetSubmodule("stem").TrainAsync();
        Assert.Equal(["stem", "stem.conv", "stem.bn", "stem.relu"], (await ModesAsync(model)).Where(mode => mode.Training).Select(mode => mode.Path));

        await model.SetTrainPolicyAsync(new TrainPolicy { NormEval = true, Frozen = { "head" } });
        await model.TrainAsync();
        Assert.Equal(["stem.bn", "head"], (await ModesAsync(model)).Where(mode => !mode.Training).Select(mode => mode.Path));
        var description = await model.DescribeAsync();
        Assert.True(description.TrainPolicy.NormEval);
        Assert.All(description.Root.Children[2].Parameters, parameter => Assert.False(parameter.RequiresGrad));
    }

    [Fact]
    public async Task Train_mode_changes_what_a_batch_norm_computes_and_eval_does_not_record()
    {
        var model = await NewAsync(Specs.Conv);
        var x = Pattern(4, 1, 6, 6);
        var before = await model.StateDictAsync();
        await model.EvalAsync();
        var eval = await model.ForwardAsync(x);
        Assert.Equal(Flat(before), Flat(await model.StateDictAsync()));
        await model.TrainAsync();
        var train = await model.ForwardAsync(x);
        Assert.NotEqual(eval.As<float>().ToArray(), train.As<float>().ToArray());
        var after = await model.StateDictAsync();
        Assert.Equal(1, after["stem.bn.num_batches_tracked"].Item<long>());
        Assert.NotEqual(before["stem.bn.running_mean"].As<float>().ToArray(), after["stem.bn.running_mean"].As<float>().ToArray());
    }

    [Fact]
    public async Task Copy_is_independent_and_of_a_submodule_too()
    {
        var model = await NewAsync(Specs.Conv);
        await model.GetSubmodule("head").RequiresGradAsync(false);
        await model.EvalAsync();
        var x = Pattern(2, 1, 6, 6);
        var expected = (await model.ForwardAsync(x)).As<float>().ToArray();

        var copy = await model.CopyAsync(NewName());
        Owns(copy.Name);
        Assert.False((await copy.GetAsync()).Training);
        Assert.False((await copy.DescribeAsync()).Root.Children[2].Parameters[0].RequiresGrad);
        Assert.Equal(expected, (await copy.ForwardAsync(x)).As<float>().ToArray());
        await copy.ApplyAsync("zeros_");
        Assert.Equal(expected, (await model.ForwardAsync(x)).As<float>().ToArray());

        var head = await model.GetSubmodule("head").CopyAsync(NewName());
        Owns(head.Name);
        Assert.Equal("Linear", (await head.GetAsync()).Type);
        Assert.Equal(["weight", "bias"], (await head.StateDictAsync()).Keys);
    }

    [Fact]
    public async Task Shared_submodule_is_one_module_under_both_names()
    {
        var spec = Nn.Sequential(Nn.Linear(4, 4), Nn.ReLU());
        spec.Children.Add(new ChildSpec { Share = "0" });
        var model = await NewAsync(spec);
        Assert.Equal(20UL, (await model.GetAsync()).Parameters);
        var state = await model.StateDictAsync();
        Assert.Equal(["0.weight", "0.bias", "2.weight", "2.bias"], state.Keys);
        await model.GetSubmodule("2").ApplyAsync("ones_");
        Assert.All((await model.StateDictAsync())["0.weight"].As<float>().ToArray(), value => Assert.Equal(1, value));
    }

    [Fact]
    public async Task Wired_module_runs_residuals_and_several_inputs()
    {
        var wiring = new Wiring
        {
            Inputs = { "x", "scale?" },
            Steps =
            {
                new WiringStep { Name = "a", Module = "fc", Inputs = { "x" } },
                new WiringStep { Name = "sum", Function = "add", Inputs = { "a", "x" } },
            },
            Outputs = { "sum", "a" },
        };
        var model = await NewAsync(Nn.Graph(wiring, ("fc", Nn.Linear(4, 4))));
        var x = Pattern(2, 4);
        var output = await model.ForwardAsync(x);
        Assert.Equal(2, output.Items.Count);
        var a = output[1].As<float>().ToArray();
        Assert.Equal(a.Zip(x.As<float>().ToArray(), (left, right) => left + right), output[0].As<float>().ToArray());
    }

    [Fact]
    public async Task Call_of_forward_is_Forward_and_LSTM_keeps_its_structure()
    {
        var model = await NewAsync(Nn.Module("LSTM", ("input_size", 4), ("hidden_size", 3)));
        var output = await model.CallAsync("forward", Pattern(5, 2, 4));
        Assert.Equal("(float32[5, 2, 3], (float32[1, 2, 3], float32[1, 2, 3]))", output.ToString());
        Assert.Equal(output.ToString(), (await model.ForwardAsync([Pattern(5, 2, 4), Pattern(1, 2, 3), Pattern(1, 2, 3)])).ToString());
    }

    [Fact]
    public async Task Apply_fills_what_the_filter_selects_children_first()
    {
        var model = await NewAsync(Specs.Conv);
        var applied = await model.ApplyAsync("constant_", [("val", 0.5)], new() { IsInstance = "_ConvNd", Parameters = ["weight"] });
        Assert.Equal(["stem.conv"], applied.Applied);
        var state = await model.StateDictAsync();
        Assert.All(state["stem.conv.weight"].As<float>().ToArray(), value => Assert.Equal(0.5f, value));
        Assert.DoesNotContain(0.5f, state["head.weight"].As<float>().ToArray());

        await model.ApplyAsync("reset_parameters", seed: 5);
        var once = Flat(await model.StateDictAsync());
        await model.ApplyAsync("reset_parameters", seed: 5);
        Assert.Equal(once, Flat(await model.StateDictAsync()));
    }

    private static async Task<List<(string Path, bool Training)>> ModesAsync(RemoteModule model)
    {
        var modes = new List<(string, bool)>();
        Visit((await model.DescribeAsync()).Root);
        return modes;

        void Visit(ModuleNode node)
        {
            modes.Add((node.Path, node.Training));
            foreach (var child in node.Children)
            {
                Visit(child);
            }
        }
    }

    private static byte[] Flat(StateDict state) => [.. state.Values.SelectMany(tensor => tensor.Bytes.ToArray())];
}
