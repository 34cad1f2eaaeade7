using System.Diagnostics;
using System.IO.Compression;
using System.Net.Http.Headers;
using Google.Protobuf;
using Google.Rpc;
using Grpc.Core;
using Grpc.Health.V1;
using Grpc.Net.Client;

namespace Sconce.Server.Tests.Wire;

/// <summary>What goes wrong outside of any handler: size, compression, malformed messages, versions, unknown methods.</summary>
public sealed class EdgeTests : IAsyncLifetime
{
    private const int Limit = 64 * 1024;

    private RunningServer _server = null!;

    public async ValueTask InitializeAsync() => _server = await RunningServer.StartAsync(options => options.MaxMessageBytes = Limit);

    public async ValueTask DisposeAsync()
    {
        // Whatever was sent, the server still answers, and saw nothing that it did not expect.
        Assert.Equal(HealthCheckResponse.Types.ServingStatus.Serving, (await Health().CheckAsync(new HealthCheckRequest())).Status);
        Assert.Empty(_server.Errors);
        await _server.DisposeAsync();
    }

    [Fact]
    public async Task Unary_message_over_the_limit_names_the_setting()
    {
        var error = await RunningServer.RefusedAsync(_server.Host.ListModuleTypesAsync(new V1.ListModuleTypesRequest { NameContains = new string('x', Limit) }));

        Assert.Equal(StatusCode.ResourceExhausted, error.StatusCode);
        Assert.Contains($"larger than {Limit} bytes", error.Status.Detail, StringComparison.Ordinal);
        Assert.Contains("max_message_bytes", error.Status.Detail, StringComparison.Ordinal);
        Assert.Equal("MESSAGE_TOO_LARGE", error.GetRpcStatus()?.GetDetail<ErrorInfo>()?.Reason);
    }

    [Fact]
    public async Task Stream_message_over_the_limit_names_the_setting()
    {
        using var call = _server.Execution.ForwardStream();

        try
        {
            await call.RequestStream.WriteAsync(new V1.ForwardStreamRequest { Forward = new V1.ForwardRequest { Module = new string('x', Limit) } });
        }
        catch (Exception e) when (e is RpcException or InvalidOperationException)
        {
            // Refused on its first five bytes, while the rest was being written. Only a read tells the server's status for sure.
        }

        var error = await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream.MoveNext(default).WaitAsync(TimeSpan.FromSeconds(30)));

