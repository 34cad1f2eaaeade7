using Grpc.Core;
using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.PlugIns;

/// <summary>The sample plug-in over a real server: what holds of every module holds of it.</summary>
public sealed class SampleTests(PlugInServer server) : IClassFixture<PlugInServer>
{
    private static int _names;

    private static ModuleSpec Spec => Nn.Module("GatedMlp", ("features", 4), ("hidden", 6));

    private static TensorData X => Pattern(8, 4);

    [Fact]
    public async Task Log_tells_what_was_loaded_and_what_was_left_out()
    {
        Assert.Contains(server.Process.Log, line => line.Contains("plug-in", StringComparison.Ordinal) && line.Contains("Samples.GatedMlp", StringComparison.Ordinal));
        Assert.Contains(server.Process.Log, line => line.Contains("garbage.dll", StringComparison.Ordinal));
        Assert.Contains(server.Process.Log, line => line.Contains("empty", StringComparison.Ordinal) && line.Contains("name the folder as its assembly", StringComparison.Ordinal));
        Assert.Contains(server.Process.Log, line => line.Contains("another plug-in has a class of that name", StringComparison.Ordinal));
        Assert.DoesNotContain(server.Process.Log, line => line.Contains("README", StringComparison.Ordinal));
        await Task.CompletedTask;
    }

    [Fact]
    public async Task Catalogue_lists_it_with_the_constructors_parameters()
    {
        var type = Assert.Single(await server.Client.ListModuleTypesAsync(nameContains: "GatedMlp"));
        Assert.Equal("GatedMlp", type.Name);
        Assert.Equal(TypeKind.Module, type.Kind);
        Assert.Equal("Module", type.Base);
        Assert.Equal(["input"], type.Inputs);
        Assert.Equal(["features", "hidden", "p", "bias", "activation"], type.Arguments.Select(argument => argument.Name));
        Assert.Equal(["int", "int", "float", "bool", "\"Silu\" or \"Gelu\""], type.Arguments.Select(argument => argument.Type));
        Assert.Equal([true, true, false, false, false], type.Arguments.Select(argument => argument.Required));
        Assert.Equal("Silu", type.Arguments[4].DefaultValue.StringValue);
    }

    [Fact]
    public async Task Wrong_arguments_are_told_all_at_once()
    {
        var refusal = await RefusedAsync(Nn.Module("GatedMlp", ("hiden", 6), ("p", "much"), ("activation", "relu")), StatusCode.InvalidArgument);
        refusal.At("spec.args.features").At("spec.args.hidden").At("spec.args.hiden").At("spec.args.p").At("spec.args.activation").For("BAD_ARGUMENT");
        (await RefusedAsync(Nn.Module("GatedMlp", ("features", 4), ("hidden", 0)), StatusCode.InvalidArgument, "hidden ('0')")).At("spec.args.hidden");
        _ = await RefusedAsync(Nn.Module("GatedMpl", ("features", 4)), StatusCode.Unimplemented, "GatedMlp");
    }

    [Fact]
    public async Task Describe_shows_its_parts_and_modes()
    {
        var model = await NewAsync(Spec);
        var description = await model.DescribeAsync();
        Assert.Equal(
            """
            GatedMlp(
              features=4, activation=Silu
              (norm): BatchNorm1d()
              (gate): Linear()
              (up): Linear()
              (down): Linear()
              (dropout): Dropout()
            )
            """, description.Repr);
        Assert.True(description.Root.Training);
        Assert.Equal([false, true, true, true, true], description.Root.Children.Select(child => child.Training));
        Assert.Equal(["gate_mean"], description.Root.Buffers.Select(buffer => buffer.Name));
        Assert.Equal(["weight", "bias"], description.Root.Children[0].Parameters.Select(parameter => parameter.Name));
    }

    [Fact]
    public async Task State_dict_has_the_keys_it_registers_and_makes_a_round_trip()
    {
        var (first, second) = (await NewAsync(Spec, seed: 1), await NewAsync(Spec, seed: 2));
        var state = await first.StateDictAsync();
        Assert.Equal(
            [
                "gate_mean", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked",
                "gate.weight", "gate.bias", "up.weight", "up.bias", "down.weight", "down.bias",
            ], state.Keys);
        await first.EvalAsync();
        await second.EvalAsync();
        var expected = await OutputAsync(first);
        Assert.NotEqual(expected, await OutputAsync(second));
        await second.LoadStateDictAsync(state);
        Assert.Equal(expected, await OutputAsync(second));
    }

    [Fact]
    public async Task Equal_seeds_give_equal_values()
    {
        var (first, second) = (await NewAsync(Spec, seed: 5), await NewAsync(Spec, seed: 5));
        Assert.Equal(Bytes(await first.StateDictAsync()), Bytes(await second.StateDictAsync()));
    }

