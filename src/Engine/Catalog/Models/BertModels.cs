using Sconce.Engine.Modules;
using static Sconce.Engine.Catalog.Argument;

namespace Sconce.Engine.Catalog.Models;

/// <summary>BERT, the Transformer encoder with embeddings and positions, with the names of Hugging Face's transformers.</summary>
internal static class BertModels
{
    private static readonly Argument Width = Int("hidden_size").AtLeast(1).Or(768L);

    private static readonly Argument Epsilon = Float("layer_norm_eps").AtLeast(0).Or(1e-12);

    private static readonly Argument Dropout = Float("hidden_dropout_prob").Between(0, 1).Or(0.1);

    private static readonly Argument[] Attention =
        [Int("num_attention_heads").Between(1, int.MaxValue).Or(12L), Float("attention_probs_dropout_prob").Between(0, 1).Or(0.1), Text("attn_implementation", "sdpa", "eager").Or("sdpa")];

    private static readonly Argument[] Inner = [Int("intermediate_size").AtLeast(1).Or(3072L), Text("hidden_act", "gelu", "gelu_new", "relu", "silu", "tanh").Or("gelu")];

    private static readonly Argument[] Layer = [Width, .. Attention, .. Inner, Dropout, Epsilon];

    private static readonly Argument[] Embeddings =
    [
        Int("vocab_size").AtLeast(1).Or(30522L), Int("max_position_embeddings").AtLeast(1).Or(512L), Int("type_vocab_size").AtLeast(1).Or(2L), Int("pad_token_id").AtLeast(0).Or(0L).Nullable(),
    ];

    private static readonly Argument Layers = Int("num_hidden_layers").Between(1, 1024).Or(12L);

    private static readonly Argument[] Model = [.. Embeddings, Layers, .. Layer, Float("initializer_range").AtLeast(0).Or(0.02)];

    private static readonly string[] Inputs = ["input_ids", "attention_mask?", "token_type_ids?", "position_ids?"];

    public static IReadOnlyList<ModuleType> All { get; } =
    [
        new("BertEmbeddings", "Module", "", [.. Embeddings, Width, Dropout, Epsilon], ["input_ids", "token_type_ids?", "position_ids?"], (origin, context) => new BertEmbeddingsNode(origin, context))
        {
            Kind = TypeKind.Model,
            Draws = true,
        },
        new("BertSelfAttention", "Module", "", [Width, .. Attention], ["hidden_states", "attention_mask?"], (origin, context) => new BertSelfAttentionNode(origin, context))
        {
            Kind = TypeKind.Model,
            Draws = true,
        },
        ModelTypes.Of("BertSelfOutput", "Module", [Width, Dropout, Epsilon], ["hidden_states", "input_tensor"], args => Output(args, args.Int("hidden_size"))),
        ModelTypes.Of("BertAttention", "Module", [Width, .. Attention, Dropout, Epsilon], ["hidden_states", "attention_mask?"], AttentionWithOutput),
        ModelTypes.Of("BertIntermediate", "Module", [Width, .. Inner], ["hidden_states"], Intermediate),
        ModelTypes.Of("BertOutput", "Module", [Width, Inner[0], Dropout, Epsilon], ["hidden_states", "input_tensor"], args => Output(args, args.Int("intermediate_size"))),
        ModelTypes.Of("BertLayer", "Module", Layer, ["hidden_states", "attention_mask?"], LayerOf),
        ModelTypes.Of("BertEncoder", "Module", [Layers, .. Layer], ["hidden_states", "attention_mask?"], Encoder),
        ModelTypes.Of("BertPooler", "Module", [Width], ["hidden_states"], Pooler),
        ModelTypes.Of("BertModel", "Module", [.. Model, Bool("add_pooling_layer", true)], Inputs, Bert, (node, args) => TransformerInitial.Draw(node, args.Float("initializer_range")),
            ["last_hidden_state", "pooler_output?"], drawsAll: true),
        ModelTypes.Of("BertForSequenceClassification", "Module", [.. Model, Int("num_labels").AtLeast(1).Or(2L), Float("classifier_dropout").Between(0, 1).OrNone()], Inputs, Classifier,
            (node, args) => TransformerInitial.Draw(node, args.Float("initializer_range")), ["logits"], drawsAll: true),
    ];

