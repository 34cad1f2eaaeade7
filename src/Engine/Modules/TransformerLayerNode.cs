using Sconce.Engine.Tensors;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace Sconce.Engine.Modules;

/// <summary><c>TransformerEncoderLayer</c> and <c>TransformerDecoderLayer</c>, with PyTorch's children.</summary>
internal sealed class TransformerLayerNode : ModuleNode
{
    private readonly bool _isDecoder;
    private readonly bool _normFirst;
    private readonly bool _usesGelu;
    private readonly string[] _names;
    private Dictionary<string, ModuleNode> _byName = [];

    public TransformerLayerNode(NodeOrigin origin, BuildContext context, bool isDecoder)
        : base(origin)
    {
        var a = origin.Args;
        _isDecoder = isDecoder;
        _normFirst = a.Bool("norm_first");
        _usesGelu = a.Text("activation") == "gelu";
        if (a.Int("d_model") % a.Int("nhead") != 0)
        {
            throw a.Refuse("nhead", $"{a.Int("nhead")} was given; it must divide d_model, which is {a.Int("d_model")}");
        }

        var (model, inner, bias, type) = (a.Int("d_model"), a.Int("dim_feedforward"), a.Bool("bias"), BuildContext.TypeOf(origin).Name());
        var children = new List<KeyValuePair<string, ModuleNode>> { new("self_attn", Attention()) };
        if (isDecoder)
        {
            children.Add(new("multihead_attn", Attention()));
        }

        children.Add(new("linear1", Linear(model, inner)));
        children.Add(new("dropout", Dropout()));
        children.Add(new("linear2", Linear(inner, model)));
        var norms = isDecoder ? 3 : 2;
        children.AddRange(Enumerable.Range(1, norms).Select(i => KeyValuePair.Create($"norm{i}", Norm())));
        children.AddRange(Enumerable.Range(1, norms).Select(i => KeyValuePair.Create($"dropout{i}", Dropout())));
        Children = children;
        _names = [.. children.Select(child => child.Key)];
        Rewire();

        ModuleNode Attention() => context.Create("MultiheadAttention", origin, [],
            ("embed_dim", model), ("num_heads", a.Int("nhead")), ("dropout", a.Float("dropout")), ("bias", bias), ("batch_first", a.Bool("batch_first")), ("dtype", type));

        ModuleNode Linear(long from, long to) => context.Create("Linear", origin, [], ("in_features", from), ("out_features", to), ("bias", bias), ("dtype", type));

        ModuleNode Norm() => context.Create("LayerNorm", origin, [], ("normalized_shape", model), ("eps", a.Float("layer_norm_eps")), ("bias", bias), ("dtype", type));

        ModuleNode Dropout() => context.Create("Dropout", origin, [], ("p", a.Float("dropout")));
    }

    // What is added beside the layer's own children is not called.
    internal override IEnumerable<ModuleNode> CalledChildren => _names.Select(name => _byName[name]);

    internal override void Rewire()
    {
        _byName = Children.ToDictionary(child => child.Key, child => child.Value);
        foreach (var attention in _names.Select(name => _byName[name]).OfType<MultiheadAttentionNode>())
        {
            attention.NeedsWeights = false;
        }
    }

    internal override string? ChildProblem(string name, ModuleNode child) =>
        name is "self_attn" or "multihead_attn" ? child is MultiheadAttentionNode ? null : "it is called as a MultiheadAttention"
        : _names.Contains(name) ? UnlessOneInput(child) : null;

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var x = TensorAt(inputs, 0, context);
        if (!_isDecoder)
        {
            x = Residual(x, "norm1", "dropout1", y => Attend("self_attn", y, y, inputs[2], inputs[1], context), context);
            return TensorTree.Of(Residual(x, "norm2", "dropout2", y => FeedForward(y, context), context));
        }

        var memory = TensorAt(inputs, 1, context);
        x = Residual(x, "norm1", "dropout1", y => Attend("self_attn", y, y, inputs[4], inputs[2], context), context);
        x = Residual(x, "norm2", "dropout2", y => Attend("multihead_attn", y, memory, inputs[5], inputs[3], context), context);
        return TensorTree.Of(Residual(x, "norm3", "dropout3", y => FeedForward(y, context), context));
    }

    private Tensor Residual(Tensor x, string norm, string dropout, Func<Tensor, Tensor> block, CallContext context)
    {
        var sum = x + Child(dropout, block(_normFirst ? Child(norm, x, context) : x), context);
        return _normFirst ? sum : Child(norm, sum, context);
    }

    private Tensor Attend(string name, Tensor query, Tensor source, TensorTree keyPadding, TensorTree mask, CallContext context) =>
        CallChild(name, _byName[name], [TensorTree.Of(query), TensorTree.Of(source), TensorTree.Of(source), keyPadding, mask], context).Items![0].Tensor!;

    private Tensor FeedForward(Tensor x, CallContext context)
    {
        var inner = Child("linear1", x, context);
        return Child("linear2", Child("dropout", _usesGelu ? F.gelu(inner) : inner.relu(), context), context);
    }

    private Tensor Child(string name, Tensor input, CallContext context) => CallForTensor(name, _byName[name], TensorTree.Of(input), context);
}
