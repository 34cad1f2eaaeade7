using System.IO.Compression;
using Sconce.Cli.Data;

namespace Sconce.Cli.Tests;

public sealed class IdxFileTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("sconce-idx-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("a-ubyte")]
    [InlineData("a-ubyte.gz")]
    public void Read_valid_file_gives_shape_and_bytes(string name)
    {
        var idx = IdxFile.Read(Write(name, 0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6));

        Assert.Equal([2, 3], idx.Shape);
        Assert.Equal([1, 2, 3, 4, 5, 6], idx.Data);
    }

    [Fact]
    public void Read_empty_dimension_gives_no_bytes()
        => Assert.Empty(IdxFile.Read(Write("a-ubyte", 0, 0, 8, 1, 0, 0, 0, 0)).Data);

    [Theory]
    [InlineData("ends inside its 4-byte idx header", new byte[] { 0, 0, 8 })]
    [InlineData("begins with 0x00000d01", new byte[] { 0, 0, 13, 1, 0, 0, 0, 0 })]
    [InlineData("begins with 0x89504e47", new byte[] { 0x89, 0x50, 0x4e, 0x47, 0, 0, 0, 0 })]
    [InlineData("begins with 0x00000800", new byte[] { 0, 0, 8, 0 })]
    [InlineData("2 dimensions are declared, 1 are there", new byte[] { 0, 0, 8, 2, 0, 0, 0, 1, 0, 0 })]
    [InlineData("more than", new byte[] { 0, 0, 8, 2, 0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff })]
    [InlineData("more than", new byte[] { 0, 0, 8, 1, 0xff, 0xff, 0xff, 0xff })]
    [InlineData("[3] = 3 bytes, but ends after 2", new byte[] { 0, 0, 8, 1, 0, 0, 0, 3, 1, 2 })]
    [InlineData("[1] = 1 bytes, but has more", new byte[] { 0, 0, 8, 1, 0, 0, 0, 1, 1, 2 })]
    public void Read_damaged_file_says_what_is_wrong(string expected, byte[] bytes)
    {
        var path = Write("a-ubyte", bytes);

        var error = Assert.Throws<UsageException>(() => IdxFile.Read(path));

        Assert.StartsWith(path + ": ", error.Message, StringComparison.Ordinal);
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Read_truncated_gzip_says_so()
    {
        var path = Write("a-ubyte.gz", [0, 0, 8, 1, 0, 0, 0, 200, .. Enumerable.Range(0, 200).Select(i => (byte)(i * 37))]);
        File.WriteAllBytes(path, File.ReadAllBytes(path)[..^60]);

        Assert.Contains("= 200 bytes, but ends after", Assert.Throws<UsageException>(() => IdxFile.Read(path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Read_missing_file_says_so()
        => Assert.Contains("there is no such file", Assert.Throws<UsageException>(() => IdxFile.Read(Path.Combine(_folder, "none-ubyte"))).Message, StringComparison.Ordinal);

    [Fact]
    public void FashionMnist_subset_is_class_balanced()
    {
        var data = FashionMnist.Read(FashionMnist.FindSubset());

        Assert.Equal((10_000, 28, 28), (data.Train.Count, data.Train.Rows, data.Train.Columns));
        Assert.Equal(2_000, data.Test.Count);
        Assert.All(data.Train.Labels.CountBy(label => label), pair => Assert.Equal(1_000, pair.Value));
        Assert.All(data.Test.Labels.CountBy(label => label), pair => Assert.Equal(200, pair.Value));
        var pixels = data.Train.Pixels;
        Assert.Equal(FashionMnist.Mean, pixels.Average(pixel => pixel / 255.0), 0.01);
    }

    [Fact]
    public void FashionMnist_folder_without_files_names_the_missing_one()
        => Assert.Contains("train-images-idx3-ubyte.gz: there is no such file", Assert.Throws<UsageException>(() => FashionMnist.Read(_folder)).Message, StringComparison.Ordinal);

    private string Write(string name, params byte[] bytes)
    {
        var path = Path.Combine(_folder, name);
        using var file = File.Create(path);
        if (name.EndsWith(".gz", StringComparison.Ordinal))
        {
            using var zipped = new GZipStream(file, CompressionLevel.Fastest);
            zipped.Write(bytes);
        }
        else
        {
            file.Write(bytes);
        }

        return path;
    }
}
