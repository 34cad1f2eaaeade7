using Sconce.Engine.Tensors;
using static Sconce.Engine.Catalog.Argument;
using static Sconce.Engine.Catalog.StatelessType;
using static TorchSharp.torch;

namespace Sconce.Engine.Catalog;

/// <summary>Functions of <c>torch</c> that reduce dimensions.</summary>
internal static class ReductionFunctions
{
    private static readonly Argument Dims = Ints("dim").OrNone();

    private static readonly Argument KeepDim = Bool("keepdim", false);

    public static IReadOnlyList<FunctionType> All { get; } =
    [
        Over("sum", (x, dims, keep) => x.sum(dims, keep)),
        Over("mean", (x, dims, keep) => x.mean(dims, keep)),
        Over("amax", (x, dims, keep) => x.amax(dims, keep)),
        Over("amin", (x, dims, keep) => x.amin(dims, keep)),
        Spread("var", Variance),
        Spread("std", (x, dims, unbiased, keep) => x.std(dims, unbiased, keep)),
        WithIndices("max", x => x.max(), (x, dim, keep) => x.max(dim, keep)),
        WithIndices("min", x => x.min(), (x, dim, keep) => x.min(dim, keep)),
        Index("argmax", x => x.argmax(), (x, dim, keep) => x.argmax(dim, keep)),
        Index("argmin", x => x.argmin(), (x, dim, keep) => x.argmin(dim, keep)),
        new("logsumexp", [Int("dim"), KeepDim], ["input"], args =>
        {
            var (dim, keep) = (args.Int("dim"), args.Bool("keepdim"));
            return One(x => x.logsumexp(dim, keep));
        }),
        new("norm", [Float("p").Or(2.0), Dims, KeepDim], ["input"], args =>
        {
            var (p, dims, keep) = (args.Float("p"), args.IntsOrNone("dim"), args.Bool("keepdim"));
            return One(x => NativeFunctions.VectorNorm(x, p, dims, keep));
        }),
        new("cumsum", [Int("dim")], ["input"], args =>
        {
            var dim = args.Int("dim");
            return One(x => x.cumsum(dim));
        }),
        new("prod", [Int("dim").OrNone(), KeepDim], ["input"], args =>
        {
            var (dim, keep) = (args.IntOrNone("dim"), args.Bool("keepdim"));
            return One(x => dim is { } d ? x.prod(d, keep) : x.prod());
        }),
        new("topk", [Int("k").Between(0, int.MaxValue), Int("dim").Between(-64, 63).Or(-1L), Bool("largest", true), Bool("sorted", true)], ["input"], args =>
        {
            var (k, dim, largest, sorted) = ((int)args.Int("k"), (int)args.Int("dim"), args.Bool("largest"), args.Bool("sorted"));
            return (inputs, _) => Both(inputs[0]!.topk(k, dim, largest, sorted));
        })
        {
            Outputs = ["values", "indices"],
        },
        new("sort", [Int("dim").Or(-1L), Bool("descending", false)], ["input"], args =>
        {
            var (dim, descending) = (args.Int("dim"), args.Bool("descending"));
            return (inputs, _) => Both(inputs[0]!.sort(dim, descending));
        })
        {
            Outputs = ["values", "indices"],
        },
    ];

    private static FunctionType Over(string name, Func<Tensor, long[], bool, Tensor> function) => new(name, [Dims, KeepDim], ["input"], args =>
    {
        var (dims, keep) = (args.IntsOrNone("dim"), args.Bool("keepdim"));
        return One(x => function(x, dims ?? Every(x), keep));
    });

    private static FunctionType Spread(string name, Func<Tensor, long[], bool, bool, Tensor> function) => new(name, [Dims, Bool("unbiased", true), KeepDim], ["input"], args =>
    {
        var (dims, unbiased, keep) = (args.IntsOrNone("dim"), args.Bool("unbiased"), args.Bool("keepdim"));
        return One(x => function(x, dims ?? Every(x), unbiased, keep));
    });

    private static FunctionType WithIndices(string name, Func<Tensor, Tensor> all, Func<Tensor, long, bool, (Tensor, Tensor)> along) =>
        new(name, [Int("dim").OrNone(), KeepDim], ["input"], args =>
        {
            var (dim, keep) = (args.IntOrNone("dim"), args.Bool("keepdim"));
            return (inputs, _) => dim is { } d ? Both(along(inputs[0]!, d, keep)) : TensorTree.Of(all(inputs[0]!));
        })
        { Outputs = ["values", "indices?"] };

    private static FunctionType Index(string name, Func<Tensor, Tensor> all, Func<Tensor, long, bool, Tensor> along) =>
        new(name, [Int("dim").OrNone(), KeepDim], ["input"], args =>
        {
            var (dim, keep) = (args.IntOrNone("dim"), args.Bool("keepdim"));
            return One(x => dim is { } d ? along(x, d, keep) : all(x));
        });

    // TorchSharp's var ends the process where libtorch refuses.
    private static Tensor Variance(Tensor x, long[] dims, bool unbiased, bool keep)
    {
        if (!x.is_floating_point() && !x.is_complex())
        {
            throw new ArgumentException("var takes a floating or complex tensor");
        }

        var mean = x.mean(dims, keepdim: true);
        var squares = (x - mean).abs().square().sum(dims, keep);
        var count = x.NumberOfElements / Math.Max(1, mean.NumberOfElements);
        return squares / Math.Max(0, count - (unbiased ? 1 : 0));
    }

    private static long[] Every(Tensor x) => [.. Enumerable.Range(0, (int)x.Dimensions).Select(d => (long)d)];

    private static TensorTree Both((Tensor Values, Tensor Indices) pair) => TensorTree.Tuple(TensorTree.Of(pair.Values), TensorTree.Of(pair.Indices));
}
