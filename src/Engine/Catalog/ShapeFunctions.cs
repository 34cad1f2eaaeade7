using Sconce.Engine.Tensors;
using static Sconce.Engine.Catalog.Argument;
using static Sconce.Engine.Catalog.StatelessType;
using static TorchSharp.torch;

namespace Sconce.Engine.Catalog;

/// <summary>Functions of <c>torch</c> that join, split and move.</summary>
internal static class ShapeFunctions
{
    // A result of more pieces than this is a mistake, and each piece costs a handle.
    private const int MostPieces = 10_000;

    public static IReadOnlyList<FunctionType> All { get; } =
    [
        Joining("cat", cat), Joining("concat", cat), Joining("stack", (tensors, dim) => stack(tensors, dim)),
        Dim2("flatten", "start_dim", 0, "end_dim", -1, (x, start, end) => x.flatten(start, end)),
        Sized("reshape", "shape", (x, shape) => x.reshape(shape)),
        Sized("view", "shape", (x, shape) => x.reshape(shape)),
        Sized("permute", "dims", (x, dims) => x.permute(dims)),
        Growth("expand", "size", ResultShape.Expanded, (x, size) => x.expand(size)),
        Growth("repeat", "repeats", (x, repeats) => [.. repeats, x.NumberOfElements], (x, repeats) => x.repeat(repeats)),
        Growth("tile", "dims", (x, dims) => [.. dims, x.NumberOfElements], (x, dims) => x.tile(dims)),
        Sized("flip", "dims", (x, dims) => x.flip(dims)),
        Dim2("transpose", "dim0", null, "dim1", null, (x, a, b) => x.transpose(a, b)),
        Dim2("movedim", "source", null, "destination", null, (x, a, b) => x.movedim([a], [b])),
        Dim2("select", "dim", null, "index", null, (x, dim, index) => x.select(dim, index)),
        Dim2("roll", "shifts", null, "dims", null, (x, shifts, dim) => x.roll(shifts, dim)),
        new("t", [], ["input"], _ => One(x => x.t())),
        new("unsqueeze", [Int("dim")], ["input"], args =>
        {
            var dim = args.Int("dim");
            return One(x => x.unsqueeze(dim));
        }),
        new("squeeze", [Int("dim").OrNone()], ["input"], args =>
        {
            var dim = args.IntOrNone("dim");
            return One(x => dim is { } d ? x.squeeze(d) : x.squeeze());
        }),
        new("unflatten", [Int("dim"), Ints("sizes")], ["input"], args =>
        {
            var (dim, sizes) = (args.Int("dim"), args.Ints("sizes"));
            return One(x => x.unflatten(dim < 0 ? dim + x.Dimensions : dim, sizes));
        }),
        new("narrow", [Int("dim"), Int("start"), Int("length").AtLeast(0)], ["input"], args =>
        {
            var (dim, start, length) = (args.Int("dim"), args.Int("start"), args.Int("length"));
            return One(x => x.narrow(dim, start, length));
        }),
        Pieces("chunk", [Int("chunks").AtLeast(1)], (x, args, dim) => x.chunk(Math.Min(args.Int("chunks"), Length(x, dim)), dim)),
        Pieces("split", [Ints("split_size_or_sections").AtLeast(0)], Split),
        Pieces("unbind", [], (x, _, dim) => Length(x, dim) <= MostPieces ? x.unbind(dim) : throw TooMany(Length(x, dim))),
        new("index_select", [Int("dim")], ["input", "index"], args =>
        {
            var dim = args.Int("dim");
            return (inputs, mode) =>
            {
                var (x, index) = (inputs[0]!, inputs[1]!);
                mode.Memory?.Need(x, [x.NumberOfElements / Math.Max(1, Length(x, dim))], index.NumberOfElements);
                return TensorTree.Of(x.index_select(dim, index));
            };
        }),
        new("gather", [Int("dim")], ["input", "index"], args =>
        {
            var dim = args.Int("dim");
            return (inputs, _) => TensorTree.Of(inputs[0]!.gather(dim, inputs[1]!));
        }),
        new("tril", [Int("diagonal").Or(0L)], ["input"], args =>
        {
            var diagonal = args.Int("diagonal");
            return One(x => x.tril(diagonal));
        }),
        new("triu", [Int("diagonal").Or(0L)], ["input"], args =>
        {
            var diagonal = args.Int("diagonal");
            return One(x => x.triu(diagonal));
        }),
    ];

    private static FunctionType Joining(string name, Func<Tensor[], long, Tensor> join) => new(name, [Int("dim").Or(0L)], ["*tensors"], args =>
    {
        var dim = args.Int("dim");
        return (inputs, mode) =>
        {
            mode.Memory?.Need(inputs[0]!, [inputs.Sum(input => input!.NumberOfElements)]);
            return TensorTree.Of(join(inputs!, dim));
        };
    });

    private static FunctionType Sized(string name, string argument, Func<Tensor, long[], Tensor> function) => new(name, [Ints(argument)], ["input"], args =>
    {
        var sizes = args.Ints(argument);
        return One(x => function(x, sizes));
    });

    // What may make much of little.
    private static FunctionType Growth(string name, string argument, Func<Tensor, long[], long[]> shape, Func<Tensor, long[], Tensor> function) => new(name, [Ints(argument)], ["input"], args =>
    {
        var sizes = args.Ints(argument);
        return Growing((x, memory) =>
        {
            memory?.Need(x, shape(x, sizes));
            return function(x, sizes);
        });
    });

    private static FunctionType Dim2(string name, string first, long? firstDefault, string second, long? secondDefault, Func<Tensor, long, long, Tensor> function) =>
        new(name, [With(first, firstDefault), With(second, secondDefault)], ["input"], args =>
        {
            var (a, b) = (args.Int(first), args.Int(second));
            return One(x => function(x, a, b));
        });

    private static Argument With(string name, long? value) => value is { } number ? Int(name).Or(number) : Int(name);

    private static FunctionType Pieces(string name, Argument[] arguments, Func<Tensor, BoundArguments, long, Tensor[]> cut) =>
        new(name, [.. arguments, Int("dim").Or(0L)], ["input"], args =>
        {
            var dim = args.Int("dim");
            return (inputs, _) => TensorTree.Tuple([.. cut(inputs[0]!, args, dim).Select(TensorTree.Of)]);
        })
        { Outputs = ["*tensors"] };

    private static Tensor[] Split(Tensor x, BoundArguments args, long dim)
    {
        var sizes = args.Ints("split_size_or_sections");
        var length = Length(x, dim);
        if (!args.IsScalar("split_size_or_sections"))
        {
            return sizes.Sum() == length ? x.split(sizes, dim) : throw new ArgumentException($"the sections add up to {sizes.Sum()}, the dimension has {length}");
        }

        var size = Math.Max(1, sizes[0]);
        return sizes[0] == 0 && length > 0 ? throw new ArgumentException("a split of size 0 takes an empty dimension")
            : (length + size - 1) / size > MostPieces ? throw TooMany((length + size - 1) / size)
            : x.chunk(1, dim) is [var all] && length <= size ? [all]
            : x.split([.. Enumerable.Range(0, (int)((length + size - 1) / size)).Select(i => Math.Min(size, length - (i * size)))], dim);
    }

    private static long Length(Tensor x, long dim)
    {
        var rank = x.Dimensions;
        return dim >= -rank && dim < rank ? x.shape[dim < 0 ? dim + rank : dim] : throw new ArgumentException($"dim {dim} is out of range for {rank} dimensions");
    }

    private static ArgumentException TooMany(long count) => new($"the result would have {count} pieces, more than {MostPieces}");
}
