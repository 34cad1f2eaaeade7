using Sconce.Engine.Catalog;
using Sconce.Engine.Tensors;
using Sconce.Engine.Tests.Modules;

namespace Sconce.Engine.Tests.Catalog;

public sealed class ModuleCatalogTests
{
    [Fact]
    public void Types_hold_every_kind_in_order()
    {
        var types = ModuleCatalog.Types;

        Assert.Equal(types.OrderBy(t => t.Kind).ThenBy(t => t.Name, StringComparer.Ordinal), types);
        Assert.True(types.Count(t => t.Kind == TypeKind.Module) >= 110, "fewer than 110 module types");
        Assert.True(types.Count(t => t.Kind == TypeKind.Function) >= 140, "fewer than 140 functions");
        Assert.Equal(6, types.Select(t => t.Kind).Distinct().Count());
    }

    [Fact]
    public void Types_tell_base_functional_arguments_and_inputs()
    {
        var conv = ModuleCatalog.Types.Single(t => t is { Kind: TypeKind.Module, Name: "Conv2d" });

        Assert.Equal("_ConvNd", conv.Base);
        Assert.Equal("conv2d", conv.Functional);
        Assert.Equal(["input"], conv.Inputs);
        Assert.Equal(["in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias", "padding_mode", "dtype"], conv.Arguments.Select(a => a.Name));
        Assert.True(conv.Arguments[2].Required);
        Assert.Equal(1.0, conv.Arguments[3].Default);
        Assert.Equal("int or list of int, or \"same\" or \"valid\"", conv.Arguments[4].Type);
        Assert.Equal(["input", "h_0?", "c_0?"], ModuleCatalog.Types.Single(t => t is { Kind: TypeKind.Module, Name: "LSTM" }).Inputs);
    }

    [Theory]
    [InlineData("Conv2d", "_ConvNd", true)]
    [InlineData("ConvTranspose1d", "_ConvNd", true)]
    [InlineData("BatchNorm1d", "_NormBase", true)]
    [InlineData("BatchNorm1d", "_InstanceNorm", false)]
    [InlineData("ReLU6", "Hardtanh", true)]
    [InlineData("ReLU", "Hardtanh", false)]
    [InlineData("LSTM", "Module", true)]
    public void Hierarchy_is_pytorchs(string type, string ancestor, bool expected) =>
        Assert.Equal(expected, ModuleCatalog.Module(type, "type").IsOrDerivesFrom(ancestor));

    [Fact]
    public void Build_unknown_type_names_the_nearest()
    {
        var error = Spec.Refused(() => Spec.Build(Spec.Sequential(Spec.Of("Conv2D"))));

        Assert.Equal(EngineError.Unimplemented, error.Error);
        Assert.Equal("spec.children[0].spec.type", error.Fields[0].Field);
        Assert.Contains("Conv2d", error.Message);
    }

    [Theory]
    [InlineData("Conv2d", "groups", "{\"in_channels\":3,\"out_channels\":4,\"kernel_size\":3,\"groups\":2}")]
    [InlineData("Conv2d", "groups", "{\"in_channels\":4,\"out_channels\":4,\"kernel_size\":3,\"groups\":0}")]
    [InlineData("Conv2d", "stride", "{\"in_channels\":4,\"out_channels\":4,\"kernel_size\":3,\"stride\":[1,0]}")]
    [InlineData("Conv2d", "out_channels", "{\"in_channels\":4,\"out_channels\":0,\"kernel_size\":3}")]
    [InlineData("ConvTranspose1d", "out_channels", "{\"in_channels\":2,\"out_channels\":0,\"kernel_size\":3}")]
    [InlineData("Conv1d", "dilation", "{\"in_channels\":4,\"out_channels\":4,\"kernel_size\":3,\"dilation\":0}")]
    [InlineData("Conv3d", "kernel_size", "{\"in_channels\":4,\"out_channels\":4,\"kernel_size\":0}")]
    [InlineData("Conv2d", "padding", "{\"in_channels\":4,\"out_channels\":4,\"kernel_size\":3,\"stride\":2,\"padding\":\"same\"}")]
    [InlineData("Linear", "in_features", "{\"in_features\":-1,\"out_features\":4}")]
    [InlineData("Linear", "dtype", "{\"in_features\":1,\"out_features\":4,\"dtype\":\"int64\"}")]
    [InlineData("Dropout", "p", "{\"p\":1.01}")]
    [InlineData("GroupNorm", "num_groups", "{\"num_groups\":3,\"num_channels\":4}")]
    [InlineData("MaxPool2d", "padding", "{\"kernel_size\":3,\"padding\":2}")]
    [InlineData("MultiheadAttention", "num_heads", "{\"embed_dim\":4,\"num_heads\":3}")]
    [InlineData("Embedding", "padding_idx", "{\"num_embeddings\":4,\"embedding_dim\":2,\"padding_idx\":4}")]
    [InlineData("LSTM", "proj_size", "{\"input_size\":4,\"hidden_size\":2,\"proj_size\":2}")]
    [InlineData("Hardtanh", "max_val", "{\"min_val\":1,\"max_val\":1}")]
    [InlineData("Upsample", "size", "{}")]
    public void Build_bad_argument_is_named(string type, string argument, string json)
    {
        var args = System.Text.Json.JsonDocument.Parse(json).RootElement.EnumerateObject().ToDictionary(p => p.Name, p => Value(p.Value));
        var error = Spec.Refused(() => Spec.Build(new ModuleSpec(type) { Args = args }, ElementType.Float32));

        Assert.Equal(EngineError.InvalidArgument, error.Error);
        Assert.Equal($"spec.args.{argument}", Assert.Single(error.Fields).Field);
    }

    private static object? Value(System.Text.Json.JsonElement value) => value.ValueKind switch
    {
        System.Text.Json.JsonValueKind.Number => value.GetDouble(),
        System.Text.Json.JsonValueKind.String => value.GetString(),
        System.Text.Json.JsonValueKind.Array => value.EnumerateArray().Select(Value).ToList(),
        _ => value.GetBoolean(),
    };
}
