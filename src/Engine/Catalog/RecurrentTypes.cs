using Sconce.Engine.Modules;
using static Sconce.Engine.Catalog.Argument;

namespace Sconce.Engine.Catalog;

/// <summary>Recurrent layers.</summary>
internal static class RecurrentTypes
{
    private static readonly Argument NonLinearity = Text("nonlinearity", "tanh", "relu").Or("tanh");

    private static readonly Argument[] Sizes = [Int("input_size").AtLeast(1), Int("hidden_size").AtLeast(1)];

    public static IReadOnlyList<ModuleType> All { get; } =
    [
        Layers("RNN", ["input", "h_0?"], ["output", "h_n"], [NonLinearity], []),
        Layers("LSTM", ["input", "h_0?", "c_0?"], ["output", "(h_n, c_n)"], [], [Int("proj_size").AtLeast(0).Or(0L)]),
        Layers("GRU", ["input", "h_0?"], ["output", "h_n"], [], []),
        Cell("RNNCell", ["input", "hx?"], ["h_1"], NonLinearity),
        Cell("LSTMCell", ["input", "h_0?", "c_0?"], ["h_1", "c_1"]),
        Cell("GRUCell", ["input", "hx?"], ["h_1"]),
    ];

    private static ModuleType Layers(string name, string[] inputs, string[] outputs, Argument[] before, Argument[] after) => new(name, "RNNBase", "",
        [
            .. Sizes, Int("num_layers").AtLeast(1).Or(1L), .. before, Bool("bias", true), Bool("batch_first", false), Float("dropout").Between(0, 1).Or(0.0),
            Bool("bidirectional", false), .. after, Dtype(),
        ],
        inputs, (origin, context) => new RecurrentNode(origin, context))
    { Outputs = outputs };

    private static ModuleType Cell(string name, string[] inputs, string[] outputs, params Argument[] more) =>
        new(name, "RNNCellBase", "", [.. Sizes, Bool("bias", true), .. more, Dtype()], inputs, (origin, context) => new RecurrentCellNode(origin, context)) { Outputs = outputs };
}
