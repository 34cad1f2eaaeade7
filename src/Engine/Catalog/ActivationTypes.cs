using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static Sconce.Engine.Catalog.Argument;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace Sconce.Engine.Catalog;

/// <summary>
/// Activations. <c>inplace</c> is taken and printed, but the result is always a new tensor: inputs may be the caller's memory or kept tensors,
/// and values of a wiring never change.
/// </summary>
internal static class ActivationTypes
{
    private static readonly Argument InPlace = Bool("inplace", false);

    public static IEnumerable<ModuleType> All { get; } =
    [
        Of("ReLU", "relu", [InPlace], a => Flag(a), _ => x => x.relu()),
        Of("ReLU6", "relu6", [InPlace], a => Flag(a), _ => x => F.relu6(x), "Hardtanh"),
        Of("SELU", "selu", [InPlace], a => Flag(a), _ => x => x.selu()),
        Of("SiLU", "silu", [InPlace], a => Flag(a), _ => x => x.silu()),
        Of("Mish", "mish", [InPlace], a => Flag(a), _ => x => F.mish(x)),
        Of("Hardswish", "hardswish", [InPlace], _ => "", _ => x => F.hardswish(x)),
        Of("Hardsigmoid", "hardsigmoid", [InPlace], _ => "", _ => x => F.hardsigmoid(x)),
        Of("Sigmoid", "sigmoid", [], _ => "", _ => x => x.sigmoid()),
        Of("LogSigmoid", "logsigmoid", [], _ => "", _ => x => F.logsigmoid(x)),
        Of("Tanh", "tanh", [], _ => "", _ => x => x.tanh()),
        Of("Tanhshrink", "tanhshrink", [], _ => "", _ => x => x - x.tanh()),
        Of("Softsign", "softsign", [], _ => "", _ => x => F.softsign(x)),
    ];

    private static ModuleType Of(
        string name, string functional, Argument[] arguments, Func<BoundArguments, string> repr, Func<BoundArguments, Func<Tensor, Tensor>> make, string @base = "Module") =>
        new(name, @base, functional, arguments, ["input"], (origin, _) =>
        {
            var function = make(origin.Args);
            return new FunctionNode(origin, repr(origin.Args), (inputs, _) => TensorTree.Of(function(inputs[0]!)));
        });

    private static string Flag(BoundArguments args, string before = "") => args.Bool("inplace") ? $"{before}inplace=True" : "";
}