    [Fact]
    public async Task Its_own_train_is_called()
    {
        var model = await NewAsync(Nn.Sequential(("mlp", Spec), ("head", Nn.Linear(4, 3))));
        await model.EvalAsync();
        Assert.All(await ModesAsync(model), mode => Assert.False(mode.Training));
        await model.TrainAsync();
        Assert.Equal(["mlp.norm"], (await ModesAsync(model)).Where(mode => !mode.Training).Select(mode => mode.Path));

        // On a part, that part's own train, as in PyTorch.
        await model.GetSubmodule("mlp.norm").TrainAsync();
        Assert.All(await ModesAsync(model), mode => Assert.True(mode.Training));
        await model.GetSubmodule("mlp").TrainAsync();
        Assert.Equal(["mlp.norm"], (await ModesAsync(model)).Where(mode => !mode.Training).Select(mode => mode.Path));
    }

    [Fact]
    public async Task Train_policy_reaches_its_parts()
    {
        var model = await NewAsync(Nn.Sequential(("mlp", Nn.Module("GatedMlp", ("features", 4), ("hidden", 6), ("p", 0.5)))));
        await model.GetSubmodule("mlp.norm").TrainAsync();
        await model.SetTrainPolicyAsync(new TrainPolicy { NormEval = true, Frozen = { "mlp.dropout", "mlp.gate" } });
        await model.TrainAsync();
        Assert.Equal(["mlp.norm", "mlp.gate", "mlp.dropout"], (await ModesAsync(model)).Where(mode => !mode.Training).Select(mode => mode.Path));

        // The dropout itself goes by it: two forwards are equal.
        Assert.Equal(await OutputAsync(model), await OutputAsync(model));
        await model.SetTrainPolicyAsync(null);
        await model.TrainAsync();
        Assert.NotEqual(await OutputAsync(model), await OutputAsync(model));
    }

    [Fact]
    public async Task It_learns_within_a_sequential_and_across_conversions()
    {
        var model = await NewAsync(Nn.Sequential(("mlp", Spec), ("head", Nn.Linear(4, 3))));
        var optimizer = await model.CreateOptimizerAsync("Adam", [("lr", 0.02)]);
        var loss = Nn.CrossEntropyLoss();
        var first = await model.TrainStepAsync(X, Classes(8), loss);
        var before = await model.StateDictAsync();
        await model.DoubleAsync();
        Assert.All(await FloatingTypesAsync(model), type => Assert.Equal(DataType.Float64, type));
        Assert.Equal(DataType.Int64, (await model.StateDictAsync())["mlp.norm.num_batches_tracked"].DType);
        var wide = TensorData.Create(X.As<float>().ToArray().Select(value => (double)value).ToArray(), 8, 4);
        var last = first;
        for (var i = 0; i < 40; i++)
        {
            last = await model.TrainStepAsync(wide, Classes(8), loss);
        }

        Assert.True(last.Loss < first.Loss * 0.8, $"{last.Loss} after 40 steps, {first.Loss} before");
        Assert.All((await optimizer.StateDictAsync()).Tensors.Values, tensor => Assert.Equal(DataType.Float64, tensor.DType));
        await model.FloatAsync();
        var after = await model.StateDictAsync();
        Assert.NotEqual(before["mlp.gate.weight"].Bytes.ToArray(), after["mlp.gate.weight"].Bytes.ToArray());
        Assert.NotEqual(before["mlp.gate_mean"].Bytes.ToArray(), after["mlp.gate_mean"].Bytes.ToArray());

        // Its train keeps the norm in eval: the statistics have not moved.
        Assert.Equal(before["mlp.norm.running_mean"].Bytes.ToArray(), after["mlp.norm.running_mean"].Bytes.ToArray());
    }

    [Theory]
    [InlineData("to", DataType.Float64)]
    [InlineData("type", DataType.Float64)]
    [InlineData("float", DataType.Float32)]
    [InlineData("double", DataType.Float64)]
    [InlineData("half", DataType.Float16)]
    [InlineData("bfloat16", DataType.Bfloat16)]
    [InlineData("cpu", DataType.Float32)]
    public async Task Every_conversion_converts_it_and_it_still_runs(string method, DataType expected)
    {
        var model = await NewAsync(Spec);
        await (method switch
        {
            "to" => model.ToAsync(DataType.Float64),
            "type" => model.TypeAsync(DataType.Float64),
            "float" => model.FloatAsync(),
            "double" => model.DoubleAsync(),
            "half" => model.HalfAsync(),
            "bfloat16" => model.BFloat16Async(),
            _ => model.CpuAsync(),
        });
        Assert.All(await FloatingTypesAsync(model), type => Assert.Equal(expected, type));
        await model.FloatAsync();
        Assert.Equal(32, (await OutputAsync(model)).Length);
    }

