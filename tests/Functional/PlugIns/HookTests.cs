using Sconce.Client;
using Sconce.Functional.Harness;
using Sconce.V1;
using Hooks = Sconce.Client.Hooks;

namespace Sconce.Functional.PlugIns;

/// <summary>Hooks on a plug-in's module and on the parts that its own code calls.</summary>
public sealed class HookTests(PlugInServer server) : IClassFixture<PlugInServer>
{
    private static readonly TensorData X = TensorData.FromBytes(DataType.Float32, [2, 4], Wire.Pattern(2, 4).Data.Memory);

    [Fact]
    public async Task Parts_are_seen_by_path_and_by_glob()
    {
        var model = await NewAsync();
        var y = await model.ForwardAsync(X, new() { Hooks = [Hooks.ForwardPre("mlp.gate").Capture().Named("in"), Hooks.Forward("mlp.gate").Capture().Named("out"), Hooks.Forward().OnGlob("mlp.*").Capture().Named("all")] });
        var normed = await model.GetSubmodule("mlp.norm").ForwardAsync(X);
        Same(normed.Tensor, y.Hooks["in"]);
        Same((await model.GetSubmodule("mlp.gate").ForwardAsync(normed.Tensor)).Tensor, y.Hooks["out"]);
        Assert.Equal(["mlp.norm", "mlp.gate", "mlp.up", "mlp.dropout", "mlp.down"], y.Hooks.Captures.Where(seen => seen.Hook == "all").Select(seen => seen.Path));
        Same((await model.ForwardAsync(X)).Tensor, y.Tensor);
    }

    [Fact]
    public async Task What_goes_into_a_part_and_comes_out_of_it_is_edited()
    {
        var model = await NewAsync();

        // Residual: without its last part the module gives its input.
        Same(X, (await model.ForwardAsync(X, new() { Hooks = [Hooks.Forward("mlp.down").Set(0)] })).Tensor);
        var zeros = TensorData.Create(new float[12], 2, 6);
        var bias = (await model.GetSubmodule("mlp.down").ForwardAsync(zeros)).Tensor.As<float>().ToArray();
        var y = (await model.ForwardAsync(X, new() { Hooks = [Hooks.ForwardPre("mlp.down").Set(0)] })).Tensor.As<float>().ToArray();
        Assert.All(X.As<float>().ToArray().Zip(bias, y), pair => Assert.Equal(pair.First + pair.Second, pair.Third, 1e-6f));
    }

    [Fact]
    public async Task A_part_is_skipped_and_a_call_is_stopped()
    {
        var model = await NewAsync();
        Same(X, (await model.ForwardAsync(X, new() { Hooks = [Hooks.ForwardPre("mlp.down").Skip(TensorData.Create(new float[8], 2, 4))] })).Tensor);
        var stopped = await model.ForwardAsync(X, new() { Hooks = [Hooks.Forward("mlp.gate").Capture().Stop().Named("stop")] });
        Assert.Equal("stop", stopped.Hooks.StoppedBy);
        Assert.Equal([2L, 6L], stopped.Hooks["stop"].Shape);
    }

    [Fact]
    public async Task Gradients_at_a_part_are_seen_and_edited()
    {
        var model = await NewAsync();
        var loss = Nn.MSELoss();
        var seen = await model.ForwardBackwardAsync(X, TensorData.Create(new float[8], 2, 4), loss, hooks: [Hooks.Backward("mlp.down").Capture().Named("g")]);
        Assert.Equal([2L, 6L], seen.Hooks["g"].Shape);
        await model.ZeroGradAsync();
        await model.ForwardBackwardAsync(X, TensorData.Create(new float[8], 2, 4), loss, hooks: [Hooks.Backward("mlp.down").Set(0)]);
        var gradients = await model.GradientsAsync();
        Assert.All(gradients["mlp.gate.weight"].As<float>().ToArray(), value => Assert.Equal(0, value));
        Assert.Contains(gradients["mlp.down.weight"].As<float>().ToArray(), value => value != 0);
    }

    private static void Same(TensorData expected, TensorData given) => Assert.All(expected.As<float>().ToArray().Zip(given.As<float>().ToArray()), pair => Assert.Equal(pair.First, pair.Second, 1e-6f));

    private async Task<RemoteModule> NewAsync()
    {
        var model = await server.Client.CreateModuleAsync($"h{Guid.NewGuid():N}", Nn.Sequential(("mlp", Nn.Module("GatedMlp", ("features", 4), ("hidden", 6)))), seed: 1);
        await model.EvalAsync();
        return model;
    }
}
