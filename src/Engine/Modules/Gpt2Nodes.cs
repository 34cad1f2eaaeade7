using Sconce.Engine.Catalog.Models;
using Sconce.Engine.Tensors;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>Hugging Face's <c>Conv1D</c>: a linear layer whose weight is [in, out].</summary>
internal sealed class Conv1DNode : ModuleNode
{
    private readonly long _in;

    public Conv1DNode(NodeOrigin origin, BuildContext context)
        : base(origin)
    {
        _in = origin.Args.Int("nx");
        Weight = context.Parameter(origin, _in, origin.Args.Int("nf"));
        Bias = context.Parameter(origin, origin.Args.Int("nf"));
        Parameters = [new("weight", Weight), new("bias", Bias)];
    }

    public Parameter Weight { get; }

    public Parameter Bias { get; }

    public override string ExtraRepr => $"nf={Origin.Args.Int("nf")}, nx={_in}";

    internal override bool ResetParameters()
    {
        Initial.Normal(Weight, 0.02);
        Initial.Fill(Bias, 0);
        return true;
    }

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var input = TensorAt(inputs, 0, context);
        if (input.Dimensions == 0 || input.shape[^1] != _in)
        {
            throw Refuse(context, $"takes an input whose last dimension is {_in} (nx); it was given {CallFailure.Describe(input)}");
        }

        context.Memory?.Need(input, input.shape.AsSpan(0, (int)input.Dimensions - 1), Bias.shape[0]);
        return TensorTree.Of(nn.functional.linear(input, Weight.t(), Bias));
    }
}

/// <summary>Hugging Face's <c>GPT2Attention</c>.</summary>
internal sealed class Gpt2AttentionNode : HeadAttentionNode
{
    private readonly double _scale;

    public Gpt2AttentionNode(NodeOrigin origin, BuildContext context)
        : base(origin)
    {
        var a = origin.Args;
        var width = a.Int("n_embd");
        Heads = (int)a.Int("n_head");
        if (width % Heads != 0)
        {
            throw a.Refuse("n_head", $"{Heads} was given; it must divide n_embd, which is {width}");
        }

        _scale = a.Bool("scale_attn_weights") ? 1 / Math.Sqrt(width / Heads) : 1;
        Children =
        [
            new("c_attn", context.Create("Conv1D", origin, [], ("nf", 3 * width), ("nx", width))), new("c_proj", context.Create("Conv1D", origin, [], ("nf", width), ("nx", width))),
            new("attn_dropout", context.Create("Dropout", origin, [], ("p", a.Float("attn_pdrop")))), new("resid_dropout", context.Create("Dropout", origin, [], ("p", a.Float("resid_pdrop")))),
        ];
    }

    private protected override int Heads { get; }

    internal override string? ChildProblem(string name, ModuleNode child) => name is "c_attn" or "c_proj" or "attn_dropout" or "resid_dropout" ? UnlessOneInput(child) : null;

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var x = TensorAt(inputs, 0, context);
        if (x.Dimensions != 3)
        {
            throw Refuse(context, $"takes an input of batch, step and feature; it was given {CallFailure.Describe(x)}");
        }

        var projected = Child(0, x);
        if (projected.Dimensions != 3 || projected.shape[2] % 3 != 0)
        {
            throw Refuse(context, $"needs queries, keys and values side by side; \"c_attn\" gave {CallFailure.Describe(projected)}");
        }

        var parts = projected.chunk(3, 2);
        return TensorTree.Of(Child(3, Child(1, Attend(parts[0], parts[1], parts[2], OptionalTensorAt(inputs, 1, context), causal: true, _scale, Children[2], context))));

        Tensor Child(int index, Tensor input) => CallForTensor(Children[index].Key, Children[index].Value, TensorTree.Of(input), context);
    }
}

/// <summary>Hugging Face's <c>GPT2Model</c>: tokens and positions, then blocks.</summary>
internal sealed class Gpt2ModelNode : ModuleNode
{
    private readonly long _positions;
    private readonly double _range;
    private ModuleListNode _blocks;

    public Gpt2ModelNode(NodeOrigin origin, BuildContext context)
        : base(origin)
    {
        var a = origin.Args;
        var width = a.Int("n_embd");
        _positions = a.Int("n_positions");
        _range = a.Float("initializer_range");
        (string, object?)[] block =
        [
            ("n_embd", width), ("n_head", a.Int("n_head")), ("n_inner", a.IntOrNone("n_inner")), ("activation_function", a.Text("activation_function")), ("resid_pdrop", a.Float("resid_pdrop")),
            ("attn_pdrop", a.Float("attn_pdrop")), ("layer_norm_epsilon", a.Float("layer_norm_epsilon")), ("scale_attn_weights", a.Bool("scale_attn_weights")),
            ("attn_implementation", a.Text("attn_implementation")),
        ];
        Children = context.WithoutValues<KeyValuePair<string, ModuleNode>[]>(() =>
        [
            new("wte", Embedding(a.Int("vocab_size"))), new("wpe", Embedding(_positions)), new("drop", context.Create("Dropout", origin, [], ("p", a.Float("embd_pdrop")))),
            new("h", context.Create("ModuleList", origin,
                [.. Enumerable.Range(0, (int)a.Int("n_layer")).Select(i => KeyValuePair.Create(i.ToString(System.Globalization.CultureInfo.InvariantCulture), context.Create("GPT2Block", origin, [], block)))])),
            new("ln_f", context.Create("LayerNorm", origin, [], ("normalized_shape", width), ("eps", a.Float("layer_norm_epsilon")))),
        ]);
        _blocks = (ModuleListNode)Child("h");

        ModuleNode Embedding(long rows) => context.Create("Embedding", origin, [], ("num_embeddings", rows), ("embedding_dim", width));
    }

