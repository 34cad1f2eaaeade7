using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static Sconce.Engine.Tests.Modules.Spec;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Modules;

/// <summary>add_module over the parts that a type makes by itself, as LoRA and other patches do: forward calls what is there now.</summary>
public sealed class ReplacedPartTests
{
    private static readonly (string, object?)[] Gpt2 = [("vocab_size", 11.0), ("n_positions", 8.0), ("n_embd", 8.0), ("n_layer", 2.0), ("n_head", 2.0)];
    private static readonly (string, object?)[] Bert =
        [("vocab_size", 11.0), ("max_position_embeddings", 8.0), ("hidden_size", 8.0), ("num_hidden_layers", 1.0), ("num_attention_heads", 2.0), ("intermediate_size", 8.0)];

    private static readonly Dictionary<string, (ModuleSpec Spec, Func<Tensor[]> Inputs)> Types = new()
    {
        ["GPT2LMHeadModel"] = (Of("GPT2LMHeadModel", [.. Gpt2, ("tie_word_embeddings", false)]), () => [arange(6).view(2, 3)]),
        ["GPT2, eager"] = (Of("GPT2Model", [.. Gpt2, ("attn_implementation", "eager")]), () => [arange(6).view(2, 3)]),
        ["BertForSequenceClassification"] = (Of("BertForSequenceClassification", Bert), () => [arange(6).view(2, 3)]),
        ["BertModel, eager"] = (Of("BertModel", [.. Bert, ("attn_implementation", "eager")]), () => [arange(6).view(2, 3)]),
        ["AdaptiveLogSoftmaxWithLoss"] = (Of("AdaptiveLogSoftmaxWithLoss", ("in_features", 8.0), ("n_classes", 9.0), ("cutoffs", new object?[] { 2.0, 5.0 }), ("div_value", 2.0)), () => [arange(16, ScalarType.Float32).view(2, 8) / 8, tensor(new long[] { 1, 6 })]),
        ["Transformer"] = (Of("Transformer", ("d_model", 8.0), ("nhead", 2.0), ("num_encoder_layers", 1.0), ("num_decoder_layers", 1.0), ("dim_feedforward", 8.0)), () => [arange(32, ScalarType.Float32).view(2, 2, 8) / 8, arange(16, ScalarType.Float32).view(1, 2, 8) / 8]),
        ["MultiheadAttention"] = (Of("MultiheadAttention", ("embed_dim", 8.0), ("num_heads", 2.0)), () => [ones(2, 1, 8), ones(2, 1, 8), arange(16, ScalarType.Float32).view(2, 1, 8)]),
        ["BasicBlock"] = (Of("BasicBlock", ("inplanes", 2.0), ("planes", 2.0)), () => [arange(128, ScalarType.Float32).view(1, 2, 8, 8) / 128]),
        ["MLP"] = (Of("MLP", ("in_channels", 4.0), ("hidden_channels", new object?[] { 3.0, 2.0 })), () => [ones(1, 4)]),
    };