    [Fact]
    public async Task Cuda_is_refused_as_for_every_module()
    {
        var model = await NewAsync(Spec);
        var thrown = await Assert.ThrowsAnyAsync<SconceException>(() => model.CudaAsync());
        Assert.Contains("this host has cpu", thrown.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task It_is_made_in_the_dtype_that_the_call_asks_for()
    {
        await server.Stubs.Modules.CreateModuleAsync(new CreateModuleRequest { Module = NewName(out var name), Spec = Spec, Dtype = DataType.Bfloat16 });
        Assert.All(await FloatingTypesAsync(server.Client.Module(name)), type => Assert.Equal(DataType.Bfloat16, type));
    }

    [Fact]
    public async Task Copy_is_equal_and_independent()
    {
        var model = await NewAsync(Nn.Sequential(("mlp", Spec)));
        await model.GetSubmodule("mlp.up").RequiresGradAsync(false);
        await model.GetSubmodule("mlp.dropout").EvalAsync();
        await model.HalfAsync();
        var copy = await model.CopyAsync(NewName(out _));
        var (mine, its) = (await model.DescribeAsync(), await copy.DescribeAsync());
        Assert.Equal(mine.Root, its.Root);
        Assert.Equal(Bytes(await model.StateDictAsync()), Bytes(await copy.StateDictAsync()));
        await model.DeleteAsync();
        await copy.FloatAsync();
        Assert.Equal(32, (await OutputAsync(copy)).Length);

        // A plug-in within a module can be copied out of it, a part of the plug-in cannot.
        _ = await copy.GetSubmodule("mlp").CopyAsync(NewName(out _));
        var thrown = await Assert.ThrowsAnyAsync<SconceException>(() => copy.GetSubmodule("mlp.gate").CopyAsync(NewName(out _)));
        Assert.Contains("copy the module that holds it", thrown.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Gradients_are_those_of_the_same_computation_in_a_graph()
    {
        var plugIn = await NewAsync(Spec);
        var wired = await NewAsync(Nn.Graph(
            new Wiring
            {
                Inputs = { "x" },
                Steps =
                {
                    new WiringStep { Name = "n", Module = "norm", Inputs = { "x" } },
                    new WiringStep { Name = "g", Module = "gate", Inputs = { "n" } },
                    new WiringStep { Name = "a", Function = "silu", Inputs = { "g" } },
                    new WiringStep { Name = "u", Module = "up", Inputs = { "n" } },
                    new WiringStep { Name = "p", Function = "mul", Inputs = { "a", "u" } },
                    new WiringStep { Name = "d", Module = "down", Inputs = { "p" } },
                    new WiringStep { Name = "y", Function = "add", Inputs = { "x", "d" } },
                },
                Outputs = { "y" },
            },
            ("norm", Nn.Module("BatchNorm1d", ("num_features", 4))), ("gate", Nn.Linear(4, 6)), ("up", Nn.Linear(4, 6)), ("down", Nn.Linear(6, 4))));
        await wired.LoadStateDictAsync(await plugIn.StateDictAsync(), strict: false);
        await wired.GetSubmodule("norm").EvalAsync();
        var (mine, its) = (await GradientsAsync(plugIn), await GradientsAsync(wired));
        Assert.Equal(its.Keys.Order(), mine.Keys.Order());
        foreach (var (name, gradient) in its)
        {
            Assert.All(gradient.Zip(mine[name]), pair => Assert.Equal(pair.First, pair.Second, 1e-6f));
        }
    }

    [Fact]
    public async Task Its_parts_can_be_called_and_initialised_by_path()
    {
        var model = await NewAsync(Spec);
        var gate = model.GetSubmodule("gate");
        Assert.Equal([8L, 6L], ((TensorData)await gate.ForwardAsync(X)).Shape);
        var applied = await model.ApplyAsync("constant_", [("val", 1.0)], new ApplyFilter { Type = "Linear" });
        Assert.Equal(["gate", "up", "down"], applied.Applied);
        Assert.All((await model.StateDictAsync())["gate.weight"].As<float>().ToArray(), value => Assert.Equal(1, value));
        Assert.Equal([""], (await model.ApplyAsync("reset_parameters", filter: new ApplyFilter { Type = "GatedMlp" })).Applied);
        Assert.All((await model.StateDictAsync())["gate.weight"].As<float>().ToArray(), value => Assert.InRange(value, -0.5f, 0.5f));
    }

    [Fact]
    public async Task Backward_goes_through_it_from_a_live_graph()
    {
        var model = await NewAsync(Spec);
        await using var graph = await model.ForwardWithGraphAsync(X, new GraphOptions { InputGrads = true });
        var gradients = await graph.BackwardAsync([Pattern(8, 4)]);
        Assert.Equal([8L, 4L], gradients.Positional[0].Shape);
        Assert.Contains("gate.weight", (await model.GradientsAsync()).Keys);
    }

    [Fact]
    public async Task Wrong_inputs_are_refused_with_its_own_words()
    {
        var model = await NewAsync(Nn.Sequential(("mlp", Spec)));
        var refusal = await Refusal.OfAsync(
            () => server.Stubs.Execution.ForwardAsync(new ForwardRequest { Module = model.Name, Inputs = { Wire.Pattern([8, 5]) } }).ResponseAsync,
            StatusCode.InvalidArgument, "\"mlp\" (GatedMlp)", "takes [batch, 4]; it was given [8, 5]");
        refusal.At("inputs[0]").For("SHAPE_MISMATCH");

        // What libtorch says of a part is told of that part.
        _ = await Refusal.OfAsync(
            () => server.Stubs.Execution.ForwardAsync(new ForwardRequest { Module = model.Name, Inputs = { Wire.Longs([1, 4], 1, 2, 3, 4) } }).ResponseAsync,
            StatusCode.InvalidArgument, "module \"mlp.");
    }

    [Fact]
    public async Task A_module_that_does_not_fit_is_refused_when_it_is_made_and_freed()
    {
        var used = await UsedAsync();
        _ = await RefusedAsync(Nn.Module("GatedMlp", ("features", 4000), ("hidden", 8000)), StatusCode.ResourceExhausted, "memory_budget_bytes");
        Assert.Equal(used, await UsedAsync());
    }

    [Fact]
    public async Task Creates_steps_copies_and_deletes_leave_the_ledger_and_the_memory_flat()
    {
        var used = await UsedAsync();
        ulong resident = 0;
        for (var round = 0; round < 120; round++)
        {
            var model = await NewAsync(Nn.Module("GatedMlp", ("features", 256), ("hidden", 512)));
            await model.CreateOptimizerAsync("SGD", [("lr", 0.1)]);
            await model.TrainStepAsync(Pattern(8, 256), Pattern(8, 256), Nn.MSELoss());
            var copy = await model.CopyAsync(NewName(out _));
            await model.DeleteAsync();
            await copy.DeleteAsync();
            if (round == 40)
            {
                resident = (await server.Client.GetHostAsync()).Memory.ResidentBytes;
            }
        }

        Assert.Equal(used, await UsedAsync());

        // One leaked copy in each round would be 3 MiB 80 times over.
        var grown = (long)((await server.Client.GetHostAsync()).Memory.ResidentBytes - resident);
        Assert.True(grown < 64 << 20, $"grew by {grown >> 20} MiB");
    }

    private static TensorData Pattern(params long[] shape) => TensorData.FromBytes(DataType.Float32, shape, Wire.Pattern(shape).Data.Memory);

    private static TensorData Classes(int count) => TensorData.Create(Enumerable.Range(0, count).Select(i => (long)(i % 3)).ToArray());

    private static string NewName(out string name) => name = $"p{Interlocked.Increment(ref _names)}";

    private static Dictionary<string, byte[]> Bytes(StateDict state) => state.ToDictionary(entry => entry.Key, entry => entry.Value.Bytes.ToArray());

    private static async Task<float[]> OutputAsync(RemoteModule model) => ((TensorData)await model.ForwardAsync(X)).As<float>().ToArray();

    private static async Task<Dictionary<string, float[]>> GradientsAsync(RemoteModule model)
    {
        await model.ForwardBackwardAsync(X, Pattern(8, 4), Nn.MSELoss());
        return (await model.GradientsAsync()).ToDictionary(entry => entry.Key, entry => entry.Value.As<float>().ToArray());
    }

    private static async Task<List<DataType>> FloatingTypesAsync(RemoteModule model) =>
        [.. (await model.StateDictAsync()).Where(entry => !entry.Key.EndsWith("num_batches_tracked", StringComparison.Ordinal)).Select(entry => entry.Value.DType)];

    private static async Task<List<(string Path, bool Training)>> ModesAsync(RemoteModule model)
    {
        return [.. Flatten((await model.DescribeAsync()).Root)];

        static IEnumerable<(string, bool)> Flatten(ModuleNode node) => node.Children.SelectMany(Flatten).Prepend((node.Path, node.Training));
    }

    private async Task<ulong> UsedAsync() => (await server.Client.GetHostAsync()).Memory.UsedBytes;

    private Task<Refusal> RefusedAsync(ModuleSpec spec, StatusCode code, params string[] words) =>
        Refusal.OfAsync(() => server.Stubs.Modules.CreateModuleAsync(new CreateModuleRequest { Module = NewName(out _), Spec = spec }).ResponseAsync, code, words);

    private async Task<RemoteModule> NewAsync(ModuleSpec spec, long seed = 1) => await server.Client.CreateModuleAsync(NewName(out _), spec, seed);
}
