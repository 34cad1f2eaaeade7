using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using static Sconce.Engine.Tests.Modules.Spec;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Catalog;

public sealed class FunctionTests : IDisposable
{
    private readonly TorchSharp.DisposeScope _scope = NewDisposeScope();

    private const long Budget = 8 << 20;

    public static TheoryData<long[], long[]> Products { get; } = new()
    {
        { [3], [3] }, { [2, 3], [3] }, { [3], [3, 4] }, { [2, 3], [3, 4] }, { [5, 2, 3], [3, 4] }, { [2, 3], [5, 3, 4] }, { [5, 2, 3], [5, 3, 4] },
        { [5, 1, 2, 3], [6, 3, 4] }, { [3], [5, 3, 4] }, { [5, 2, 3], [3] }, { [0, 2, 3], [3, 4] }, { [2, 0], [0, 4] }, { [7, 5, 2, 3], [1, 1, 3, 4] },
    };

    public static TheoryData<long[], long[]> Misfits { get; } = new()
    {
        { [], [3] }, { [2, 3], [4] }, { [2, 3], [2, 3] }, { [5, 2, 3], [4, 3, 4] }, { [3], [] }, { [4], [3, 4] },
    };

    public void Dispose() => _scope.Dispose();

    [Theory]
    [MemberData(nameof(Products))]
    public void Matmul_equals_libtorchs(long[] left, long[] right)
    {
        var (a, b) = (randn(left, dtype: ScalarType.Float64), randn(right, dtype: ScalarType.Float64));
        var expected = a.matmul(b);
        var actual = MatrixProduct.Of(a, b, null);

        Assert.Equal(expected.shape, actual.shape);
        Assert.True(expected.NumberOfElements == 0 || MaxDifference(expected, actual) < 1e-12);
    }

    [Theory]
    [MemberData(nameof(Misfits))]
    public void Matmul_of_shapes_that_do_not_fit_is_refused(long[] left, long[] right) =>
        Assert.Throws<ArgumentException>(() => MatrixProduct.Of(rand(left), rand(right), null));

    [Fact]
    public void Add_number_and_alpha()
    {
        var x = randn(4);

        Assert.Equal(0, MaxDifference(x + 2, Apply("add", [x], ("other", 2.0)).Tensor!));
        Assert.Equal(0, MaxDifference(x - (x * 3), Apply("sub", [x, x], ("alpha", 3.0)).Tensor!));
        Assert.Equal(ScalarType.Int64, Apply("mul", [ones(2, dtype: ScalarType.Int64)], ("other", 2.0)).Tensor!.dtype);
        Assert.Equal(ScalarType.Float32, Apply("mul", [ones(2, dtype: ScalarType.Int64)], ("other", 2.5)).Tensor!.dtype);
    }

    [Theory]
    [InlineData("floor")]
    [InlineData("trunc")]
    public void Div_integer_by_zero_is_refused(string mode) =>
        Assert.Contains("divided by zero", Refused(() => Apply("div", [ones(2, dtype: ScalarType.Int32), zeros(2, dtype: ScalarType.Int32)], ("rounding_mode", mode))).Message);

    [Theory]
    [InlineData("adaptive_avg_pool2d")]
    [InlineData("adaptive_max_pool2d")]
    public void Adaptive_pooling_to_nothing_takes_no_time(string function)
    {
        Assert.Equal([2, 3, 1L << 40, 0], Apply(function, [rand([2, 3, 4, 4])], ("output_size", new object?[] { (double)(1L << 40), 0.0 })).Tensor!.shape);
    }