    public static TheoryData<string> Names => [.. Types.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public void A_part_that_is_replaced_is_the_one_that_forward_calls(string type)
    {
        using var scope = NewDisposeScope();
        var (spec, inputs) = Types[type];
        manual_seed(0);
        using var tree = Build(spec);
        var paths = ModuleTree.Walk(tree.Root).Select(at => at.Path).Where(path => path.Length > 0).ToList();
        foreach (var path in paths)
        {
            using var fresh = ModuleCopy.DeepCopy(tree, "");
            var dot = path.LastIndexOf('.');
            new Registration(fresh, new BuildLimits(), _ => null).Module(dot < 0 ? "" : path[..dot], path[(dot + 1)..], Build(ModuleSpecs.Of(fresh.Find(path))).Root, "spec");

            // The same values in a tree that nothing was replaced in.
            using var same = Build(spec);
            foreach (var (there, here) in ModuleTree.State(fresh.Root).Zip(ModuleTree.State(same.Root)))
            {
                Assert.Equal(there.Key, here.Key);
                using (no_grad())
                {
                    _ = here.Tensor.copy_(there.Tensor);
                }
            }

            Assert.Equal(Outputs(same, inputs()), Outputs(fresh, inputs()));
            using var copy = ModuleCopy.DeepCopy(fresh, "");
            Assert.Equal(Outputs(fresh, inputs()), Outputs(copy, inputs()));
            using var again = Build(fresh.Spec);
            Assert.Equal(ModuleTree.Repr(fresh.Root), ModuleTree.Repr(again.Root));

            // What the part's own initialiser and those above it draw is drawn here too.
            Initializers.Apply(fresh.Root, new ApplyPlan("reset_parameters"));
            _ = Outputs(fresh, inputs());
        }

        static float[] Outputs(ModuleTree tree, Tensor[] inputs)
        {
            tree.Root.Train(false);
            return [.. tree.Root.Call(new CallArguments([.. inputs.Select(TensorTree.Of)]), new CallContext()).Flatten().SelectMany(output => output.to_type(ScalarType.Float32).data<float>().ToArray())];
        }
    }

    [Theory]
    [InlineData("GPT2LMHeadModel", "transformer.h.0.attn")]
    [InlineData("GPT2LMHeadModel", "transformer")]
    [InlineData("GPT2LMHeadModel", "")]
    [InlineData("GPT2, eager", "h.0.attn")]
    [InlineData("BertModel, eager", "embeddings")]
    [InlineData("BertModel, eager", "encoder.layer.0.attention.self")]
    [InlineData("AdaptiveLogSoftmaxWithLoss", "")]
    [InlineData("AdaptiveLogSoftmaxWithLoss", "tail")]
    [InlineData("Transformer", "encoder.layers.0")]
    [InlineData("Transformer", "decoder.layers.0")]
    [InlineData("Transformer", "")]
    [InlineData("MultiheadAttention", "")]
    public void A_part_that_forward_cannot_use_is_refused_or_its_call_is(string type, string parent)
    {
        using var scope = NewDisposeScope();
        var (spec, inputs) = Types[type];
        ModuleSpec[] odd =
        [
            new("Identity"), Linear(8, 8), Linear(8, 1), Of("Flatten", ("start_dim", 0.0)), Of("LSTM", ("input_size", 8.0), ("hidden_size", 8.0)), new("ModuleList"), new("Sequential"), Of("Embedding", ("num_embeddings", 20.0), ("embedding_dim", 3.0)),
            Of("Bilinear", ("in1_features", 8.0), ("in2_features", 8.0), ("out_features", 8.0)), Of("Softmax", ("dim", -1.0)), Of("Unflatten", ("dim", 0.0), ("unflattened_size", new object?[] { 1.0, -1.0 })),
            Graph(["x"], ["x", "x"], []), Graph(["x"], ["y"], [Function("y", "argmax", ["x"])]), Of("LazyLinear", ("out_features", 8.0)),
        ];
        using var tree = Build(spec);
        foreach (var name in tree.Find(parent).Children.Select(child => child.Key).ToList())
        {
            foreach (var other in odd)
            {
                using var copy = ModuleCopy.DeepCopy(tree, "");
                var child = Build(other);
                try
                {
                    new Registration(copy, new BuildLimits(), _ => null).Module(parent, name, child.Root, "spec");
                }
                catch (EngineException refused)
                {
                    Assert.NotEqual(EngineError.Internal, refused.Error);
                    child.Dispose();
                    continue;
                }

                try
                {
                    _ = copy.Root.Call(new CallArguments([.. inputs().Select(TensorTree.Of)]), new CallContext());
                    Initializers.Apply(copy.Root, new ApplyPlan("reset_parameters"));
                }
                catch (EngineException refused)
                {
                    Assert.NotEqual(EngineError.Internal, refused.Error);
                }
            }
        }
    }
}