    private static ModuleSpec Bert(BoundArguments args)
    {
        var wires = new Wires(Inputs);
        var embedded = wires.Call("embeddings", "input_ids", "token_type_ids", "position_ids");
        var encoded = wires.Call("encoder", embedded, "attention_mask");
        (string, ModuleSpec)[] children = [("embeddings", Part("BertEmbeddings", args)), ("encoder", Part("BertEncoder", args))];
        return args.Bool("add_pooling_layer")
            ? Compose.Graph(wires.Returns(encoded, wires.Call("pooler", encoded)), [.. children, ("pooler", Part("BertPooler", args))])
            : Compose.Graph(wires.Returns(encoded), children);
    }

    private static ModuleSpec Classifier(BoundArguments args)
    {
        var wires = new Wires(Inputs);
        wires.Unpack("bert", ["input_ids", "attention_mask", "token_type_ids", "position_ids"], "", "pooled");
        return Compose.Graph(
            wires.Returns(wires.Chain("pooled", "dropout", "classifier")),
            ("bert", Part("BertModel", args)),
            ("dropout", Compose.Dropout(args.FloatOrNone("classifier_dropout") ?? args.Float("hidden_dropout_prob"))),
            ("classifier", Compose.Linear(args.Int("hidden_size"), args.Int("num_labels"))));
    }

    private static ModuleSpec Encoder(BoundArguments args)
    {
        var wires = new Wires("hidden_states", "attention_mask?");
        var value = "hidden_states";
        var count = (int)args.Int("num_hidden_layers");
        for (var i = 0; i < count; i++)
        {
            value = wires.Call(string.Create(System.Globalization.CultureInfo.InvariantCulture, $"layer.{i}"), value, "attention_mask");
        }

        return Compose.Graph(wires.Returns(value), ("layer", Compose.List(Enumerable.Range(0, count).Select(_ => Part("BertLayer", args)))));
    }

    private static ModuleSpec LayerOf(BoundArguments args)
    {
        var wires = new Wires("hidden_states", "attention_mask?");
        var attended = wires.Call("attention", "hidden_states", "attention_mask");
        return Compose.Graph(
            wires.Returns(wires.Call("output", wires.Call("intermediate", attended), attended)),
            ("attention", Part("BertAttention", args)), ("intermediate", Part("BertIntermediate", args)), ("output", Part("BertOutput", args)));
    }

    private static ModuleSpec AttentionWithOutput(BoundArguments args)
    {
        var wires = new Wires("hidden_states", "attention_mask?");
        return Compose.Graph(
            wires.Returns(wires.Call("output", wires.Call("self", "hidden_states", "attention_mask"), "hidden_states")),
            ("self", Part("BertSelfAttention", args)), ("output", Part("BertSelfOutput", args)));
    }

    private static ModuleSpec Intermediate(BoundArguments args)
    {
        var wires = new Wires("hidden_states");
        return Compose.Graph(
            wires.Returns(wires.Chain("hidden_states", "dense", "intermediate_act_fn")),
            ("dense", Compose.Linear(args.Int("hidden_size"), args.Int("intermediate_size"))), ("intermediate_act_fn", TransformerParts.Activation(args.Text("hidden_act"))));
    }

    private static ModuleSpec Output(BoundArguments args, long from)
    {
        var width = args.Int("hidden_size");
        var wires = new Wires("hidden_states", "input_tensor");
        var made = wires.Function("add", [wires.Chain("hidden_states", "dense", "dropout"), "input_tensor"]);
        return Compose.Graph(
            wires.Returns(wires.Call("LayerNorm", made)),
            ("dense", Compose.Linear(from, width)), ("LayerNorm", Compose.LayerNorm(width, args.Float("layer_norm_eps"))), ("dropout", Compose.Dropout(args.Float("hidden_dropout_prob"))));
    }

    private static ModuleSpec Pooler(BoundArguments args)
    {
        var wires = new Wires("hidden_states");
        var first = wires.Function("select", ["hidden_states"], ("dim", 1), ("index", 0));
        return Compose.Graph(
            wires.Returns(wires.Chain(first, "dense", "activation")),
            ("dense", Compose.Linear(args.Int("hidden_size"), args.Int("hidden_size"))), ("activation", Compose.Of("Tanh")));
    }

    /// <summary>A part, with those of the arguments given that it takes.</summary>
    private static ModuleSpec Part(string type, BoundArguments args)
    {
        var takes = ModuleCatalog.Module(type, "type").Arguments.Select(argument => argument.Name).ToHashSet();
        return new ModuleSpec(type) { Args = args.Given.Where(arg => takes.Contains(arg.Key)).ToDictionary() };
    }
}
