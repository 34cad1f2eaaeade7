using System.Text.Json.Nodes;
using Sconce.Cli.Data;
using Sconce.Cli.Running;
using Sconce.Client;
using Sconce.V1;

namespace Sconce.Cli.Tests;

public sealed class TensorSourceTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("sconce-tensors-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("[[1, 2, 3], [4, 5, 6]]", "int64[2, 3]")]
    [InlineData("[1, 2.5]", "float32[2]")]
    [InlineData("[true, false]", "bool[2]")]
    [InlineData("3.5", "float32[]")]
    [InlineData("[]", "float32[0]")]
    [InlineData("[[], []]", "float32[2, 0]")]
    [InlineData("""[1, "NaN", "-inf"]""", "float32[3]")]
    public async Task Read_json_infers_type_and_shape_as_PyTorch(string json, string expected)
        => Assert.Equal(expected, (await ReadAsync(json)).ToString());

    [Theory]
    [InlineData("[[1, 2], [3]]", "[1] has 1 items")]
    [InlineData("[[1, 2], 3]", "[1] is 3; expected a list of 2")]
    [InlineData("[1, [2]]", "[1] is a list")]
    [InlineData("[1, null]", "null is not a number")]
    [InlineData("[1, ", "not JSON")]
    public async Task Read_ragged_or_bad_json_says_where(string json, string expected)
        => Assert.Contains(expected, (await Assert.ThrowsAsync<UsageException>(() => ReadAsync(json))).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("[300]", DataType.Uint8, "300 does not fit uint8")]
    [InlineData("[1.5]", DataType.Int64, "1.5 is not a whole number")]
    [InlineData("[9223372036854775808]", DataType.Int64, "9223372036854775808 does not fit int64")]
    [InlineData("[1e300]", DataType.Int64, "1E+300 does not fit int64")]
    [InlineData("[\"NaN\"]", DataType.Int64, "NaN does not fit int64")]
    public async Task Read_value_that_the_dtype_cannot_hold_is_refused(string json, DataType dtype, string expected)
        => Assert.Contains(expected, (await Assert.ThrowsAsync<UsageException>(() => ReadAsync(json, dtype))).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("[9007199254740993]", null, 9007199254740993)]
    [InlineData("[9223372036854775807]", null, long.MaxValue)]
    [InlineData("[-9223372036854775808]", null, long.MinValue)]
    [InlineData("[9007199254740993.0]", DataType.Int64, 9007199254740993)]
    [InlineData("[1e3]", DataType.Int64, 1000)]
    [InlineData("[true]", DataType.Int64, 1)]
    public async Task Read_whole_numbers_are_kept_to_the_last_digit(string json, DataType? dtype, long expected)
        => Assert.Equal([expected], (await ReadAsync(json, dtype)).As<long>().ToArray());

    [Fact]
    public async Task Read_one_whole_number_has_no_dimensions()
        => Assert.Equal("int64[]", (await ReadAsync("7")).ToString());

    [Fact]
    public async Task Read_random_is_normal_and_repeatable()
    {
        var tensor = await ReadAsync("random:100x100");
        var values = tensor.As<float>().ToArray();

        Assert.Equal("float32[100, 100]", tensor.ToString());
        Assert.Equal(0, values.Average(), 0.05);
        Assert.Equal(1, values.Average(value => value * value), 0.05);
        Assert.Equal(values, (await ReadAsync("random:100x100")).As<float>().ToArray());
    }

    [Fact]
    public async Task Read_raw_file_takes_dtype_and_shape()
    {
        var path = Path.Combine(_folder, "a.bin");
        await File.WriteAllBytesAsync(path, [1, 0, 2, 0, 3, 0], TestContext.Current.CancellationToken);

        Assert.Equal([1, 2, 3], (await ReadAsync(path, DataType.Int16, [3])).As<short>().ToArray());
        Assert.Contains("--dtype and --shape", (await Assert.ThrowsAsync<UsageException>(() => ReadAsync(path))).Message, StringComparison.Ordinal);
        Assert.Contains("has 8 bytes, and 6 were given", (await Assert.ThrowsAsync<UsageException>(() => ReadAsync(path, DataType.Int16, [4]))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Npy_written_file_has_NumPys_bytes_and_reads_back()
    {
        var path = Path.Combine(_folder, "a.npy");
        NpyFile.Write(path, TensorData.Create(new[] { 1f, 2f, 3f, 4f, 5f, 6f }, 2, 3));
        var file = File.ReadAllBytes(path);

        // What numpy.save writes for numpy.float32([[1, 2, 3], [4, 5, 6]]).
        Assert.Equal([0x93, (byte)'N', (byte)'U', (byte)'M', (byte)'P', (byte)'Y', 1, 0, 118, 0], file[..10]);
        Assert.StartsWith("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", System.Text.Encoding.ASCII.GetString(file, 10, 118), StringComparison.Ordinal);
        Assert.Equal((byte)'\n', file[127]);
        Assert.Equal(128 + 24, file.Length);
        Assert.Equal([1f, 2f, 3f, 4f, 5f, 6f], NpyFile.Read(path).As<float>().ToArray());
    }

    [Theory]
    [InlineData("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }", 16, "Fortran order")]
    [InlineData("{'descr': '>f4', 'fortran_order': False, 'shape': (4,), }", 16, "dtype '>f4'")]
    [InlineData("{'descr': '<f4', 'fortran_order': False, 'shape': (5,), }", 16, "has 20 bytes, and 16 were given")]
    [InlineData("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,), }", 16, "cannot be understood")]
    public void Npy_damaged_or_foreign_file_says_what_is_wrong(string header, int dataBytes, string expected)
    {
        var path = Path.Combine(_folder, "a.npy");
        File.WriteAllBytes(path, [0x93, .. "NUMPY"u8, 1, 0, (byte)header.Length, 0, .. System.Text.Encoding.ASCII.GetBytes(header), .. new byte[dataBytes]]);

        Assert.Contains(expected, Assert.Throws<UsageException>(() => NpyFile.Read(path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Npy_other_file_is_refused()
    {
        var path = Path.Combine(_folder, "a.npy");
        File.WriteAllText(path, "PK and more");

        Assert.Contains("not an npy file", Assert.Throws<UsageException>(() => NpyFile.Read(path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Format_prints_as_PyTorch_does()
        => Assert.Equal("[[ 1.0000, -2.5000],\n [ 0.0000,  3.0000]]", TensorText.Format(TensorData.Create(new[] { 1f, -2.5f, 0f, 3f }, 2, 2)));

    [Fact]
    public void Format_large_tensor_shows_its_edges()
    {
        var text = TensorText.Format(TensorData.Create(Enumerable.Range(0, 2000).Select(i => (long)i).ToArray(), 2000));

        Assert.StartsWith("[", text, StringComparison.Ordinal);
        Assert.Contains("...", text, StringComparison.Ordinal);
        Assert.EndsWith("1999]", text, StringComparison.Ordinal);
        Assert.True(text.Length < 100, text);
    }

    [Fact]
    public void ToJson_keeps_shape_and_shortest_digits()
    {
        var json = TensorText.ToJson(TensorData.Create(new[] { 0.1f, float.NaN, float.NegativeInfinity, 3f }, 2, 2));

        Assert.True(JsonNode.DeepEquals(JsonNode.Parse("""[[0.1, "NaN"], ["-Infinity", 3]]"""), JsonNode.Parse(json.ToJsonString())), json.ToJsonString());
    }

    private static Task<TensorData> ReadAsync(string text, DataType? dtype = null, long[]? shape = null)
        => TensorSource.ReadAsync(text, dtype, shape, new Random(0), _ => Task.FromResult(""), TestContext.Current.CancellationToken);
}
