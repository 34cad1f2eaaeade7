using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Modules;

public sealed class FirstTests
{
    [Fact]
    public void Build_sequential_forwards_and_prints()
    {
        var spec = new ModuleSpec("Sequential")
        {
            Children =
            [
                new("conv", new ModuleSpec("Conv2d") { Args = new Dictionary<string, object?> { ["in_channels"] = 1.0, ["out_channels"] = 4.0, ["kernel_size"] = 3.0, ["padding"] = "same" } }),
                new("", new ModuleSpec("ReLU")),
            ],
        };
        Assert.Equal((4 * 9 + 4) * 4, ModuleBuilder.EstimateBytes(spec, ElementType.Float32));
        using var tree = ModuleBuilder.Build(spec, ElementType.Float32, new BuildLimits());
        using var scope = NewDisposeScope();
        var output = tree.Root.Call(new CallArguments(TensorTree.Of(rand(2, 1, 8, 8))), new CallContext { CountBytes = true });
        Assert.Equal([2, 4, 8, 8], output.Tensor!.shape);
        Assert.Equal(["conv.weight", "conv.bias"], ModuleTree.State(tree.Root).Select(e => e.Key));
        Assert.Equal("Sequential(\n  (conv): Conv2d(1, 4, kernel_size=(3, 3), stride=(1, 1), padding=same)\n  (1): ReLU()\n)", ModuleTree.Repr(tree.Root));
        var error = Assert.Throws<EngineException>(() => tree.Root.Call(new CallArguments(TensorTree.Of(rand(2, 3, 8, 8))), new CallContext()));
        Assert.Contains("\"conv\"", error.Message);
        Assert.Equal("inputs[0]", error.Fields[0].Field);
    }
}
