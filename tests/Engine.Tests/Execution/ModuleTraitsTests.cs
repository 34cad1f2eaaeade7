using Sconce.Engine.Catalog;
using Sconce.Engine.Execution;
using static Sconce.Engine.Tests.Execution.Testing;

namespace Sconce.Engine.Tests.Execution;

public sealed class ModuleTraitsTests
{
    [Fact]
    public void Only_modules_that_draw_wait_for_each_other()
    {
        Assert.Equal(new ModuleTraits(false, false), ModuleTraits.Of(Mlp()));
        Assert.Equal(new ModuleTraits(true, false), ModuleTraits.Of(Sequential(Linear(1, 1), Sequential(Of("AlphaDropout")))));
        Assert.Equal(new ModuleTraits(true, false), ModuleTraits.Of(Of("LSTM", ("dropout", 0.1))));
        Assert.Equal(new ModuleTraits(false, false), ModuleTraits.Of(Of("LSTM", ("dropout", 0.0))));
        Assert.Equal(new ModuleTraits(true, false), ModuleTraits.Of(Of("TransformerEncoderLayer")));
        Assert.Equal(new ModuleTraits(true, false), ModuleTraits.Of(Of("vgg11")));
        Assert.Equal(new ModuleTraits(false, false), ModuleTraits.Of(Of("resnet18")));
        Assert.Equal(new ModuleTraits(true, true), ModuleTraits.Of(Of("FractionalMaxPool2d")));
        Assert.Equal(new ModuleTraits(true, false), ModuleTraits.Of(Wired("dropout")));
        Assert.Equal(new ModuleTraits(true, true), ModuleTraits.Of(Wired("dropout", ("training", true))));
        Assert.Equal(new ModuleTraits(true, true), ModuleTraits.Of(Wired("scaled_dot_product_attention", ("dropout_p", 0.5))));
        Assert.Equal(new ModuleTraits(true, true), ModuleTraits.Of(Wired("fractional_max_pool2d")));
        Assert.Equal(new ModuleTraits(false, false), ModuleTraits.Of(Wired("relu")));
    }

    private static ModuleSpec Wired(string function, params (string Name, object? Value)[] args) => new("Graph")
    {
        Wiring = new Wiring(["x"], [new WiringStep("y", null, function, ["x"], args.ToDictionary(arg => arg.Name, arg => arg.Value), [])], ["y"]),
    };
}
