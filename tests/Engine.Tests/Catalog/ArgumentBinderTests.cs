using Sconce.Engine.Catalog;

namespace Sconce.Engine.Tests.Catalog;

public sealed class ArgumentBinderTests
{
    private static readonly Argument[] Declared =
    [
        Argument.Int("in_features").AtLeast(1), Argument.Float("p").Between(0, 1).Or(0.5), Argument.Bool("bias", true), Argument.Ints("kernel_size", 2).AtLeast(1).Or(3L),
        Argument.Text("mode", "sum", "mean").Or("mean"), Argument.Float("max_norm").OrNone(), Argument.Dtype(), Argument.Ints("output_size", 2).WithNoneItems().OrNone(),
    ];

    [Fact]
    public void Bind_several_wrong_arguments_names_all_at_once()
    {
        var error = Assert.Throws<EngineException>(() => Bind(("in_feature", 3.0), ("p", 1.5), ("bias", 1.0), ("kernel_size", new List<object?> { 1.0, 2.0, 3.0 }), ("mode", "max")));

        Assert.Equal(EngineError.InvalidArgument, error.Error);
        Assert.Equal(["spec.args.in_features", "spec.args.p", "spec.args.bias", "spec.args.kernel_size", "spec.args.mode", "spec.args.in_feature"], error.Fields.Select(f => f.Field));
        Assert.Equal("Layer needs it: int", error.Fields[0].Description);
        Assert.Equal("1.5 was given; it must be from 0 to 1", error.Fields[1].Description);
        Assert.Equal("1 was given; expected bool", error.Fields[2].Description);
        Assert.Equal("a list of 3 was given; expected one number or a list of 2", error.Fields[3].Description);
        Assert.Equal("\"max\" was given; expected \"sum\" or \"mean\"", error.Fields[4].Description);
        Assert.Contains("did you mean in_features?", error.Fields[5].Description);
    }

    [Fact]
    public void Bind_defaults_fill_what_is_left_out()
    {
        var bound = Bind(("in_features", 4.0));

        Assert.Equal(4, bound.Int("in_features"));
        Assert.Equal(0.5, bound.Float("p"));
        Assert.True(bound.Bool("bias"));
        Assert.Equal([3L, 3L], bound.Ints("kernel_size"));
        Assert.Null(bound.FloatOrNone("max_norm"));
        Assert.Null(bound.DtypeOrNone("dtype"));
    }

    [Theory]
    [InlineData(2.5)]
    [InlineData("3")]
    [InlineData(true)]
    [InlineData(null)]
    [InlineData(1e300)]
    [InlineData(double.NaN)]
    public void Bind_no_integer_is_refused(object? value) =>
        Assert.Equal("spec.args.in_features", Assert.Throws<EngineException>(() => Bind(("in_features", value))).Fields[0].Field);

    [Fact]
    public void Bind_list_with_none_items_keeps_them_where_allowed()
    {
        var bound = Bind(("in_features", 1.0), ("output_size", new List<object?> { null, 7.0 }));

        Assert.Equal([Argument.NoneItem, 7], bound.Ints("output_size"));
        Assert.Equal("(None, 7)", bound.Repr("output_size"));
        Assert.Throws<EngineException>(() => Bind(("in_features", 1.0), ("kernel_size", new List<object?> { null, 7.0 })));
    }

    [Fact]
    public void Bind_infinity_by_its_name_is_a_float() =>
        Assert.Equal(double.PositiveInfinity, Bind(("in_features", 1.0), ("max_norm", "inf")).Float("max_norm"));

    private static BoundArguments Bind(params (string Name, object? Value)[] given) =>
        ArgumentBinder.Bind(Declared, given.ToDictionary(a => a.Name, a => a.Value), "Layer", "spec.args");
}
