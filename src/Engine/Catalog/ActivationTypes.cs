using static Sconce.Engine.Catalog.Argument;
using static Sconce.Engine.Catalog.StatelessType;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace Sconce.Engine.Catalog;

/// <summary>
/// Activations without parameters. <c>inplace</c> is taken and printed, but the result is always a new tensor: inputs may be the caller's
/// memory or kept tensors, and values of a wiring never change.
/// </summary>
internal static class ActivationTypes
{
    private static readonly Argument InPlace = Bool("inplace", false);

    public static IReadOnlyList<StatelessType> All { get; } =
    [
        Of("ReLU", "relu", [InPlace], a => Flag(a), _ => One(x => x.relu())),
        Of("ReLU6", "relu6", [InPlace], a => Flag(a), _ => One(x => F.relu6(x))) with { Base = "Hardtanh" },
        Of("SELU", "selu", [InPlace], a => Flag(a), _ => One(x => F.selu(x))),
        Of("SiLU", "silu", [InPlace], a => Flag(a), _ => One(x => F.silu(x))),
        Of("Mish", "mish", [InPlace], a => Flag(a), _ => One(x => F.mish(x))),
        Of("Hardswish", "hardswish", [InPlace], _ => "", _ => One(x => F.hardswish(x))),
        Of("Hardsigmoid", "hardsigmoid", [InPlace], _ => "", _ => One(x => F.hardsigmoid(x))),
        Of("Sigmoid", "sigmoid", [], _ => "", _ => One(x => x.sigmoid())),
        Of("LogSigmoid", "logsigmoid", [], _ => "", _ => One(x => F.logsigmoid(x))),
        Of("Tanh", "tanh", [], _ => "", _ => One(x => x.tanh())),
        Of("Tanhshrink", "tanhshrink", [], _ => "", _ => One(x => x - x.tanh())),
        Of("Softsign", "softsign", [], _ => "", _ => One(x => x / (x.abs() + 1))),
        Of("ELU", "elu", [Float("alpha").Or(1.0), InPlace], a => $"alpha={a.Repr("alpha")}{Flag(a, ", ")}", a =>
        {
            var alpha = a.Float("alpha");
            return One(x => F.elu(x, alpha));
        }),
        Of("CELU", "celu", [Float("alpha").Or(1.0), InPlace], a => $"alpha={a.Repr("alpha")}{Flag(a, ", ")}", a =>
        {
            var alpha = a.Float("alpha");
            return alpha != 0 ? One(x => F.celu(x, alpha)) : throw a.Refuse("alpha", "0 was given; CELU divides by it");
        }),
        Of("LeakyReLU", "leaky_relu", [Float("negative_slope").Or(0.01), InPlace], a => $"negative_slope={a.Repr("negative_slope")}{Flag(a, ", ")}", a =>
        {
            var slope = a.Float("negative_slope");
            return One(x => F.leaky_relu(x, slope));
        }),
        Of("Hardtanh", "hardtanh", [Float("min_val").Or(-1.0), Float("max_val").Or(1.0), InPlace], a => $"min_val={a.Repr("min_val")}, max_val={a.Repr("max_val")}{Flag(a, ", ")}", a =>
        {
            var (min, max) = (a.Float("min_val"), a.Float("max_val"));
            return max > min ? One(x => Clip(x, min, max)) : throw a.Refuse("max_val", $"{a.Repr("max_val")} was given; it must be more than min_val, {a.Repr("min_val")}");
        }),
        Of("Threshold", "threshold", [Float("threshold"), Float("value"), InPlace], a => $"threshold={a.Repr("threshold")}, value={a.Repr("value")}{Flag(a, ", ")}", a =>
        {
            var (threshold, value) = (a.Float("threshold"), a.Float("value"));
            return One(x => F.threshold(x, threshold, value));
        }),
        Of("Softplus", "softplus", [Float("beta").Or(1L), Float("threshold").Or(20L)], a => $"beta={a.Repr("beta")}, threshold={a.Repr("threshold")}", a =>
        {
            var (beta, threshold) = (a.Float("beta"), a.Float("threshold"));
            return One(x => F.softplus(x, beta, threshold));
        }),
        Of("Softshrink", "softshrink", [Float("lambd").AtLeast(0).Or(0.5)], a => a.Repr("lambd"), a =>
        {
            var lambda = a.Float("lambd");
            return One(x => F.softshrink(x, lambda));
        }),
        Of("Hardshrink", "hardshrink", [Float("lambd").Or(0.5)], a => a.Repr("lambd"), a =>
        {
            var lambda = a.Float("lambd");
            return One(x => F.hardshrink(x, lambda));
        }),
        Of("GELU", "gelu", [Text("approximate", "none", "tanh").Or("none")], a => $"approximate='{a.Repr("approximate")}'", a =>
            a.Text("approximate") == "tanh" ? One(x => F.gelu(x, TorchSharp.Modules.GELU.Approximate.tanh)) : One(F.gelu)),
        Of("GLU", "glu", [Int("dim").Or(-1L)], a => $"dim={a.Repr("dim")}", a =>
        {
            var dim = a.Int("dim");
            return One(x => F.glu(x, dim));
        }),
        Of("RReLU", "rrelu", [Float("lower").Or(1.0 / 8), Float("upper").Or(1.0 / 3), InPlace], a => $"lower={a.Repr("lower")}, upper={a.Repr("upper")}{Flag(a, ", ")}", RandomizedReLU) with { DependsOnMode = true },
        Of("Softmax", "softmax", [Int("dim").OrNone()], a => $"dim={a.Repr("dim")}", a => AlongDim(a, (x, dim) => x.softmax(dim))),
        Of("Softmin", "softmin", [Int("dim").OrNone()], a => $"dim={a.Repr("dim")}", a => AlongDim(a, (x, dim) => x.neg().softmax(dim))),
        Of("LogSoftmax", "log_softmax", [Int("dim").OrNone()], a => $"dim={a.Repr("dim")}", a => AlongDim(a, (x, dim) => F.log_softmax(x, dim))),
        Of("Softmax2d", "", [], _ => "", _ => One(x => x.Dimensions is 3 or 4 ? x.softmax(-3) : throw new ArgumentException($"Softmax2d takes 3 or 4 dimensions, it was given {x.Dimensions}"))),
    ];

