using System.Buffers.Binary;
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
        => Assert.Contains("\"c\" is complex128", Assert.Throws<UsageException>(() => SafetensorsFile.Write(FilePath, [new("c", TensorData.Scalar(System.Numerics.Complex.One))])).Message, StringComparison.Ordinal);

    [Fact]
    public void Read_header_that_breaks_a_rule_says_which_of_which_tensor()
    {
        // The rules are the engine's, whose tests have them all.
        var json = """{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"""u8;
        var length = new byte[sizeof(ulong)];
        BinaryPrimitives.WriteInt32LittleEndian(length, json.Length);
        File.WriteAllBytes(FilePath, [.. length, .. json, 0, 0, 0, 0]);

        Assert.Equal($"{FilePath}: not a safetensors file: \"a\" is there twice.", Assert.Throws<UsageException>(() => SafetensorsFile.Read(FilePath)).Message);
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
    public void Write_then_read_keeps_every_dtype_that_the_format_holds()
    {
        var tensors = Enum.GetValues<DataType>().Where(type => type is not (DataType.Unspecified or DataType.Complex128))
            .Select(type => new KeyValuePair<string, TensorData>(DataTypes.NameOf(type), TensorData.FromBytes(type, [1], new byte[DataTypes.SizeOf(type)]))).ToList();

        SafetensorsFile.Write(FilePath, tensors);

        Assert.All(SafetensorsFile.Read(FilePath), pair => Assert.Equal(pair.Key, DataTypes.NameOf(pair.Value.DType)));
    }
}
