using Sconce.V1;

namespace Sconce.Client.Tests;

public sealed class ElementTests
{
    [Theory]
    [InlineData(1.0f, 0x3F80)]
    [InlineData(-2.0f, 0xC000)]
    [InlineData(0.1f, 0x3DCD)] // 0x3DCCCCCD rounds up
    [InlineData(1.00390625f, 0x3F80)] // half way, to even below
    [InlineData(1.01171875f, 0x3F82)] // half way, to even above
    [InlineData(3.4028235e38f, 0x7F80)] // beyond the largest: infinity
    [InlineData(float.PositiveInfinity, 0x7F80)]
    public void BFloat16_single_roundsToNearestEven(float value, int bits) => Assert.Equal(bits, ((BFloat16)value).Bits);

    [Fact]
    public void BFloat16_nan_staysNan()
    {
        Assert.True(float.IsNaN((BFloat16)float.NaN));
        Assert.True(float.IsNaN((BFloat16)BitConverter.UInt32BitsToSingle(0x7F800001)));
    }

    [Fact]
    public void BFloat16_everyValue_survivesTheWayThroughSingle()
    {
        for (var bits = 0; bits <= ushort.MaxValue; bits++)
        {
            var value = new BFloat16((ushort)bits);
            if (!float.IsNaN(value))
                Assert.Equal(value, (BFloat16)(float)value);
        }
    }

    [Theory]
    [InlineData("float32", DataType.Float32)]
    [InlineData("torch.bfloat16", DataType.Bfloat16)]
    [InlineData("half", DataType.Float16)]
    [InlineData("long", DataType.Int64)]
    [InlineData("cdouble", DataType.Complex128)]
    public void Parse_pytorchName_isTheDtype(string name, DataType dtype) => Assert.Equal(dtype, DataTypes.Parse(name));

    [Fact]
    public void NameOf_everyDtype_parsesBack()
    {
        foreach (var dtype in Enum.GetValues<DataType>().Where(d => d != DataType.Unspecified))
            Assert.Equal(dtype, DataTypes.Parse(DataTypes.NameOf(dtype)));
    }

    [Fact]
    public void Parse_unknownName_listsTheKnown()
    {
        var error = Assert.Throws<FormatException>(() => DataTypes.Parse("float8"));

        Assert.Contains("'float8' is not a dtype; expected one of float32, float64,", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Of_typeWithoutDtype_namesThoseThatHaveOne() =>
        Assert.Contains("Use float, double", Assert.Throws<NotSupportedException>(() => DataTypes.Of<char>()).Message, StringComparison.Ordinal);
}
