using System.Text.Json;
using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using Sconce.Engine.Tests.Execution;
using Sconce.Engine.Tests.Modules;
using Sconce.Engine.Training;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Catalog;

/// <summary>Built-in models are trees like any other. What they compute is compared with PyTorch in Parity.</summary>
public sealed class ModelTests
{
    private static ModuleSpec Gpt2 => Spec.Of("GPT2LMHeadModel", ("vocab_size", 11.0), ("n_positions", 8.0), ("n_embd", 8.0), ("n_layer", 2.0), ("n_head", 2.0));

    [Fact]
    public void Model_prints_as_torchvision_does()
    {
        using var tree = Spec.Build(Spec.Of("resnet18", ("num_classes", 3.0)));

        Assert.Equal("ResNet", tree.Root.TypeName);
        Assert.Contains(
            """
              (layer2): Sequential(
                (0): BasicBlock(
                  (conv1): Conv2d(64, 128, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), bias=False)
                  (bn1): BatchNorm2d(128, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)
                  (relu): ReLU(inplace=True)
                  (conv2): Conv2d(128, 128, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
                  (bn2): BatchNorm2d(128, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)
                  (downsample): Sequential(
                    (0): Conv2d(64, 128, kernel_size=(1, 1), stride=(2, 2), bias=False)
                    (1): BatchNorm2d(128, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)
                  )
                )
            """.ReplaceLineEndings("\n"), ModuleTree.Repr(tree.Root));
    }

    [Fact]
    public void Model_is_found_by_path_and_by_type_inside_what_a_caller_composes()
    {
        using var tree = Spec.Build(Spec.Sequential(Spec.Named("body", Spec.Of("resnet18", ("num_classes", 3.0))), Spec.Named("act", Spec.Of("ReLU"))));

        Assert.Equal("Conv2d", tree.Find("body.layer1.0.conv1").TypeName);
        Assert.True(tree.Find("body").IsInstance("ResNet"));
        Assert.Equal(8, Initializers.Apply(tree.Root, new ApplyPlan("ones_") { Type = "BatchNorm2d", Glob = "body.layer*.bn1" }).Count);
        Assert.Equal(["body"], Initializers.Apply(tree.Root, new ApplyPlan("reset_parameters") { Type = "ResNet" }));
        using var scope = NewDisposeScope();
        tree.Root.Train(false);
        Assert.Equal([1, 3], tree.Run(rand(1, 3, 32, 32)).shape);
    }

    [Fact]
    public void Spec_and_copies_are_the_models_own()
    {
        using var tree = Spec.Build(Spec.Sequential(Spec.Of("MLP", ("in_channels", 4.0), ("hidden_channels", new object?[] { 3.0, 2.0 })), Spec.Of("BasicBlock", ("inplanes", 2.0), ("planes", 2.0))));
        Assert.Equal(["MLP", "BasicBlock"], tree.Spec.Children.Select(child => child.Spec!.Type));
        Assert.Equal(["in_channels", "hidden_channels"], tree.Spec.Children[0].Spec!.Args.Keys);
        Assert.Empty(tree.Spec.Children[0].Spec!.Children);

        using var again = Spec.Build(tree.Spec);
        using var copy = ModuleCopy.DeepCopy(tree, "1");
        Assert.Equal(ModuleTree.Repr(tree.Root), ModuleTree.Repr(again.Root));
        Assert.Equal(ModuleTree.Repr(tree.Find("1")), ModuleTree.Repr(copy.Root));
        Assert.Equal(ModuleTree.State(tree.Find("1")).Select(e => e.Tensor), ModuleTree.State(copy.Root).Select(e => e.Tensor), (a, b) => a.shape.Length == 0 ? a.item<long>() == b.item<long>() : Spec.MaxDifference(a, b) == 0);
    }