    [Theory]
    [InlineData(ScalarType.Int8)]
    [InlineData(ScalarType.Int16)]
    [InlineData(ScalarType.Int32)]
    [InlineData(ScalarType.Int64)]
    public void Div_least_integer_by_minus_one_wraps(ScalarType type)
    {
        var least = type switch { ScalarType.Int8 => sbyte.MinValue, ScalarType.Int16 => short.MinValue, ScalarType.Int32 => int.MinValue, _ => long.MinValue };
        var x = tensor(new[] { least, 7, -7, 8 }).to_type(type);
        var divisor = tensor(new long[] { -1, -1, -1, 3 }).to_type(type);

        foreach (var quotient in (Tensor[])[Apply("div", [x, divisor], ("rounding_mode", "trunc")).Tensor!, Apply("div", [x, divisor], ("rounding_mode", "floor")).Tensor!])
        {
            Assert.Equal(type, quotient.dtype);
            Assert.Equal([least, -7, 7, 2], quotient.to_type(ScalarType.Int64).data<long>().ToArray());
        }

        Assert.Equal([least, -7, 7, -8], Apply("div", [x], ("other", -1.0), ("rounding_mode", "trunc")).Tensor!.to_type(ScalarType.Int64).data<long>().ToArray());
    }

    [Theory]
    [InlineData(new long[] { 1, 8, 64 }, new long[] { 1, 100, 64 }, new long[] { 1, 4096, 64 })]
    [InlineData(new long[] { 1, 8, 64 }, new long[] { 1, 4096, 64 }, new long[] { 1, 100, 64 })]
    [InlineData(new long[] { 1, 8, 64 }, new long[] { 1, 8, 32 }, new long[] { 1, 8, 64 })]
    [InlineData(new long[] { 64 }, new long[] { 64 }, new long[] { 64 })]
    public void Attention_of_shapes_that_do_not_fit_is_refused_before_the_kernel_reads_past_them(long[] query, long[] key, long[] value)
    {
        Tensor[] inputs = query.Length == 1 ? [rand(query), rand(key), rand(value)] : [rand(query).unsqueeze(0), rand(key).unsqueeze(0), rand(value).unsqueeze(0)];
        Assert.Contains("a key [*, S, E]", Refused(() => Apply("scaled_dot_product_attention", inputs)).Message);
    }

    [Theory]
    [InlineData(3.0, 4)]
    [InlineData(10.0, 1)]
    [InlineData(1.0, 10)]
    public void Split_by_size_gives_all_pieces(double size, int pieces)
    {
        var x = randn(2, 10);
        var split = Apply("split", [x], ("split_size_or_sections", size), ("dim", 1.0)).Items!;

        Assert.Equal(pieces, split.Count);
        Assert.Equal(0, MaxDifference(x, cat([.. split.Select(item => item.Tensor!)], 1)));
    }

