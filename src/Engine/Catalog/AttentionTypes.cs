using Sconce.Engine.Modules;
using static Sconce.Engine.Catalog.Argument;

namespace Sconce.Engine.Catalog;

/// <summary>Attention and transformers.</summary>
internal static class AttentionTypes
{
    private static readonly string[] DecoderInputs = ["tgt", "memory", "tgt_mask?", "memory_mask?", "tgt_key_padding_mask?", "memory_key_padding_mask?"];

    private static readonly Argument[] LayerOptions =
    [
        Int("dim_feedforward").AtLeast(1).Or(2048L), Float("dropout").Between(0, 1).Or(0.1), Text("activation", "relu", "gelu").Or("relu"), Float("layer_norm_eps").AtLeast(0).Or(1e-5),
        Bool("batch_first", false), Bool("norm_first", false), Bool("bias", true), Dtype(),
    ];

    private static readonly Argument[] Layer = [Int("d_model").AtLeast(1), Int("nhead").AtLeast(1), .. LayerOptions];

    public static IReadOnlyList<ModuleType> All { get; } =
    [
        new("MultiheadAttention", "Module", "multi_head_attention_forward",
            [
                Int("embed_dim").AtLeast(1), Int("num_heads").AtLeast(1), Float("dropout").Between(0, 1).Or(0.0), Bool("bias", true), Bool("add_bias_kv", false), Bool("add_zero_attn", false),
                Int("kdim").AtLeast(1).OrNone(), Int("vdim").AtLeast(1).OrNone(), Bool("batch_first", false), Dtype(),
            ],
            ["query", "key", "value", "key_padding_mask?", "attn_mask?"], (origin, context) => new MultiheadAttentionNode(origin, context))
        {
            Outputs = ["attn_output", "attn_output_weights?"],
        },
        new("TransformerEncoderLayer", "Module", "", Layer, ["src", "src_mask?", "src_key_padding_mask?"], (origin, context) => new TransformerLayerNode(origin, context, isDecoder: false)),
        new("TransformerDecoderLayer", "Module", "", Layer, DecoderInputs, (origin, context) => new TransformerLayerNode(origin, context, isDecoder: true)),
        new("TransformerEncoder", "Module", "", [Int("num_layers").AtLeast(1)], ["src", "mask?", "src_key_padding_mask?"],
            (origin, context) => TransformerStackNode.Create(origin, context, "encoder_layer", "TransformerEncoderLayer"))
        {
            Children = ChildRule.Named,
            ChildNames = ["encoder_layer", "norm?"],
        },
        new("TransformerDecoder", "Module", "", [Int("num_layers").AtLeast(1)], DecoderInputs,
            (origin, context) => TransformerStackNode.Create(origin, context, "decoder_layer", "TransformerDecoderLayer"))
        {
            Children = ChildRule.Named,
            ChildNames = ["decoder_layer", "norm?"],
        },
        new("Transformer", "Module", "",
            [
                Int("d_model").AtLeast(1).Or(512L), Int("nhead").AtLeast(1).Or(8L), Int("num_encoder_layers").AtLeast(1).Or(6L), Int("num_decoder_layers").AtLeast(1).Or(6L), .. LayerOptions,
            ],
            ["src", "tgt", "src_mask?", "tgt_mask?", "memory_mask?", "src_key_padding_mask?", "tgt_key_padding_mask?", "memory_key_padding_mask?"],
            (origin, context) => new TransformerNode(origin, context)),
    ];
}