    [Theory]
    [InlineData("resnet18", "fc", "{\"num_classes\":3}", new long[] { 1, 3, 32, 32 }, 512)]
    [InlineData("LeNet5", "fc3", "{}", new long[] { 1, 1, 32, 32 }, 84)]
    public void Head_of_a_model_is_replaced_as_in_PyTorch(string type, string head, string args, long[] shape, int features)
    {
        using var scope = NewDisposeScope();
        using var tree = Spec.Build(Spec.Of(type, [.. JsonDocument.Parse(args).RootElement.EnumerateObject().Select(p => (p.Name, (object?)p.Value.GetDouble()))]));
        var register = new Registration(tree, new BuildLimits(), _ => null);
        var keys = ModuleTree.State(tree.Root).Select(entry => entry.Key).ToList();
        register.Module("", head, Spec.Build(Spec.Linear(features, 7)).Root, "spec");
        tree.Root.Train(false);
        var x = rand(shape);
        var y = tree.Run(x);

        Assert.Equal([1, 7], y.shape);
        Assert.Equal(keys, ModuleTree.State(tree.Root).Select(entry => entry.Key));
        using var copy = ModuleCopy.DeepCopy(tree, "");
        Assert.Equal(0, Spec.MaxDifference(y, copy.Run(x)));
        using var again = Spec.Build(tree.Spec);
        Assert.Equal(ModuleTree.Repr(tree.Root), ModuleTree.Repr(again.Root));
        again.Root.Train(false);
        Assert.Equal([1, 7], again.Run(x).shape);

        // One that forward could not call is refused, and the model goes on.
        Assert.Equal(EngineError.InvalidArgument, Spec.Refused(() => register.Module("", head, Spec.Build(Spec.Of("Bilinear", ("in1_features", 1.0), ("in2_features", 1.0), ("out_features", 1.0))).Root, "spec")).Error);
        Assert.Equal(0, Spec.MaxDifference(y, tree.Run(x)));
    }

    [Theory]
    [InlineData("sdpa")]
    [InlineData("eager")]
    public async Task Scores_of_all_pairs_of_steps_are_refused_while_they_are_a_number(string implementation)
    {
        await using var host = Testing.Host(options => options.MemoryBudgetBytes = 8 << 20);
        var module = await host.CreateEval("gpt", Spec.Of("GPT2Model",
            ("vocab_size", 3.0), ("n_positions", 2048.0), ("n_embd", 8.0), ("n_layer", 1.0), ("n_head", 2.0), ("attn_implementation", implementation)));
        TensorInput Ids(int steps) => TensorInput.Of(new TensorPayload(ElementType.Int64, [1, steps], new byte[8 * steps]));

        await module.ForwardAsync(Testing.Call(Ids(2048)), default).Fails(EngineError.ResourceExhausted, "memory_budget_bytes");

        (await module.ForwardAsync(Testing.Call(Ids(64)), default)).Dispose();
    }

    [Fact]
    public void Tied_weights_stay_one_parameter_through_copies_conversions_and_steps()
    {
        using var scope = NewDisposeScope();
        using var source = Spec.Build(Gpt2);
        using var tree = ModuleCopy.DeepCopy(source, "");
        using var optimizer = HostedOptimizer.Create("o", "SGD", new Dictionary<string, object?> { ["lr"] = 0.1 }, [], tree, "optimizer");
        Conversions.Convert(tree.Root, new ConversionPlan(ConversionKind.Double));
        var state = ModuleTree.State(tree.Root).ToDictionary(entry => entry.Key, entry => entry.Tensor);
        var before = state["lm_head.weight"].clone();

        tree.Run(tensor(new long[] { 1, 2, 3 }, [1, 3])).sum().backward();
        optimizer.Step();

        Assert.Same(state["transformer.wte.weight"], state["lm_head.weight"]);
        Assert.DoesNotContain("lm_head.weight", ModuleTree.NamedParameters(tree.Root).Select(p => p.Name));
        Assert.Equal(ScalarType.Float64, state["lm_head.weight"].dtype);
        Assert.NotEqual(0, Spec.MaxDifference(before, state["lm_head.weight"]));
        Assert.Equal(tree.Bytes, ModuleTree.NamedParameters(tree.Root).Sum(p => p.Parameter.NumberOfElements * 8));
    }

