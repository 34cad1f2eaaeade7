using Sconce.Engine.Modules;
using static Sconce.Engine.Catalog.Argument;

namespace Sconce.Engine.Catalog.Models;

/// <summary>GPT-2 with the names of Hugging Face's transformers.</summary>
internal static class Gpt2Models
{
    private static readonly Argument Width = Int("n_embd").AtLeast(1).Or(768L);

    private static readonly Argument Epsilon = Float("layer_norm_epsilon").AtLeast(0).Or(1e-5);

    private static readonly Argument[] Attention =
    [
        Int("n_head").Between(1, int.MaxValue).Or(12L), Float("resid_pdrop").Between(0, 1).Or(0.1), Float("attn_pdrop").Between(0, 1).Or(0.1), Bool("scale_attn_weights", true),
        Text("attn_implementation", "sdpa", "eager").Or("sdpa"),
    ];

    private static readonly Argument[] Inner = [Int("n_inner").AtLeast(1).OrNone(), Text("activation_function", "gelu_new", "gelu", "relu", "silu", "tanh").Or("gelu_new")];

    private static readonly Argument[] Model =
    [
        Int("vocab_size").AtLeast(1).Or(50257L), Int("n_positions").AtLeast(1).Or(1024L), Width, Int("n_layer").Between(1, 1024).Or(12L), .. Attention, .. Inner,
        Float("embd_pdrop").Between(0, 1).Or(0.1), Epsilon, Float("initializer_range").AtLeast(0).Or(0.02),
    ];

    private static readonly string[] Inputs = ["input_ids", "attention_mask?", "position_ids?"];

    public static IReadOnlyList<ModuleType> All { get; } =
    [
        new("Conv1D", "Module", "", [Int("nf").AtLeast(1), Int("nx").AtLeast(1)], ["x"], (origin, context) => new Conv1DNode(origin, context)) { Kind = TypeKind.Model },
        new("GPT2Attention", "Module", "", [Width, .. Attention], ["hidden_states", "attention_mask?"], (origin, context) => new Gpt2AttentionNode(origin, context)) { Kind = TypeKind.Model, Draws = true },
        ModelTypes.Of("GPT2MLP", "Module", [Width, .. Inner, Float("resid_pdrop").Between(0, 1).Or(0.1)], ["hidden_states"], Mlp),
        ModelTypes.Of("GPT2Block", "Module", [Width, .. Attention, .. Inner, Epsilon], ["hidden_states", "attention_mask?"], Block),
        new("GPT2Model", "Module", "", Model, Inputs, (origin, context) => new Gpt2ModelNode(origin, context)) { Kind = TypeKind.Model, Draws = true, Outputs = ["last_hidden_state"] },
        new("GPT2LMHeadModel", "Module", "", [.. Model, Bool("tie_word_embeddings", true)], Inputs, (origin, context) => new Gpt2LanguageModelNode(origin, context))
        {
            Kind = TypeKind.Model,
            Draws = true,
            Outputs = ["logits"],
        },
    ];

    private static ModuleSpec Mlp(BoundArguments args)
    {
        var width = args.Int("n_embd");
        var inner = args.IntOrNone("n_inner") ?? 4 * width;
        var wires = new Wires("hidden_states");
        return Compose.Graph(
            wires.Returns(wires.Chain("hidden_states", "c_fc", "act", "c_proj", "dropout")),
            ("c_fc", Compose.Of("Conv1D", ("nf", inner), ("nx", width))), ("c_proj", Compose.Of("Conv1D", ("nf", width), ("nx", inner))),
            ("act", TransformerParts.Activation(args.Text("activation_function"))), ("dropout", Compose.Dropout(args.Float("resid_pdrop"))));
    }

    private static ModuleSpec Block(BoundArguments args)
    {
        var (width, eps, resid) = (args.Int("n_embd"), args.Float("layer_norm_epsilon"), args.Float("resid_pdrop"));
        var wires = new Wires("hidden_states", "attention_mask?");
        var middle = wires.Function("add", [wires.Call("attn", wires.Call("ln_1", "hidden_states"), "attention_mask"), "hidden_states"]);
        return Compose.Graph(
            wires.Returns(wires.Function("add", [middle, wires.Chain(middle, "ln_2", "mlp")])),
            ("ln_1", Compose.LayerNorm(width, eps)),
            ("attn", Compose.Of("GPT2Attention",
                ("n_embd", width), ("n_head", args.Int("n_head")), ("resid_pdrop", resid), ("attn_pdrop", args.Float("attn_pdrop")), ("scale_attn_weights", args.Bool("scale_attn_weights")),
                ("attn_implementation", args.Text("attn_implementation")))),
            ("ln_2", Compose.LayerNorm(width, eps)),
            ("mlp", Compose.Of("GPT2MLP", ("n_embd", width), ("n_inner", args.IntOrNone("n_inner")), ("activation_function", args.Text("activation_function")), ("resid_pdrop", resid))));
    }
}
