using System.Buffers.Binary;
using System.Text;
using Sconce.Cli.State;
using Sconce.Client;
using Sconce.V1;

namespace Sconce.Cli.Tests;

public sealed class SafetensorsTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("sconce-safetensors-").FullName;

    private string FilePath => Path.Combine(_folder, "a.safetensors");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Write_then_read_gives_the_same_tensors_in_the_same_order()
    {
        KeyValuePair<string, TensorData>[] tensors =
        [
            new("half", TensorData.Create(new[] { (Half)1.5f, (Half)(-2f), (Half)0f }, 3)),
            new("weight", TensorData.Create(new[] { 1f, 2f, 3f, 4f, 5f, float.NaN }, 2, 3)),
            new("num_batches_tracked", TensorData.Scalar(7L)),
            new("mask", TensorData.Create(new[] { true, false, true }, 3)),
            new("empty", TensorData.Create(Array.Empty<double>(), 0, 4)),
            new("brain", TensorData.Create(new[] { (Sconce.Client.BFloat16)3f }, 1)),
        ];

        SafetensorsFile.Write(FilePath, tensors);
        var read = SafetensorsFile.Read(FilePath);

        Assert.Equal(tensors.Select(pair => pair.Key), read.Select(pair => pair.Key));
        foreach (var ((_, expected), (_, actual)) in tensors.Zip(read))
        {
            Assert.Equal(expected.ToString(), actual.ToString());
            Assert.Equal(expected.Bytes.ToArray(), actual.Bytes.ToArray());
        }
    }

    [Fact]
    public void Write_aligns_the_data_and_every_tensor()
    {
        SafetensorsFile.Write(FilePath, [new("a", TensorData.Create(new byte[] { 1 }, 1)), new("b", TensorData.Create(new[] { 1.0 }, 1))]);
        var file = File.ReadAllBytes(FilePath);
        var headerBytes = (int)BinaryPrimitives.ReadUInt64LittleEndian(file);

        Assert.Equal(0, headerBytes % 8);
        Assert.Equal(1.0, BitConverter.ToDouble(file, 8 + headerBytes)); // the double lies first, so that both are aligned
        Assert.Single(Directory.GetFiles(_folder)); // no temporary file is left
    }

    [Fact]
    public void Write_complex128_says_that_the_format_lacks_it()
        => Assert.Contains("'c' is complex128", Assert.Throws<UsageException>(() => SafetensorsFile.Write(FilePath, [new("c", TensorData.Scalar(System.Numerics.Complex.One))])).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("""{}""", 0)]
    [InlineData("""{"__metadata__":null}""", 0)]
    [InlineData("""{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 8)]
    [InlineData("""{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}   """, 4)]
    [InlineData("""{"b":{"dtype":"U8","shape":[1],"data_offsets":[4,5]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", 5)]
    [InlineData("""{"e":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}""", 1)]
    [InlineData("""{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"more":{"x":[1]}}}""", 1)]
    public void Parse_well_formed_header_is_read(string json, int dataBytes)
        => Assert.All(SafetensorsHeader.Parse(Encoding.UTF8.GetBytes(json), dataBytes), entry => Assert.InRange(entry.End, entry.Begin, dataBytes));

    [Theory]
    [InlineData("", "begin with '{'")]
    [InlineData(" {}", "begin with '{'")]
    [InlineData("[]", "begin with '{'")]
    [InlineData("{} x", "not JSON")]
    [InlineData("{}{}", "not JSON")]
    [InlineData("""{"a":1}""", "'a' is not an object")]
    [InlineData("""{"a":["F32",[1],[0,4]]}""", "'a' is not an object")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},}""", "not JSON")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", "'a' is there twice")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\u0061":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", "'a' is there twice")]
    [InlineData("""{"":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", "is no name")]
    [InlineData("""{"a\u0007":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", "'a\\u0007' is no name")]
    [InlineData("""{"\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", "not Unicode")]
    [InlineData("""{"a":{"dtype":"f32","shape":[1],"data_offsets":[0,4]}}""", "dtype 'f32'")]
    [InlineData("""{"a":{"dtype":1,"shape":[1],"data_offsets":[0,4]}}""", "not a string")]
    [InlineData("""{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", "holds 'dtype' twice")]
    [InlineData("""{"a":{"dtype":"F32","data_offsets":[0,4]}}""", "lacks")]
    [InlineData("""{"a":{"shape":[1],"data_offsets":[0,4]}}""", "lacks")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}""", "lacks")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}}""", "more than 2")]
    [InlineData("""{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}""", "whole numbers")]
    [InlineData("""{"a":{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}}""", "whole numbers")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}""", "whole numbers")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1e0],"data_offsets":[0,4]}}""", "whole numbers")]
    [InlineData("""{"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}}""", "whole numbers")]
    [InlineData("""{"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,4]}}""", "whole numbers")]
    [InlineData("""{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}""", "more than 2^63")]
    [InlineData("""{"a":{"dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,1]}}""", "0 bytes, but")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}""", "4 bytes, but its data_offsets are [0, 8]")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}""", "data_offsets are [4, 0]")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}""", "a hole or an overlap")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", "a hole or an overlap")]
    [InlineData("""{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}""", "longer than it says")]
    [InlineData("""{"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5]}}""", "cut short")]
    [InlineData("""{"__metadata__":{"a":1}}""", "not a string")]
    [InlineData("""{"__metadata__":[]}""", "not an object of strings")]
    [InlineData("""{"__metadata__":{"a":"1","a":"2"}}""", "twice")]
    [InlineData("""{"__metadata__":null,"__metadata__":null}""", "twice")]
    [InlineData("""{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":[[[[[[[[1]]]]]]]]}}""", "not JSON")]
    public void Parse_malformed_header_says_what_is_wrong(string json, string expected)
        => Assert.Contains(expected, Assert.Throws<FormatException>(() => SafetensorsHeader.Parse(Encoding.UTF8.GetBytes(json), 4)).Message, StringComparison.Ordinal);

    [Fact]
    public void Parse_invalid_utf8_is_refused_even_where_no_one_reads_it()
    {
        byte[] json = [.. """{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":" """u8, 0xff, .. "\"}}"u8];

        Assert.Contains("not UTF-8", Assert.Throws<FormatException>(() => SafetensorsHeader.Parse(json, 1)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Parse_rank_65_is_refused()
    {
        var json = """{"a":{"dtype":"U8","shape":[SIZES],"data_offsets":[0,1]}}""".Replace("SIZES", string.Join(",", Enumerable.Repeat(1, 65)), StringComparison.Ordinal);

        Assert.Contains("more than 64", Assert.Throws<FormatException>(() => SafetensorsHeader.Parse(Encoding.UTF8.GetBytes(json), 1)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("it has 3 bytes", new byte[] { 1, 2, 3 })]
    [InlineData("the format allows 100000000", new byte[] { 1, 0xe1, 0xf5, 5, 0, 0, 0, 0 })]
    [InlineData("the format allows 100000000", new byte[] { 2, 0, 0, 0, 0, 0, 0, 0x80 })]
    [InlineData("a header of 3 bytes, and 2 follow", new byte[] { 3, 0, 0, 0, 0, 0, 0, 0, (byte)'{', (byte)'}' })]
    public void Read_damaged_file_says_what_is_wrong(string expected, byte[] bytes)
    {
        File.WriteAllBytes(FilePath, bytes);

        Assert.Contains(expected, Assert.Throws<UsageException>(() => SafetensorsFile.Read(FilePath)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Write_into_a_missing_folder_says_so_and_leaves_nothing()
        => Assert.Contains("cannot be written", Assert.Throws<UsageException>(() => SafetensorsFile.Write(Path.Combine(_folder, "none", "a"), [])).Message, StringComparison.Ordinal);

    [Fact]
    public void NameOf_knows_every_dtype_that_the_format_holds()
        => Assert.All(Enum.GetValues<DataType>().Where(type => type is not (DataType.Unspecified or DataType.Complex128)), type => Assert.NotEmpty(SafetensorsHeader.NameOf(type, "a")));
}