        Assert.Equal(StatusCode.ResourceExhausted, error.StatusCode);
        Assert.Contains("max_message_bytes", error.Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Compression_bomb_is_stopped_at_the_limit()
    {
        // 48 MiB of zeros pack into less than the limit.
        using var bomb = new MemoryStream();
        using (var gzip = new GZipStream(bomb, CompressionLevel.SmallestSize, leaveOpen: true))
        {
            var zeros = new byte[1 << 20];
            for (var i = 0; i < 48; i++)
            {
                gzip.Write(zeros);
            }
        }

        Assert.InRange(bomb.Length, 1, Limit);
        var (status, message) = await PostAsync("/sconce.v1.HostService/GetHost", bomb.ToArray(), "gzip");

        Assert.Equal("8", status);
        Assert.Contains("max_message_bytes", message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Gzip_within_the_limit_is_read()
    {
        var options = new GrpcChannelOptions { CompressionProviders = [new Grpc.Net.Compression.GzipCompressionProvider(CompressionLevel.Fastest)] };
        using var channel = GrpcChannel.ForAddress(_server.Address, options);
        var metadata = new Metadata { { "grpc-internal-encoding-request", "gzip" } };

        var response = await new Health.HealthClient(channel).CheckAsync(new HealthCheckRequest(), metadata);

        Assert.Equal(HealthCheckResponse.Types.ServingStatus.Serving, response.Status);
    }

    [Fact]
    public async Task Malformed_protobuf_is_the_callers_fault()
    {
        // Field 1, length-delimited, 100 bytes announced, one sent.
        var (status, message) = await PostAsync("/sconce.v1.ModuleService/GetModule", [0x0a, 100, 1]);

        Assert.Equal("3", status);
        Assert.Contains("not a valid protobuf message", message, StringComparison.Ordinal);
        Assert.Contains(_server.Log, line => line.Contains("/sconce.v1.ModuleService/GetModule: a request was not a valid protobuf", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("/sconce.v1.ModuleService/GetModule")]
    [InlineData("/sconce.v1.ExecutionService/ForwardStream")]
    public async Task Broken_gzip_and_broken_frames_are_the_callers_fault(string path)
    {
        Assert.Equal("3", (await PostAsync(path, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20], "gzip")).Status);
        Assert.Equal("3", (await PostFrameAsync(path, [7, 0, 0, 0, 0])).Status);
        var (status, message) = await PostFrameAsync(path, [0, 0xff, 0xff, 0xff, 0xff]);
        Assert.Equal("8", status);
        Assert.Contains("max_message_bytes", message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Malformed_protobuf_in_a_stream_is_the_callers_fault()
    {
        var (status, message) = await PostAsync("/sconce.v1.ExecutionService/ForwardStream", [0x0a, 100, 1]);

        Assert.Equal("3", status);
        Assert.Contains("not valid protobuf", message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("k")]
    [InlineData("一")]
    public async Task Error_that_lists_much_stays_within_the_headers_of_every_client(string letter)
    {
        await Make.ModuleAsync(_server, "m", Make.Linear(2, 2));
        var header = new V1.LoadStateDictHeader { Module = "m" };
        header.Entries.Add(Enumerable.Range(0, 60).Select(i => new V1.StateEntry { Key = string.Concat(Enumerable.Repeat(letter, 110)) + i, Dtype = V1.DataType.Float32, Shape = { 1 } }));

        using var response = await SendAsync("/sconce.v1.StateService/LoadStateDict", Frame(new V1.LoadStateDictRequest { Header = header }.ToByteArray()));

        // As HTTP/2 counts a header list.
        Assert.InRange(response.Headers.Concat(response.TrailingHeaders).Sum(header => header.Value.Sum(value => header.Key.Length + value.Length + 32)), 2000, 8192);
        Assert.EndsWith(" more", Uri.UnescapeDataString(Value(response, "grpc-message")), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("2.0", StatusCode.FailedPrecondition, "contract 2.0 and this server 1.0")]
    [InlineData("nonsense", StatusCode.InvalidArgument, "expected \"major.minor\"")]
    public async Task Contract_not_served_is_refused(string version, StatusCode code, string expected)
    {
        var error = await RunningServer.RefusedAsync(_server.Host.GetHostAsync(new V1.GetHostRequest(), new Metadata { { "sconce-contract", version } }));

        Assert.Equal(code, error.StatusCode);
        Assert.Contains(expected, error.Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Every_response_tells_contract_and_build()
    {
        using var call = Health().CheckAsync(new HealthCheckRequest());
        var headers = await call.ResponseHeadersAsync;
        var refused = await RunningServer.RefusedAsync(_server.Host.ListModuleTypesAsync(new V1.ListModuleTypesRequest { Kind = (V1.TypeKind)99 }));

        Assert.Equal("1.0", headers.GetValue("sconce-contract"));
        Assert.NotNull(headers.GetValue("sconce-build"));
        Assert.Equal("1.0", refused.Trailers.GetValue("sconce-contract"));
        Assert.Equal("kind", refused.GetRpcStatus()?.GetDetail<BadRequest>()?.FieldViolations[0].Field);
    }

    [Fact]
    public async Task Unknown_method_is_unimplemented()
    {
        var (status, _) = await PostAsync("/sconce.v1.HostService/Nothing", []);

        Assert.Equal("12", status);
    }

    [Fact]
    public async Task Reflection_unless_enabled_is_unimplemented()
    {
        var (status, _) = await PostAsync("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", []);

        Assert.Equal("12", status);
    }

    [Fact]
    public async Task Reflection_when_enabled_lists_the_services()
    {
        await using var server = await RunningServer.StartAsync(options => options.Reflection = true);
        using var call = new Grpc.Reflection.V1Alpha.ServerReflection.ServerReflectionClient(server.Channel).ServerReflectionInfo();
        await call.RequestStream.WriteAsync(new Grpc.Reflection.V1Alpha.ServerReflectionRequest { ListServices = "" });
        Assert.True(await call.ResponseStream.MoveNext(default));

        Assert.Contains("sconce.v1.ModuleService", call.ResponseStream.Current.ListServicesResponse.Service.Select(service => service.Name));
    }

    [Fact]
    public async Task Stop_health_watch_sees_not_serving_then_unavailable_and_does_not_hold_the_server()
    {
        // Long before the drain's limit. A busy machine may make one or the other stop slow, not each of them.
        for (var (attempt, took) = (0, TimeSpan.MaxValue); took > TimeSpan.FromSeconds(5); attempt++)
        {
            Assert.True(attempt < 5, $"none of {attempt} stops came within 5 s; the last took {took}");
            took = await StopWatchedAsync();
        }
    }

    private static async Task<TimeSpan> StopWatchedAsync()
    {
        await using var server = await RunningServer.StartAsync(options => options.DrainTimeout = TimeSpan.FromMinutes(1));
        using var watch = new Health.HealthClient(server.Channel).Watch(new HealthCheckRequest { Service = "sconce.v1.ExecutionService" });
        Assert.True(await watch.ResponseStream.MoveNext(default));
        Assert.Equal(HealthCheckResponse.Types.ServingStatus.Serving, watch.ResponseStream.Current.Status);
        var started = Stopwatch.GetTimestamp();

        var stopping = server.Server.StopAsync();
        Assert.True(await watch.ResponseStream.MoveNext(default));
        Assert.Equal(HealthCheckResponse.Types.ServingStatus.NotServing, watch.ResponseStream.Current.Status);
        var end = await Assert.ThrowsAsync<RpcException>(() => watch.ResponseStream.MoveNext(default));
        Assert.Equal(StatusCode.Unavailable, end.StatusCode);
        Assert.Equal("DRAINING", end.GetRpcStatus()?.GetDetail<Google.Rpc.ErrorInfo>()?.Reason);
        await stopping.WaitAsync(TimeSpan.FromSeconds(60));
        return Stopwatch.GetElapsedTime(started);
    }

    private Health.HealthClient Health() => new(_server.Channel);

    /// <summary>Sends bytes as the one message of a call, past all generated code.</summary>
    private Task<(string Status, string Message)> PostAsync(string path, byte[] message, string? encoding = null) => PostFrameAsync(path, Frame(message, encoding), encoding);

    private async Task<(string Status, string Message)> PostFrameAsync(string path, byte[] frame, string? encoding = null)
    {
        using var response = await SendAsync(path, frame, encoding);
        return (Value(response, "grpc-status"), Uri.UnescapeDataString(Value(response, "grpc-message")));
    }

    private async Task<HttpResponseMessage> SendAsync(string path, byte[] frame, string? encoding = null)
    {
        using var http = new HttpClient();
        using var request = new HttpRequestMessage(HttpMethod.Post, _server.Address + path) { Version = new Version(2, 0), VersionPolicy = HttpVersionPolicy.RequestVersionExact };
        request.Content = new ByteArrayContent(frame);
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/grpc");
        request.Headers.TE.Add(new TransferCodingWithQualityHeaderValue("trailers"));
        if (encoding is not null)
        {
            request.Headers.Add("grpc-encoding", encoding);
        }

        var response = await http.SendAsync(request).WaitAsync(TimeSpan.FromSeconds(30));
        await response.Content.ReadAsByteArrayAsync();
        return response;
    }

    private static byte[] Frame(byte[] message, string? encoding = null) =>
        [encoding is null ? (byte)0 : (byte)1, (byte)(message.Length >> 24), (byte)(message.Length >> 16), (byte)(message.Length >> 8), (byte)message.Length, .. message];

    private static string Value(HttpResponseMessage response, string name) =>
        response.Headers.TryGetValues(name, out var values) || response.TrailingHeaders.TryGetValues(name, out values) ? values.First() : "";
}
