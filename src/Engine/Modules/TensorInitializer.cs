using Sconce.Engine.Catalog;
using static Sconce.Engine.Catalog.Argument;
using static TorchSharp.torch;

namespace Sconce.Engine.Modules;

/// <summary>One initialiser of <c>torch.nn.init</c>. (TorchSharp's own draw xavier_normal_ from a uniform distribution.)</summary>
internal sealed class TensorInitializer
{
    private static readonly string[] Gains =
        ["linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"];

    private static readonly Argument[] Kaiming =
        [Float("a").Or(0.0), Text("mode", "fan_in", "fan_out").Or("fan_in"), Text("nonlinearity", Gains).Or("leaky_relu")];

    private static readonly TensorInitializer[] All =
    [
        new("constant_", [Float("val")], Any, (t, a) => t.fill_(a.Float("val"))) { NeedsFloat = false },
        new("ones_", [], Any, (t, _) => t.fill_(1)) { NeedsFloat = false },
        new("zeros_", [], Any, (t, _) => t.zero_()) { NeedsFloat = false },
        new("eye_", [], (shape, _) => shape.Length == 2 ? null : "it needs 2 dimensions", (t, _) => t.zero_().diagonal().fill_(1)) { NeedsFloat = false },
        new("dirac_", [Int("groups").AtLeast(1).Or(1L)], DiracProblem, (t, a) => Dirac(t, a.Int("groups"))) { NeedsFloat = false },
        new("uniform_", [Float("a").Or(0.0), Float("b").Or(1.0)], UniformProblem, (t, a) => t.uniform_(a.Float("a"), a.Float("b"))),
        new("normal_", [Float("mean").Or(0.0), Float("std").AtLeast(0).Or(1.0)], Any, (t, a) => t.normal_(a.Float("mean"), a.Float("std"))),
        new("trunc_normal_", [Float("mean").Or(0.0), Float("std").MoreThan(0).Or(1.0), Float("a").Or(-2.0), Float("b").Or(2.0)], UniformProblem, TruncNormal),
        new("xavier_uniform_", [Float("gain").Or(1.0)], Matrix, (t, a) => Within(t, Math.Sqrt(3) * XavierStd(t, a))),
        new("xavier_normal_", [Float("gain").Or(1.0)], Matrix, (t, a) => t.normal_(0, XavierStd(t, a))),
        new("kaiming_uniform_", Kaiming, Matrix, (t, a) => Within(t, Math.Sqrt(3) * KaimingStd(t, a))),
        new("kaiming_normal_", Kaiming, Matrix, (t, a) => t.normal_(0, KaimingStd(t, a))),
        new("orthogonal_", [Float("gain").Or(1.0)], Matrix, Orthogonal),
        new("sparse_", [Float("sparsity").Between(0, 1), Float("std").AtLeast(0).Or(0.01)], (shape, _) => shape.Length == 2 ? null : "it needs 2 dimensions", Sparse),
    ];

    private readonly Func<long[], BoundArguments, string?> _problem;
    private readonly Action<Tensor, BoundArguments> _fill;

    private TensorInitializer(string name, Argument[] arguments, Func<long[], BoundArguments, string?> problem, Action<Tensor, BoundArguments> fill)
    {
        Name = name;
        Arguments = arguments;
        _problem = problem;
        _fill = fill;
    }

    public string Name { get; }

    public IReadOnlyList<Argument> Arguments { get; }

    public bool NeedsFloat { get; private init; } = true;

    public static TensorInitializer Find(string name, string field)
    {
        var full = name.EndsWith('_') ? name : name + "_";
        full = full == "fill_" ? "constant_" : full;
        if (Array.Find(All, i => i.Name == full) is { } found)
        {
            return found;
        }

        var known = All.Select(i => i.Name).Append("reset_parameters").ToList();
        var nearest = NearestNames.To(name, known);
        throw EngineException.Invalid(field, $"{EngineException.Quote(name)} is no initialiser; {(nearest.Count > 0 ? "the nearest names are " + string.Join(", ", nearest) : "expected one of " + string.Join(", ", known))}");
    }

    /// <summary>Why a tensor of this shape cannot be filled; null where it can.</summary>
    public string? Problem(long[] shape, BoundArguments args) => _problem(shape, args);

    /// <summary>Fills a tensor that has elements.</summary>
    public void Fill(Tensor tensor, BoundArguments args) => _fill(tensor, args);