    [Fact]
    public void Initial_values_are_Hugging_Faces()
    {
        using var scope = NewDisposeScope();
        manual_seed(0);
        using var tree = Spec.Build(Spec.Of("BertModel", ("vocab_size", 100.0), ("hidden_size", 64.0), ("num_hidden_layers", 1.0), ("num_attention_heads", 2.0), ("intermediate_size", 64.0)));
        var register = new Registration(tree, new BuildLimits(), _ => null);
        register.Parameter("pooler.dense", "scale", ones(1), requiresGrad: true);
        register.Module("pooler", "activation", Spec.Build(Spec.Of("BatchNorm1d", ("num_features", 64.0))).Root, "spec");
        Initializers.Apply(tree.Root, new ApplyPlan("reset_parameters") { Type = "BertModel" });
        var state = ModuleTree.State(tree.Root).ToDictionary(entry => entry.Key, entry => entry.Tensor);

        // Linear layers and embeddings with a standard deviation of initializer_range, 0.02; biases and the padding row are 0, and what is no part of BERT is as it was.
        Assert.All(state.Where(entry => entry.Key.EndsWith("dense.weight", StringComparison.Ordinal)), entry => Assert.Equal(0.02, entry.Value.std().item<float>(), 0.002));
        Assert.All(state.Where(entry => entry.Key.EndsWith("dense.bias", StringComparison.Ordinal)), entry => Assert.Equal(0, entry.Value.abs().max().item<float>()));
        Assert.Equal(0.02, state["embeddings.word_embeddings.weight"].std().item<float>(), 0.002);
        Assert.Equal(0, state["embeddings.word_embeddings.weight"][0].abs().max().item<float>());
        Assert.Equal(1, state["pooler.dense.scale"].item<float>());
        Assert.All([state["pooler.activation.weight"], state["embeddings.LayerNorm.weight"]], weight => Assert.Equal(1, weight.min().item<float>()));
    }

    [Fact]
    public void Attention_mask_hides_padding_and_the_causal_mask_the_future()
    {
        using var scope = NewDisposeScope();
        using var tree = Spec.Build(Gpt2);
        tree.Root.Train(false);
        var mask = tensor(new long[] { 0, 1, 1, 1 }, [1, 4]);
        Tensor Run(long start, long count, params long[] ids) => tree.Run(tensor(ids, [1, 4]), mask).narrow(1, start, count);

        Assert.Equal(0, Spec.MaxDifference(Run(1, 3, 1, 2, 3, 4), Run(1, 3, 9, 2, 3, 4)));
        Assert.Equal(0, Spec.MaxDifference(Run(1, 2, 1, 2, 3, 4), Run(1, 2, 1, 2, 3, 9)));
        Assert.NotEqual(0, Spec.MaxDifference(Run(1, 3, 1, 2, 3, 4), Run(1, 3, 1, 9, 3, 4)));
    }

    [Theory]
    [InlineData("spec.args.num_clases", "num_classes", "resnet18", "num_clases", 3.0)]
    [InlineData("spec.args.groups", "Bottleneck", "resnet18", "groups", 2.0)]
    [InlineData("spec.args.num_classes", "at least 1", "vgg11", "num_classes", 0.0)]
    [InlineData("spec.args", "64 bits", "UNet", "in_channels", 9e15)]
    [InlineData("spec.args", "submodules", "GPT2Model", "n_layer", 1000.0)]
    [InlineData("spec.args.n_head", "divide n_embd", "GPT2Model", "n_embd", 10.0)]
    [InlineData("spec.args.n_head", "2147483647", "GPT2Model", "n_head", 4294967297.0)]
    [InlineData("spec.args.num_attention_heads", "2147483647", "BertModel", "num_attention_heads", 4294967297.0)]
    [InlineData("spec.args.nhead", "divide d_model", "Transformer", "nhead", 3.0)]
    public void Bad_arguments_are_blamed_on_what_the_caller_wrote(string field, string text, string type, string name, double value)
    {
        var error = Spec.Refused(() => ModuleBuilder.EstimateBytes(Spec.Of(type, (name, value)), ElementType.Float32));

        Assert.Equal(EngineError.InvalidArgument, error.Error);
        Assert.StartsWith(field, Assert.Single(error.Fields).Field);
        Assert.Contains(text, error.Message);
    }

    [Fact]
    public void Inputs_that_a_model_cannot_take_are_refused()
    {
        using var scope = NewDisposeScope();
        using var tree = Spec.Build(Gpt2);
        Assert.Contains("n_positions", Spec.Refused(() => tree.Run(zeros([1, 9], dtype: ScalarType.Int64))).Message);
        Assert.Contains("attention_mask", Spec.Refused(() => tree.Run(zeros([1, 3], dtype: ScalarType.Int64), ones([1, 4]))).Message);
        Assert.Contains("transformer.wte", Spec.Refused(() => tree.Run(full([1, 3], 11, dtype: ScalarType.Int64))).Message);
    }
}
