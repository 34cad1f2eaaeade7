using Google.Protobuf;
using Sconce.V1;

namespace Sconce.Client.Tests;

public sealed class SpecTests
{
    [Fact]
    public void Sequential_nested_writesTypesArgumentsAndNames()
    {
        var spec = Nn.Sequential(
            ("stem", Nn.Sequential(Nn.Conv2d(1, 8, 3, padding: 1), Nn.ReLU())),
            ("head", Nn.Module("Linear", ("in_features", 8), ("out_features", 2), ("bias", false))));

        Assert.Equal(
            Nn.Parse("""
                {"type": "Sequential", "children": [
                  {"name": "stem", "spec": {"type": "Sequential", "children": [
                    {"spec": {"type": "Conv2d", "args": {"in_channels": 1, "out_channels": 8, "kernel_size": 3, "stride": 1, "padding": 1, "bias": true}}},
                    {"spec": {"type": "ReLU"}}]}},
                  {"name": "head", "spec": {"type": "Linear", "args": {"in_features": 8, "out_features": 2, "bias": false}}}]}
                """),
            spec);
    }

    [Fact]
    public void Sequential_empty_isOneOfNothing() => Assert.Empty(Nn.Sequential().Children);

    [Fact]
    public void Graph_wiring_isKept()
    {
        var wiring = new Wiring { Inputs = { "x" }, Outputs = { "y" }, Steps = { new WiringStep { Name = "y", Module = "fc", Inputs = { "x" } } } };

        var spec = Nn.Graph(wiring, ("fc", Nn.Linear(2, 2)));

        Assert.Equal(("Graph", "fc", wiring), (spec.Type, spec.Children[0].Name, spec.Wiring));
    }

    [Fact]
    public void Models_take_their_own_arguments_and_those_that_have_names_only()
    {
        Assert.Equal(Nn.Parse("""{"type": "resnet50", "args": {"num_classes": 10, "groups": 32, "width_per_group": 4}}"""), Nn.ResNet50(10, ("groups", 32), ("width_per_group", 4)));
        Assert.Equal(Nn.Parse("""{"type": "vgg16_bn", "args": {"num_classes": 1000}}"""), Nn.Vgg(16, batchNorm: true));
        Assert.Equal(Nn.Parse("""{"type": "GPT2LMHeadModel", "args": {"n_layer": 2}}"""), Nn.Gpt2(("n_layer", 2)));
        Assert.Equal(Nn.Parse("""{"type": "MLP", "args": {"in_channels": 4, "hidden_channels": [8, 2], "dropout": 0.5}}"""), Nn.Mlp(4, [8, 2], ("dropout", 0.5)));
    }

    [Theory]
    [InlineData("{\"type\": \"Linear\"")]
    [InlineData("{\"typ\": \"Linear\"}")]
    [InlineData("[]")]
    public void Parse_notASpec_throwsFormatException(string json) => Assert.Throws<FormatException>(() => Nn.Parse(json));

    [Fact]
    public void Module_everyKindOfArgument_becomesJson()
    {
        var spec = Nn.Module(
            "X", ("i", 3), ("f", 0.5f), ("h", (Half)0.5), ("b", true), ("s", "same"), ("none", null), ("list", new[] { 1, 2 }), ("pair", (3, 4)), ("dtype", DataType.Bfloat16));

        Assert.Equal(
            """{ "i": 3, "f": 0.5, "h": 0.5, "b": true, "s": "same", "none": null, "list": [ 1, 2 ], "pair": [ 3, 4 ], "dtype": "bfloat16" }""",
            JsonFormatter.Default.Format(spec.Args));
    }

    [Fact]
    public void Arguments_collectionExpression_keepsOrder()
    {
        Arguments args = [("lr", 1e-3), ("betas", new[] { 0.9, 0.999 })];

        Assert.Equal(["lr", "betas"], args.Select(arg => arg.Name));
    }

    [Fact]
    public void Arguments_nameTwice_isRefused() =>
        Assert.Contains("'lr' was given twice", Assert.Throws<ArgumentException>(() => Arguments.Create(("lr", 1), ("lr", 2))).Message, StringComparison.Ordinal);

    [Fact]
    public void Module_argumentOfAnotherType_saysWhatIsExpected() =>
        Assert.Contains(
            "'when' is of type System.DateTime; expected a number",
            Assert.Throws<ArgumentException>(() => Nn.Module("X", ("when", default(DateTime)))).Message,
            StringComparison.Ordinal);

    [Fact]
    public void Module_integerBeyondDouble_isRefused() =>
        Assert.Throws<ArgumentException>(() => Nn.Module("X", ("n", (1L << 53) + 1)));

    [Fact]
    public void Inputs_named_keepsBothKinds()
    {
        var inputs = Inputs.Create(TensorData.Scalar(1f)).With("mask", TensorData.Scalar(true));

        Assert.Equal((1, "mask"), (inputs.Count, inputs.Named.Keys.Single()));
        Assert.Throws<ArgumentException>(() => inputs.With("mask", TensorData.None));
    }
}