    private static StatelessType Of(string name, string functional, Argument[] arguments, Func<BoundArguments, string> repr, Func<BoundArguments, TensorFunction> make) =>
        new(name, "Module", functional, arguments, repr, make) { IsFunctionToo = functional.Length > 0 };

    private static string Flag(BoundArguments args, string before = "") => args.Bool("inplace") ? $"{before}inplace=True" : "";

    // PyTorch's choice where dim is None: 0 for 0, 1 and 3 dimensions, else 1.
    private static TensorFunction AlongDim(BoundArguments args, Func<Tensor, long, Tensor> function)
    {
        var dim = args.IntOrNone("dim");
        return One(x => function(x, dim ?? (x.Dimensions is 0 or 1 or 3 ? 0 : 1)));
    }

    // TorchSharp's hardtanh returns its input. Unlike clamp it lets no gradient through at the borders themselves.
    private static Tensor Clip(Tensor x, double min, double max) => where(x.le(min).logical_or(x.ge(max)), x.detach().clamp(min, max), x);

    // TorchSharp's rrelu knows no training mode.
    private static TensorFunction RandomizedReLU(BoundArguments args)
    {
        var (lower, upper) = (args.Float("lower"), args.Float("upper"));
        if (lower > upper)
        {
            throw args.Refuse("lower", $"{args.Repr("lower")} was given; it must be at most upper, {args.Repr("upper")}");
        }

        return (inputs, mode) =>
        {
            var x = inputs[0]!;
            return Tensors.TensorTree.Of(mode.Training ? where(x >= 0, x, x * empty_like(x).uniform_(lower, upper)) : F.leaky_relu(x, (lower + upper) / 2));
        };
    }
}
