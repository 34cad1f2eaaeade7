using System.IO.Compression;
using Grpc.Core;
using Sconce.Server.Streams;

namespace Sconce.Server.Tests.Streams;

public sealed class BoundedGzipTests
{
    [Theory]
    [InlineData(100_000)]
    [InlineData(0)]
    public void Decompression_up_to_the_limit_gives_all(int size)
    {
        using var output = new MemoryStream();
        using var stream = new BoundedGzip(100_000).CreateDecompressionStream(Zeros(size));

        stream.CopyTo(output);

        Assert.Equal(size, output.Length);
    }

    [Fact]
    public void Decompression_beyond_the_limit_stops_there()
    {
        using var output = new MemoryStream();
        using var stream = new BoundedGzip(100_000).CreateDecompressionStream(Zeros(50_000_000));

        var error = Assert.Throws<RpcException>(() => stream.CopyTo(output));

        Assert.Equal(StatusCode.ResourceExhausted, error.StatusCode);
        Assert.InRange(output.Length, 0, 100_000);
    }

    private static MemoryStream Zeros(int size)
    {
        var compressed = new MemoryStream();
        using (var gzip = new GZipStream(compressed, CompressionLevel.SmallestSize, leaveOpen: true))
        {
            gzip.Write(new byte[size]);
        }

        compressed.Position = 0;
        return compressed;
    }
}
