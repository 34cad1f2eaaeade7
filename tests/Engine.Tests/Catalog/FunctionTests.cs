using Sconce.Engine.Catalog;
using Sconce.Engine.Modules;
using static Sconce.Engine.Tests.Modules.Spec;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Catalog;

public sealed class FunctionTests : IDisposable
{
    private readonly TorchSharp.DisposeScope _scope = NewDisposeScope();

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

    [Fact]
    public void Every_function_is_described_and_found_by_its_prefixes()
    {
        foreach (var type in ModuleCatalog.Types.Where(t => t.Kind == TypeKind.Function))
        {
            Assert.Same(FunctionTypes.Find(type.Name, "f"), FunctionTypes.Find("torch.nn.functional." + type.Name, "f"));
            Assert.NotEmpty(type.Inputs);
        }
    }
}
