using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.Modules;

/// <summary>The eight conversions, and training that goes on across them.</summary>
public sealed class ConversionTests(SharedServer server) : ClientTest(server)
{
    public static TheoryData<string, DataType, DataType> Conversions => new()
    {
        { "to", DataType.Float64, DataType.Int64 },
        { "float", DataType.Float32, DataType.Int64 },
        { "double", DataType.Float64, DataType.Int64 },
        { "half", DataType.Float16, DataType.Int64 },
        { "bfloat16", DataType.Bfloat16, DataType.Int64 },
        { "type", DataType.Float64, DataType.Float64 },
        { "cpu", DataType.Float32, DataType.Int64 },
    };

    [Theory]
    [MemberData(nameof(Conversions))]
    public async Task Conversion_changes_floating_tensors_and_type_changes_all(string method, DataType floating, DataType integer)
    {
        var model = await NewAsync(Specs.Conv);
        var summary = await (method switch
        {
            "to" => model.ToAsync(DataType.Float64),
            "float" => model.FloatAsync(),
            "double" => model.DoubleAsync(),
            "half" => model.HalfAsync(),
            "bfloat16" => model.BFloat16Async(),
            "type" => model.TypeAsync(DataType.Float64),
            _ => model.CpuAsync(),
        });
        var state = await model.StateDictAsync();
        Assert.Equal(integer, state["stem.bn.num_batches_tracked"].DType);
        Assert.All(state.Where(entry => entry.Key != "stem.bn.num_batches_tracked"), entry => Assert.Equal(floating, entry.Value.DType));
        Assert.Equal((ulong)state.Values.Sum(tensor => (long)tensor.Bytes.Length), summary.Bytes);
    }

    [Fact]
    public async Task Conversion_of_a_submodule_leaves_the_rest()
    {
        var model = await NewAsync(Specs.Conv);
        await model.GetSubmodule("head").HalfAsync();
        var state = await model.StateDictAsync();
        Assert.Equal(DataType.Float16, state["head.weight"].DType);
        Assert.Equal(DataType.Float32, state["stem.conv.weight"].DType);
    }

    [Theory]
    [InlineData("SGD")]
    [InlineData("Adam")]
    [InlineData("AdamW")]
    [InlineData("RMSprop")]
    public async Task Optimizer_goes_on_stepping_after_conversion(string type)
    {
        var model = await NewAsync(Specs.Mlp);
        var optimizer = await model.CreateOptimizerAsync(type, [("lr", 0.01)]);
        var (x, y) = (Pattern(8, 4), Classes(8));
        var loss = Nn.CrossEntropyLoss();
        var first = await model.TrainStepAsync(x, y, loss);
        await model.DoubleAsync();
        var wide = TensorData.Create(x.As<float>().ToArray().Select(value => (double)value).ToArray(), 8, 4);
        TrainStepResult last = first;
        for (var i = 0; i < 30; i++)
        {
            last = await model.TrainStepAsync(wide, y, loss);
        }

        Assert.True(last.Loss < first.Loss, $"{last.Loss} after 30 steps, {first.Loss} before");
        Assert.Equal(31UL, last.Steps);
        Assert.All((await optimizer.StateDictAsync()).Tensors.Values, tensor => Assert.Equal(DataType.Float64, tensor.DType));
    }

    [Fact]
    public async Task Gradients_are_converted_with_their_parameters()
    {
        var model = await NewAsync(Specs.Mlp);
        await model.ForwardBackwardAsync(Pattern(8, 4), Classes(8), Nn.CrossEntropyLoss());
        var before = await model.GradientsAsync();
        await model.DoubleAsync();
        var after = await model.GradientsAsync();
        Assert.Equal(before.Keys, after.Keys);
        foreach (var (name, gradient) in before)
        {
            Assert.Equal(gradient.As<float>().ToArray().Select(value => (double)value), after[name].As<double>().ToArray());
        }
    }

    [Fact]
    public async Task Half_and_back_keeps_outputs_close()
    {
        var model = await NewAsync(Specs.Mlp);
        await model.EvalAsync();
        var x = Pattern(8, 4);
        var exact = (await model.ForwardAsync(x)).As<float>().ToArray();
        await model.HalfAsync();
        await model.FloatAsync();
        var rounded = (await model.ForwardAsync(x)).As<float>().ToArray();
        Assert.All(exact.Zip(rounded), pair => Assert.Equal(pair.First, pair.Second, 2e-3f));
    }
}