    internal override IEnumerable<ModuleNode> CalledChildren => [.. Children.Where(child => IsCalledWithOne(child.Key)).Select(child => child.Value), .. _blocks.Children.Select(child => child.Value)];

    internal override void Rewire()
    {
        _blocks = (ModuleListNode)Child("h");
        if (_blocks.Children.FirstOrDefault(block => block.Value.Inputs is not [{ Optional: false }, { Optional: true }, ..] || block.Value.Inputs.Skip(2).Any(input => !input.Optional)) is { Value: { } other } at)
        {
            throw EngineException.Invalid("spec", $"h.{at.Key} is a {other.TypeName}, which does not take the inputs of a GPT2Block", "CHILD_MISMATCH");
        }
    }

    internal override string? ChildProblem(string name, ModuleNode child) =>
        name == "h" ? child is ModuleListNode ? null : "it is a ModuleList with the blocks" : IsCalledWithOne(name) ? UnlessOneInput(child) : null;

    private static bool IsCalledWithOne(string name) => name is "wte" or "wpe" or "drop" or "ln_f";

    // Hugging Face's _init_weights: projections onto the residual stream are smaller by the number of them.
    internal override bool ResetParameters()
    {
        TransformerInitial.Draw(this, _range);
        foreach (var (_, weight) in ModuleTree.NamedParameters(this).Where(parameter => parameter.Name.EndsWith(".c_proj.weight", StringComparison.Ordinal)))
        {
            Initial.Normal(weight, _range / Math.Sqrt(2 * _blocks.Children.Count));
        }

        return true;
    }

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context)
    {
        var tokens = TensorAt(inputs, 0, context);
        if (tokens.Dimensions != 2 || tokens.shape[1] > _positions)
        {
            throw Refuse(context, $"takes input_ids of batch and step with at most {_positions} steps (n_positions); it was given {CallFailure.Describe(tokens)}");
        }

        var places = OptionalTensorAt(inputs, 2, context) ?? arange(tokens.shape[1], dtype: ScalarType.Int64, device: tokens.device).unsqueeze(0);
        var x = TensorTree.Of(Child(2, TensorTree.Of(Child(0, inputs[0]) + Child(1, TensorTree.Of(places)))));
        context.Enter("h");
        foreach (var (name, block) in _blocks.Children)
        {
            x = CallChild(name, block, [x, inputs[1]], context);
        }

        context.Leave();
        return TensorTree.Of(Child(4, x));

        Tensor Child(int index, TensorTree input) => CallForTensor(Children[index].Key, Children[index].Value, input, context);
    }
}

/// <summary>Hugging Face's <c>GPT2LMHeadModel</c>: its output layer has the token embedding's parameter as its weight.</summary>
internal sealed class Gpt2LanguageModelNode : ModuleNode
{
    private ModuleNode _transformer;
    private ModuleNode _head;

    public Gpt2LanguageModelNode(NodeOrigin origin, BuildContext context)
        : base(origin)
    {
        var a = origin.Args;
        (string, object?)[] sizes = [("in_features", a.Int("n_embd")), ("out_features", a.Int("vocab_size")), ("bias", false)];
        (_transformer, _head) = context.WithoutValues(() =>
        {
            var model = context.Create("GPT2Model", origin, [], [.. origin.Args.Given.Where(arg => arg.Key != "tie_word_embeddings").Select(arg => (arg.Key, arg.Value))]);
            return (model, a.Bool("tie_word_embeddings") ? context.CreateTied(origin, model.Children[0].Value.Parameters[0].Parameter, sizes) : context.Create("Linear", origin, [], sizes));
        });
        Children = [new("transformer", _transformer), new("lm_head", _head)];
    }

    internal override IEnumerable<ModuleNode> CalledChildren => [_transformer, _head];

    internal override void Rewire() => (_transformer, _head) = (Child("transformer"), Child("lm_head"));

    internal override string? ChildProblem(string name, ModuleNode child) => name switch
    {
        "transformer" when child.Inputs is not [{ Optional: false }, { Optional: true }, { Optional: true }, ..] || child.Inputs.Skip(3).Any(input => !input.Optional) => "it is called as a GPT2Model",
        "lm_head" => UnlessOneInput(child),
        _ => null,
    };

    internal override bool ResetParameters()
    {
        // A weight that is tied is the transformer's to draw.
        if (_head is not LinearNode linear || !ModuleTree.NamedParameters(_transformer).Any(parameter => ReferenceEquals(parameter.Parameter, linear.Weight)))
        {
            TransformerInitial.Draw(_head, Origin.Args.Float("initializer_range"));
        }

        _transformer.ResetParameters();
        return true;
    }

    protected override TensorTree Forward(IReadOnlyList<TensorTree> inputs, CallContext context) =>
        CallChild("lm_head", _head, [TensorTree.Of(OneTensor("transformer", CallChild("transformer", _transformer, inputs, context), context))], context);
}
