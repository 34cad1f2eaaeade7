using System.Text.Json;
using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Tests.Training;
using Sconce.Engine.Weights;
using static Sconce.Engine.Tests.Modules.Spec;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Modules;

/// <summary>What building and copying draw from the process's generator, which no other test may move meanwhile.</summary>
[Collection(nameof(ProcessGenerator))]
public sealed class InitialValueTests : IDisposable
{
    private readonly TorchSharp.DisposeScope _scope = NewDisposeScope();

    /// <summary>Type, arguments, and the sum of all parameters that real PyTorch 1.13 draws after <c>manual_seed(0)</c>.</summary>
    public static TheoryData<string, string, double> Sums { get; } = new()
    {
        { "Linear", "{\"in_features\":20,\"out_features\":30}", -1.253435 },
        { "Conv2d", "{\"in_channels\":3,\"out_channels\":8,\"kernel_size\":3}", -1.992370 },
        { "ConvTranspose1d", "{\"in_channels\":3,\"out_channels\":8,\"kernel_size\":3}", -0.183809 },
        { "Bilinear", "{\"in1_features\":3,\"in2_features\":4,\"out_features\":5}", -1.880755 },
        { "Embedding", "{\"num_embeddings\":7,\"embedding_dim\":9,\"padding_idx\":2}", 1.771346 },
        { "EmbeddingBag", "{\"num_embeddings\":7,\"embedding_dim\":9}", 3.678191 },
        { "LSTM", "{\"input_size\":3,\"hidden_size\":5,\"num_layers\":2}", -1.850572 },
        { "GRU", "{\"input_size\":3,\"hidden_size\":5}", -2.288538 },
        { "RNN", "{\"input_size\":3,\"hidden_size\":5}", -2.155411 },
        { "GRUCell", "{\"input_size\":3,\"hidden_size\":5}", -2.288538 },
        { "MultiheadAttention", "{\"embed_dim\":8,\"num_heads\":2}", -5.352360 },
        { "TransformerEncoderLayer", "{\"d_model\":8,\"nhead\":2,\"dim_feedforward\":16}", 13.098466 },
        { "Transformer", "{\"d_model\":8,\"nhead\":2,\"num_encoder_layers\":2,\"num_decoder_layers\":1,\"dim_feedforward\":16}", 74.367630 },
    };

    public void Dispose() => _scope.Dispose();

    [Theory]
    [MemberData(nameof(Sums))]
    public void Build_equal_seed_draws_pytorchs_values(string type, string json, double sum)
    {
        random.manual_seed(0);
        using var tree = Build(new ModuleSpec(type) { Args = Args(json) });
        var actual = ModuleTree.NamedParameters(tree.Root).Sum(p => p.Parameter.detach().to_type(ScalarType.Float64).sum().item<double>());

        Assert.Equal(sum, actual, 1e-4);
    }

    [Fact]
    public void Load_of_every_value_of_a_lazy_module_draws_no_random_numbers()
    {
        using var tree = Build(Of("LazyLinear", ("out_features", 3.0)));
        using var before = get_rng_state();

        _ = StateLoading.Load(tree.Root, [("weight", ones(3, 4)), ("bias", ones(3))], strict: true);

        using var after = get_rng_state();
        Assert.True(before.Equals(after));
    }

    [Theory]
    [InlineData("LSTM", "{\"input_size\":2,\"hidden_size\":2,\"num_layers\":2,\"dropout\":0.5}")]
    [InlineData("Embedding", "{\"num_embeddings\":4,\"embedding_dim\":2}")]
    [InlineData("Transformer", "{\"d_model\":4,\"nhead\":2,\"num_encoder_layers\":2,\"num_decoder_layers\":2,\"dim_feedforward\":4}")]
    public void DeepCopy_draws_no_random_numbers(string type, string json)
    {
        using var tree = Build(new ModuleSpec(type) { Args = Args(json) });
        using var before = get_rng_state();
        using var copy = ModuleCopy.DeepCopy(tree, "");
        using var after = get_rng_state();

        Assert.True(before.Equals(after));
        Assert.All(ModuleTree.State(tree.Root).Zip(ModuleTree.State(copy.Root)), pair => Assert.Equal(0, MaxDifference(pair.First.Tensor.detach(), pair.Second.Tensor.detach())));
    }

    private static Dictionary<string, object?> Args(string json) =>
        JsonDocument.Parse(json).RootElement.EnumerateObject().ToDictionary(p => p.Name, p => (object?)p.Value.GetDouble());
}