    [Fact]
    public void Split_by_sections_gives_those()
    {
        var split = Apply("split", [randn(10)], ("split_size_or_sections", new List<object?> { 1.0, 2.0, 7.0 })).Items!;

        Assert.Equal([1L, 2L, 7L], split.Select(item => item.Tensor!.shape[0]));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Var_equals_libtorchs_with_its_gradient(bool unbiased)
    {
        var (x, y) = (randn([3, 4], dtype: ScalarType.Float64, requires_grad: true), zeros(3, 4, dtype: ScalarType.Float64));
        y.copy_(x.detach()).requires_grad_(true);
        var actual = Apply("var", [x], ("dim", 1.0), ("unbiased", unbiased)).Tensor!;
        var expected = y.var(1, unbiased);
        actual.sum().backward();
        expected.sum().backward();

        Assert.True(MaxDifference(expected, actual) < 1e-14);
        Assert.True(MaxDifference(y.grad!, x.grad!) < 1e-14);
    }

    [Fact]
    public void Max_along_a_dimension_gives_values_and_indices()
    {
        var pair = Apply("max", [tensor(new[] { 1f, 5f, 3f })], ("dim", 0.0)).Items!;

        Assert.Equal(5, pair[0].Tensor!.item<float>());
        Assert.Equal(1, pair[1].Tensor!.item<long>());
    }

    [Fact]
    public void Attention_causal_sees_only_what_is_before()
    {
        var (q, k, v) = (randn(1, 1, 3, 4), randn(1, 1, 3, 4), randn(1, 1, 3, 4));
        var output = Apply("scaled_dot_product_attention", [q, k, v], ("is_causal", true)).Tensor!;

        Assert.True(MaxDifference(output[0][0][0], v[0][0][0]) < 1e-6);
        Assert.Contains("not both", Refused(() => Apply("scaled_dot_product_attention", [q, k, v, zeros(3, 3)], ("is_causal", true))).Message);
    }

    [Theory]
    [InlineData("conv_transpose1d", 1, "stride")]
    [InlineData("conv_transpose2d", 2, "stride")]
    [InlineData("conv_transpose3d", 3, "stride")]
    [InlineData("conv1d", 1, "padding")]
    [InlineData("conv2d", 2, "padding")]
    [InlineData("conv3d", 3, "padding")]
    public void Convolution_asks_for_the_room_of_its_output_as_the_module_does(string function, int dimensions, string argument)
    {
        var (x, weight) = (ones([1, 1, .. Enumerable.Repeat(3L, dimensions)]), ones([1, 1, .. Enumerable.Repeat(1L, dimensions)]));
        var each = Math.Pow(2, 50.0 / dimensions);

        NoRoom(() => ApplyWithin(Budget, function, [x, weight], (argument, Math.Floor(each))));
        var fits = ApplyWithin(Budget, function, [x, weight], (argument, 2.0)).Tensor!;
        using var module = Build(Of((argument == "stride" ? "ConvTranspose" : "Conv") + $"{dimensions}d", ("in_channels", 1.0), ("out_channels", 1.0), ("kernel_size", 1.0), (argument, 2.0)));
        Assert.Equal(module.RunWithin(Budget, x).Tensor!.shape, fits.shape);
    }

    [Fact]
    public void Bilinear_asks_for_the_room_of_its_output()
    {
        NoRoom(() => ApplyWithin(Budget, "bilinear", [Many(1), Many(1), ones(1, 1, 1).expand(1 << 25, 1, 1)]));
        Assert.Equal([3, 5], ApplyWithin(Budget, "bilinear", [ones(3, 2), ones(3, 4), ones(5, 2, 4)]).Tensor!.shape);
    }

    [Theory]
    [InlineData("i,j->ij")]
    [InlineData("i...,j...->ij...")]
    [InlineData("i...,...j->...ij")]
    [InlineData("i..., j...")]
    [InlineData("i,j,jk,ki->")]
    [InlineData("i,j,ij...->")]
    public void Einsum_asks_for_the_room_of_every_product_on_its_way(string equation)
    {
        var terms = equation.Split("->")[0].Split(',');
        Tensor[] operands = [.. terms.Select(term => term.Contains('k') ? ones(1, 1).expand(term.Trim().StartsWith('k') ? [1, 1 << 25] : [1 << 25, 1]) : term.Contains("ij") ? ones(1, 1).expand(1 << 25, 1 << 25) : Many())];

        NoRoom(() => ApplyWithin(Budget, "einsum", operands, ("equation", equation)));
    }

    [Theory]
    [InlineData("ij,jk->ik", "2,3 3,4", "2,1,4")]
    [InlineData("bij,bjk->bik", "5,2,3 5,3,4", "5,2,4")]
    [InlineData("bij,bjk", "5,2,3 5,3,4", "2,4")]
    [InlineData("i,j,jk,ki->", "2 3 3,4 4,2", "2,3 2,4 1")]
    [InlineData("ij,jk,kl->il", "2,3 3,4 4,5", "2,4 2,5")]
    [InlineData("ij,j,j->i", "2,3 3 3", "2,3 2")]
    [InlineData("ab,cd->", "2,3 4,5", "1")]
    [InlineData("...i,...i->...", "7,1,3 5,3", "7,5")]
    [InlineData("...ij,jk->...ik", "6,7,2,3 3,4", "6,7,2,4")]
    [InlineData("i...,j...", "2,5 3,5", "5,2,3")]
    [InlineData("b...,b...->b", "2,5 2,5", "2")]
    [InlineData("ii,i->i", "3,3 3", "3")]
    [InlineData("Ba,aB->Ba", "2,3 3,2", "2,3")]
    [InlineData("ba,ca", "2,3 4,3", "2,4")]
    [InlineData(" i j , j k ", "2,3 3,4", "2,4")]
    [InlineData("ij,ij->ij", "2,1 1,3", "2,3")]
    [InlineData("i,j->", "0 3", "1")]
    public void Einsum_products_are_those_that_libtorch_makes(string equation, string shapes, string products)
    {
        Tensor[] operands = [.. shapes.Split(' ').Select(shape => rand([.. shape.Split(',').Select(long.Parse)]))];
        var made = EinsumProducts.Of(equation, operands);

        Assert.Equal(products.Split(' ').Select(Elements), made.Select(shape => shape.Aggregate(1L, (product, size) => product * size)));
        var output = einsum(equation, operands);
        Assert.Equal(output.shape, made[^1][..(int)output.Dimensions]);

        static long Elements(string shape) => shape.Split(',').Aggregate(1L, (product, size) => product * long.Parse(size));
    }

    [Theory]
    [InlineData("mul", ScalarType.Bool, ScalarType.Float64, 8)]
    [InlineData("pow", ScalarType.Byte, ScalarType.Float32, 4)]
    [InlineData("where", ScalarType.Bool, ScalarType.Int64, 8)]
    [InlineData("maximum", ScalarType.Float16, ScalarType.BFloat16, 4)]
    [InlineData("add", ScalarType.Int8, ScalarType.Byte, 2)]
    [InlineData("sub", ScalarType.Float64, ScalarType.ComplexFloat32, 16)]
    [InlineData("div", ScalarType.Int8, ScalarType.Int8, 4)]
    [InlineData("masked_fill", ScalarType.Float32, ScalarType.Bool, 4)]
    [InlineData("einsum", ScalarType.Bool, ScalarType.Float64, 8)]
    [InlineData("cosine_similarity", ScalarType.Float32, ScalarType.Float64, 8)]
    public void Operands_are_asked_room_for_in_the_dtype_that_they_make(string function, ScalarType left, ScalarType right, int size)
    {
        (string, object?)[] args = function == "einsum" ? [("equation", "ik,kj->ikj")] : function == "masked_fill" ? [("value", 2.0)] : [];

        Assert.Equal((1L << 40) * size, Refused(() => ApplyWithin(Budget, function, Operands(1 << 20), args)).Quota!.Asked);
        var made = ApplyWithin(Budget, function, Operands(8), args).Tensor!;
        Assert.Equal(64, Math.Max(made.NumberOfElements, function == "cosine_similarity" ? 64 : 0));
        Assert.True(made.ElementSize == size || function == "cosine_similarity");

        // Their elements take no memory: they are all the same one.
        Tensor[] Operands(int count)
        {
            var (a, b) = (ones(1, 1, dtype: left).expand(count, 1), ones(1, 1, dtype: right).expand(1, count));
            return function == "where" ? [ones(1, 1, dtype: ScalarType.Bool), a, b] : [a, b];
        }
    }

    [Theory]
    [InlineData(ScalarType.Float32, ScalarType.Float64, 4)]
    [InlineData(ScalarType.Bool, ScalarType.Float64, 8)]
    [InlineData(ScalarType.Int32, ScalarType.Int64, 4)]
    public void An_operand_without_dimensions_asks_for_a_wider_dtype_only_where_it_makes_one(ScalarType many, ScalarType one, int size)
    {
        Tensor[] operands = [ones(1, 1, dtype: many).expand(1 << 20, 1 << 20), ones([], dtype: one)];

        Assert.Equal((1L << 40) * size, Refused(() => ApplyWithin(Budget, "mul", operands)).Quota!.Asked);
        Assert.Equal(size, ApplyWithin(Budget, "mul", [ones(2, dtype: many), operands[1]]).Tensor!.ElementSize);
    }

    [Fact]
    public void Every_function_is_described_and_found_by_its_prefixes()
    {
        foreach (var type in ModuleCatalog.Types.Where(t => t.Kind == TypeKind.Function))
        {
            Assert.Same(FunctionTypes.Find(type.Name, "f"), FunctionTypes.Find("torch.nn.functional." + type.Name, "f"));
            Assert.NotEmpty(type.Inputs);
        }
    }

    // 2^25 ones without memory of their own.
    private static Tensor Many(params long[] more) => ones([1, .. more]).expand([1 << 25, .. more]);
}
