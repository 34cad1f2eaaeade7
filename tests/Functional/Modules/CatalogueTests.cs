using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.Modules;

/// <summary>Built-in models, lazy modules, methods and what the catalogue says of them, from the client.</summary>
public sealed class CatalogueTests(SharedServer server) : ClientTest(server)
{
    [Fact]
    public async Task ResNet18_has_torchvisions_state_dict_and_classifies()
    {
        var model = await NewAsync(Nn.ResNet18(10));
        var summary = await model.TrainAsync(false);
        Assert.Equal(("ResNet", 11_181_642UL), (summary.Type, summary.Parameters));

        var state = await model.StateDictAsync();
        Assert.Equal(122, state.Count);
        Assert.Equal([64L, 3, 7, 7], state["conv1.weight"].Shape.ToArray());
        Assert.Equal([128L, 64, 1, 1], state["layer2.0.downsample.0.weight"].Shape.ToArray());
        TensorData logits = await model.ForwardAsync(Pattern(2, 3, 32, 32));
        Assert.Equal([2L, 10], logits.Shape.ToArray());
        TensorData features = await model.GetSubmodule("layer1").ForwardAsync(Pattern(1, 64, 4, 4));
        Assert.Equal([1L, 64, 4, 4], features.Shape.ToArray());
    }

    [Fact]
    public async Task LeNet5_learns()
    {
        var model = await NewAsync(Nn.LeNet5(numClasses: 3, imageSize: 28));
        await model.CreateOptimizerAsync("Adam", [("lr", 0.01)]);
        var losses = new List<double>();
        for (var i = 0; i < 20; i++)
        {
            losses.Add((await model.TrainStepAsync(Pattern(6, 1, 28, 28), Classes(6), Nn.CrossEntropyLoss())).Loss);
        }

        Assert.True(losses[^1] < losses[0] * 0.8, $"{losses[0]} to {losses[^1]}");
    }

    [Fact]
    public async Task Gpt2_takes_its_inputs_by_name_and_has_one_tied_weight()
    {
        var model = await NewAsync(Nn.Gpt2(("vocab_size", 11), ("n_positions", 8), ("n_embd", 8), ("n_layer", 1), ("n_head", 2)));
        await model.TrainAsync(false);
        var tokens = TensorData.FromBytes(DataType.Int64, [1, 3], Wire.Longs([1, 3], 1, 2, 3).Data.Memory);
        var mask = TensorData.FromBytes(DataType.Int64, [1, 3], Wire.Longs([1, 3], 0, 1, 1).Data.Memory);

        TensorData logits = await model.ForwardAsync(Inputs.Empty.With("input_ids", tokens).With("attention_mask", mask));

        Assert.Equal([1L, 3, 11], logits.Shape.ToArray());
        var state = await model.StateDictAsync();
        Assert.Equal(state["transformer.wte.weight"].Bytes.ToArray(), state["lm_head.weight"].Bytes.ToArray());
        Assert.Equal((ulong)state.Where(entry => entry.Key != "lm_head.weight").Sum(entry => entry.Value.Bytes.Length), (await model.GetAsync()).Bytes);
    }

    [Fact]
    public async Task Lazy_module_is_described_before_and_after_its_first_forward()
    {
        var model = await NewAsync(Nn.Sequential(Nn.Module("LazyConv2d", ("out_channels", 2), ("kernel_size", 3))));
        var before = (await model.DescribeAsync()).Root.Children[0];
        Assert.Equal(("LazyConv2d", "0, 2, kernel_size=(3, 3), stride=(1, 1)"), (before.Type, before.ExtraRepr));
        Assert.All(before.Parameters, parameter => Assert.True(parameter.Uninitialized));
        var refused = await Assert.ThrowsAsync<SconceFailedPreconditionException>(() => model.StateDictAsync());
        Assert.Contains("\"0.weight\"", refused.Message, StringComparison.Ordinal);

        TensorData output = await model.ForwardAsync(Pattern(1, 3, 5, 5));

        Assert.Equal([1L, 2, 3, 3], output.Shape.ToArray());
        var after = (await model.DescribeAsync()).Root.Children[0];
        Assert.Equal(("Conv2d", "3, 2, kernel_size=(3, 3), stride=(1, 1)"), (after.Type, after.ExtraRepr));
        Assert.Equal([2L, 3, 3, 3], after.Parameters[0].Shape);
        Assert.Equal(2, (await model.StateDictAsync()).Count);
    }

    [Fact]
    public async Task Methods_are_listed_and_called_by_name()
    {
        var type = Assert.Single(await Client.ListModuleTypesAsync(TypeKind.Module, "AdaptiveLogSoftmax"));
        Assert.Equal(["output", "loss"], type.Outputs);
        Assert.Equal(["log_prob", "predict"], type.Methods);
        var model = await NewAsync(Nn.Module(type.Name, ("in_features", 4), ("n_classes", 6), ("cutoffs", new[] { 2 })));

        TensorData classes = await model.CallAsync("predict", Pattern(5, 4));

        Assert.Equal((DataType.Int64, 5L), (classes.DType, classes.Shape[0]));
        var refused = await Assert.ThrowsAsync<SconceInvalidArgumentException>(() => model.CallAsync("generate", Pattern(5, 4)));
        Assert.Contains("\"log_prob\"", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Wiring_reads_parameters_and_calls_losses()
    {
        var wiring = new Wiring
        {
            Inputs = { "x", "y" },
            Outputs = { "loss" },
            Steps =
            {
                new WiringStep { Name = "scale", Parameter = "scales.0" },
                new WiringStep { Name = "scaled", Function = "mul", Inputs = { "x", "scale" } },
                new WiringStep { Name = "loss", Function = "mse_loss", Inputs = { "scaled", "y" } },
            },
        };
        var model = await NewAsync(Nn.Graph(wiring, ("scales", Nn.Module("ParameterList", ("shapes", new[] { new[] { 4 } })))));

        TensorData loss = await model.ForwardAsync([Pattern(2, 4), TensorData.FromBytes(DataType.Float32, [2, 4], Wire.Floats([2, 4], [.. Enumerable.Repeat(3f, 8)]).Data.Memory)]);

        // The scale begins as zeros.
        Assert.Equal(9f, BitConverter.ToSingle(loss.Bytes.Span));
    }
}
