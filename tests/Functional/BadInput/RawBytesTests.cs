using System.Buffers.Binary;
using System.IO.Compression;
using System.Net;
using System.Net.Http.Headers;
using Google.Protobuf;
using Grpc.Core;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.BadInput;

/// <summary>Bytes that no gRPC library would send: hand-made frames over plain HTTP/2. Each is refused, and the server goes on.</summary>
public sealed class RawBytesTests(SharedServer server) : ServerTest(server)
{
    private const string Forward = "/sconce.v1.ExecutionService/Forward";
    private const string CreateModule = "/sconce.v1.ModuleService/CreateModule";

    private static readonly HttpClient Http = new(new SocketsHttpHandler()) { Timeout = TimeSpan.FromSeconds(60) };

    /// <summary>The path, the body, and the statuses that may answer it.</summary>
    private static readonly Dictionary<string, (string Path, byte[] Body, StatusCode[] Codes)> Cases = new()
    {
        ["no frame"] = (Forward, [], [StatusCode.Internal, StatusCode.InvalidArgument]),
        ["half a frame header"] = (Forward, [0, 0, 0], [StatusCode.Internal, StatusCode.InvalidArgument]),
        ["frame longer than the body"] = (Forward, [0, 0, 0, 1, 0, 1, 2, 3], [StatusCode.Internal, StatusCode.InvalidArgument]),
        ["frame of 4 GiB"] = (Forward, [0, 0xff, 0xff, 0xff, 0xff], [StatusCode.ResourceExhausted, StatusCode.Internal, StatusCode.Cancelled]),
        ["frame beyond the message limit"] = (Forward, [0, 0x03, 0, 0, 0], [StatusCode.ResourceExhausted]),
        ["compressed without an encoding"] = (Forward, Frame([1, 2, 3], compressed: true), [StatusCode.Internal, StatusCode.Unimplemented]),
        ["reserved flag"] = (Forward, [7, 0, 0, 0, 0], [StatusCode.InvalidArgument]),
        ["two frames"] = (Forward, [.. Frame([]), .. Frame([])], [StatusCode.Internal, StatusCode.InvalidArgument]),
        ["truncated varint"] = (Forward, Frame([0x08, 0xff]), [StatusCode.Internal, StatusCode.Unknown, StatusCode.InvalidArgument]),
        ["varint of eleven bytes"] = (Forward, Frame([0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), [StatusCode.Internal, StatusCode.Unknown, StatusCode.InvalidArgument]),
        ["field longer than the message"] = (Forward, Frame([0x0a, 0x7f, 0x61]), [StatusCode.Internal, StatusCode.Unknown, StatusCode.InvalidArgument]),
        ["field of negative length"] = (Forward, Frame([0x1a, 0xff, 0xff, 0xff, 0xff, 0x0f]), [StatusCode.Internal, StatusCode.Unknown, StatusCode.InvalidArgument]),
        ["field number 0"] = (Forward, Frame([0x02, 0x01, 0x61]), [StatusCode.Internal, StatusCode.Unknown, StatusCode.InvalidArgument]),
        ["text that is not UTF-8"] = (Forward, Frame([0x0a, 0x02, 0xc3, 0x28]), [StatusCode.Internal, StatusCode.Unknown, StatusCode.InvalidArgument]),
        ["end of a group that never began"] = (Forward, Frame([0x0c]), [StatusCode.Internal, StatusCode.Unknown, StatusCode.InvalidArgument]),
        ["random bytes"] = (Forward, Frame(RandomBytes(10_000)), [StatusCode.Internal, StatusCode.Unknown, StatusCode.InvalidArgument]),
        ["packed shape cut in the middle"] = (Forward, Frame([0x1a, 0x05, 0x12, 0x03, 0x01, 0x02, 0x80]), [StatusCode.Internal, StatusCode.Unknown, StatusCode.InvalidArgument]),
        ["nested 5,000 deep"] = (CreateModule, Frame(Nested(5_000)), [StatusCode.Internal, StatusCode.Unknown, StatusCode.InvalidArgument]),
        ["unknown method"] = ("/sconce.v1.ExecutionService/Backwards", Frame([]), [StatusCode.Unimplemented]),
        ["unknown service"] = ("/sconce.v2.ExecutionService/Forward", Frame([]), [StatusCode.Unimplemented]),
    };

    public static TheoryData<string> Names => [.. Cases.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public async Task Malformed_frame_is_refused(string which)
    {
        var (path, body, codes) = Cases[which];
        var (status, message) = await PostAsync(path, body);
        Assert.True(codes.Contains(status), $"{status}: {message}");
    }

    [Fact]
    public async Task Payload_and_kept_id_in_one_tensor_are_refused_by_our_own_reading()
    {
        // Generated code of another language can write both fields; the last must not silently win.
        var module = await CreateAsync(Specs.Identity, training: false);
        var request = new ForwardRequest { Module = module, Inputs = { new Tensor { Dtype = DataType.Float32, Shape = { 1 }, Data = ByteString.CopyFrom(new byte[4]) } } }.ToByteArray();
        byte[] tensor = [.. new Tensor { Dtype = DataType.Float32, Shape = { 1 }, Data = ByteString.CopyFrom(new byte[4]) }.ToByteArray(), 0x22, 0x01, (byte)'k'];
        var (status, message) = await PostAsync(Forward, Frame([0x0a, (byte)module.Length, .. System.Text.Encoding.UTF8.GetBytes(module), 0x1a, (byte)tensor.Length, .. tensor]));
        Assert.Equal(StatusCode.InvalidArgument, status);
        Assert.Contains("kept_id", message, StringComparison.Ordinal);
        Assert.Equal(StatusCode.OK, (await PostAsync(Forward, Frame(request))).Status);
    }

    [Fact]
    public async Task Shape_written_unpacked_and_unknown_fields_are_read_as_protobuf_says()
    {
        var module = await CreateAsync(Specs.Identity, training: false);
        byte[] tensor =
        [
            0x08, 0x01, // dtype
            0x10, 0x01, 0x10, 0x02, // shape, one element at a time
            0x1a, 0x08, 0, 0, 0x80, 0x3f, 0, 0, 0, 0x40, // data
            0xf2, 0x3f, 0x03, 1, 2, 3, // field 1022, which no version of the contract has
        ];
        var (status, message) = await PostAsync(Forward, Frame([0x0a, (byte)module.Length, .. System.Text.Encoding.UTF8.GetBytes(module), 0x1a, (byte)tensor.Length, .. tensor]));
        Assert.True(status == StatusCode.OK, message);
    }

    [Fact]
    public async Task Compression_bomb_is_RESOURCE_EXHAUSTED_naming_the_limit()
    {
        using var packed = new MemoryStream();
        await using (var gzip = new GZipStream(packed, CompressionLevel.SmallestSize, leaveOpen: true))
        {
            var zeros = new byte[1 << 20];
            for (var i = 0; i < 512; i++)
            {
                await gzip.WriteAsync(zeros);
            }
        }

        var before = (await Stubs.Host.GetHostAsync(new())).Memory.ResidentBytes;
        var (status, message) = await PostAsync(Forward, Frame(packed.ToArray(), compressed: true), "gzip");
        Assert.True(status is StatusCode.ResourceExhausted or StatusCode.Unimplemented, $"{status}: {message}");
        if (status == StatusCode.ResourceExhausted)
        {
            Assert.Contains("max_message_bytes", message, StringComparison.Ordinal);
        }

        Assert.True((await Stubs.Host.GetHostAsync(new())).Memory.ResidentBytes < before + (200UL << 20), "512 MiB were unpacked from half a megabyte");
    }

    [Fact]
    public async Task Other_content_types_are_no_gRPC()
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, new Uri(Server.Process.Address, Forward))
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
            Content = new StringContent("{}", System.Text.Encoding.UTF8, "application/json"),
        };
        using var response = await Http.SendAsync(request);
        Assert.Equal(HttpStatusCode.UnsupportedMediaType, response.StatusCode);
    }

    private async Task<(StatusCode Status, string Message)> PostAsync(string path, byte[] body, string? encoding = null)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, new Uri(Server.Process.Address, path))
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
            Content = new ByteArrayContent(body) { Headers = { ContentType = new MediaTypeHeaderValue("application/grpc") } },
        };
        request.Headers.TE.Add(new TransferCodingWithQualityHeaderValue("trailers"));
        if (encoding is not null)
        {
            request.Headers.Add("grpc-encoding", encoding);
        }

        using var response = await Http.SendAsync(request);
        await response.Content.ReadAsByteArrayAsync();
        var status = Header("grpc-status") ?? throw new InvalidOperationException($"no grpc-status; HTTP {(int)response.StatusCode}");
        return ((StatusCode)int.Parse(status, System.Globalization.CultureInfo.InvariantCulture), Uri.UnescapeDataString(Header("grpc-message") ?? ""));

        string? Header(string name) =>
            response.Headers.TryGetValues(name, out var values) || response.TrailingHeaders.TryGetValues(name, out values) ? values.First() : null;
    }

    private static byte[] Frame(byte[] message, bool compressed = false)
    {
        var frame = new byte[5 + message.Length];
        frame[0] = compressed ? (byte)1 : (byte)0;
        BinaryPrimitives.WriteInt32BigEndian(frame.AsSpan(1), message.Length);
        message.CopyTo(frame, 5);
        return frame;
    }

    private static byte[] RandomBytes(int count)
    {
        var bytes = new byte[count];
        new Random(1).NextBytes(bytes);
        return bytes;
    }

    /// <summary>A spec nested far beyond what generated code reads; written from the inside out, since building it as messages would overflow this process's stack.</summary>
    private static byte[] Nested(int depth)
    {
        byte[] spec = [];
        for (var i = 0; i < depth; i++)
        {
            var child = Field(2, spec); // ChildSpec.spec
            spec = Field(3, child); // ModuleSpec.children
        }

        return Field(2, spec); // CreateModuleRequest.spec
    }

    private static byte[] Field(int number, byte[] content)
    {
        using var stream = new MemoryStream();
        using var output = new CodedOutputStream(stream);
        output.WriteTag(number, WireFormat.WireType.LengthDelimited);
        output.WriteBytes(UnsafeByteOperations.UnsafeWrap(content));
        output.Flush();
        return stream.ToArray();
    }
}