    private static string? Any(long[] shape, BoundArguments args) => null;

    private static string? Matrix(long[] shape, BoundArguments args) =>
        shape.Length >= 2 ? null : $"fan in and fan out need at least 2 dimensions and its shape is [{string.Join(", ", shape)}]";

    private static string? UniformProblem(long[] shape, BoundArguments args) =>
        args.Float("a") <= args.Float("b") ? null : $"a = {PythonFormat.Float(args.Float("a"))} is more than b = {PythonFormat.Float(args.Float("b"))}";

    private static string? DiracProblem(long[] shape, BoundArguments args) =>
        shape.Length is < 3 or > 5 ? "it needs 3, 4 or 5 dimensions"
        : shape[0] % args.Int("groups") != 0 ? $"its first dimension, {shape[0]}, is no multiple of groups, {args.Int("groups")}"
        : null;

    private static (double In, double Out) Fans(Tensor tensor)
    {
        var shape = tensor.shape;
        var field = shape[2..].Aggregate(1.0, (product, size) => product * size);
        return (shape[1] * field, shape[0] * field);
    }

    private static void Within(Tensor tensor, double bound) => tensor.uniform_(-Math.Abs(bound), Math.Abs(bound));

    private static double XavierStd(Tensor tensor, BoundArguments args)
    {
        var (fanIn, fanOut) = Fans(tensor);
        return Math.Abs(args.Float("gain")) * Math.Sqrt(2 / (fanIn + fanOut));
    }

    private static double KaimingStd(Tensor tensor, BoundArguments args)
    {
        var (fanIn, fanOut) = Fans(tensor);
        var gain = args.Text("nonlinearity") switch
        {
            "tanh" => 5.0 / 3,
            "relu" => Math.Sqrt(2),
            "leaky_relu" => Math.Sqrt(2 / (1 + (args.Float("a") * args.Float("a")))),
            "selu" => 3.0 / 4,
            _ => 1,
        };
        return gain / Math.Sqrt(args.Text("mode") == "fan_in" ? fanIn : fanOut);
    }

    private static void TruncNormal(Tensor tensor, BoundArguments args)
    {
        var (mean, std, a, b) = (args.Float("mean"), args.Float("std"), args.Float("a"), args.Float("b"));

        // Uniform between the bounds' quantiles, then through the inverse of the normal distribution: PyTorch's method.
        tensor.uniform_(Erf((a - mean) / (std * Math.Sqrt(2))), Erf((b - mean) / (std * Math.Sqrt(2))));
        tensor.erfinv_().mul_(std * Math.Sqrt(2)).add_(mean).clamp_(a, b);

        static double Erf(double x) => TorchSharp.torch.tensor(x, dtype: ScalarType.Float64).erf().item<double>();
    }

    private static void Dirac(Tensor tensor, long groups)
    {
        tensor.zero_();
        var shape = tensor.shape;
        var perGroup = shape[0] / groups;
        for (var group = 0L; group < groups; group++)
        {
            for (var d = 0L; d < Math.Min(perGroup, shape[1]); d++)
            {
                var at = tensor[(group * perGroup) + d][d];
                foreach (var size in shape[2..])
                {
                    at = at[size / 2];
                }

                at.fill_(1);
            }
        }
    }

    private static void Orthogonal(Tensor tensor, BoundArguments args)
    {
        var rows = tensor.shape[0];
        var columns = tensor.NumberOfElements / rows;
        var flat = empty([rows, columns], dtype: tensor.dtype, device: tensor.device).normal_();
        var (q, r) = linalg.qr(rows < columns ? flat.t() : flat);

        // The signs of R's diagonal make Q uniform over the orthogonal matrices (arXiv math-ph/0609050).
        q = q.mul(r.diagonal().sign());
        tensor.copy_((rows < columns ? q.t() : q).reshape(tensor.shape)).mul_(args.Float("gain"));
    }

    private static void Sparse(Tensor tensor, BoundArguments args)
    {
        var (rows, columns) = (tensor.shape[0], tensor.shape[1]);
        var zeros = (long)Math.Ceiling(args.Float("sparsity") * rows);
        tensor.normal_(0, args.Float("std"));
        for (var column = 0L; column < columns; column++)
        {
            var rowsToClear = randperm(rows).narrow(0, 0, zeros);
            tensor.select(1, column).index_fill_(0, rowsToClear, 0);
        }
    }
}
