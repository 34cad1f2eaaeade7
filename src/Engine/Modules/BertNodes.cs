using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>Hugging Face's <c>BertEmbeddings</c>: words, positions and token types, normalized.</summary>
internal sealed class BertEmbeddingsNode : ModuleNode
{
    private readonly long _positions;

    public BertEmbeddingsNode(NodeOrigin origin, BuildContext context)
        : base(origin)
    {
        var a = origin.Args;
        _positions = a.Int("max_position_embeddings");
        Children =
        [
            new("word_embeddings", Embedding(a.Int("vocab_size"), a.IntOrNone("pad_token_id"))), new("position_embeddings", Embedding(_positions)), new("token_type_embeddings", Embedding(a.Int("type_vocab_size"))),
            new("LayerNorm", context.Create("LayerNorm", origin, [], ("normalized_shape", a.Int("hidden_size")), ("eps", a.Float("layer_norm_eps")))),
            new("dropout", context.Create("Dropout", origin, [], ("p", a.Float("hidden_dropout_prob")))),
        ];

        ModuleNode Embedding(long rows, long? padding = null) =>
            context.Create("Embedding", origin, [], ("num_embeddings", rows), ("embedding_dim", a.Int("hidden_size")), ("padding_idx", padding));
    }

    internal override string? ChildProblem(string name, ModuleNode child) =>
        name is "word_embeddings" or "position_embeddings" or "token_type_embeddings" or "LayerNorm" or "dropout" ? UnlessOneInput(child) : null;

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var words = TensorAt(inputs, 0, context);
        if (words.Dimensions != 2 || words.shape[1] > _positions)
        {
            throw Refuse(context, $"takes input_ids of batch and step with at most {_positions} steps (max_position_embeddings); it was given {CallFailure.Describe(words)}");
        }

        var types = OptionalTensorAt(inputs, 1, context) ?? zeros(words.shape, dtype: ScalarType.Int64, device: words.device);
        var places = OptionalTensorAt(inputs, 2, context) ?? arange(words.shape[1], dtype: ScalarType.Int64, device: words.device).unsqueeze(0);
        return TensorTree.Of(Child(4, Child(3, Child(0, words) + Child(2, types) + Child(1, places))));

        Tensor Child(int index, Tensor input) => CallForTensor(Children[index].Key, Children[index].Value, TensorTree.Of(input), context);
    }
}

/// <summary>Hugging Face's <c>BertSelfAttention</c>.</summary>
internal sealed class BertSelfAttentionNode : HeadAttentionNode
{
    public BertSelfAttentionNode(NodeOrigin origin, BuildContext context)
        : base(origin)
    {
        var a = origin.Args;
        var width = a.Int("hidden_size");
        Heads = (int)a.Int("num_attention_heads");
        if (width % Heads != 0)
        {
            throw a.Refuse("num_attention_heads", $"{Heads} was given; it must divide hidden_size, which is {width}");
        }

        Children =
        [
            new("query", Linear()), new("key", Linear()), new("value", Linear()),
            new("dropout", context.Create("Dropout", origin, [], ("p", a.Float("attention_probs_dropout_prob")))),
        ];

        ModuleNode Linear() => context.Create("Linear", origin, [], ("in_features", width), ("out_features", width));
    }

    private protected override int Heads { get; }

    internal override string? ChildProblem(string name, ModuleNode child) => name is "query" or "key" or "value" or "dropout" ? UnlessOneInput(child) : null;

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var x = TensorAt(inputs, 0, context);
        if (x.Dimensions != 3)
        {
            throw Refuse(context, $"takes an input of batch, step and feature; it was given {CallFailure.Describe(x)}");
        }

        var (q, k, v) = (Child(0), Child(1), Child(2));
        return TensorTree.Of(Attend(q, k, v, OptionalTensorAt(inputs, 1, context), causal: false, 1 / Math.Sqrt(q.shape[2] / Heads), Children[3], context));

        Tensor Child(int index) => CallForTensor(Children[index].Key, Children[index].Value, inputs[0], context);
    }
}
