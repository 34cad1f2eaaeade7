using System.Diagnostics;
using System.Net.Sockets;
using System.Reflection;
using Google.Rpc;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.Extensions.Logging;

namespace Sconce.Server.Tests.Wire;

/// <summary>Starting, listening and stopping.</summary>
[System.Runtime.Versioning.SupportedOSPlatform("linux")]
public sealed class LifetimeTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("sconce").FullName;

    [Fact]
    public async Task RunAsync_serves_until_it_is_told_to_stop()
    {
        var file = Path.Combine(_directory, "address");
        using var stop = new CancellationTokenSource();

        var running = SconceServer.RunAsync(["--port", "0", "--address-file", file, "--log-level", "error"], stop.Token);
        await Eventually.TrueAsync(() => Task.FromResult(File.Exists(file)));
        using (var channel = GrpcChannel.ForAddress((await File.ReadAllLinesAsync(file)).Single()))
        {
            Assert.Equal("cpu", (await new V1.HostService.HostServiceClient(channel).GetHostAsync(new V1.GetHostRequest())).Device);
        }

        await stop.CancelAsync();
        Assert.Equal(0, await running.WaitAsync(TimeSpan.FromSeconds(20)));
    }

    [Fact]
    public async Task RunAsync_told_to_stop_before_it_started_is_a_clean_stop() =>
        Assert.Equal(0, await SconceServer.RunAsync(["--port", "0", "--log-level", "error"], new CancellationToken(canceled: true)).WaitAsync(TimeSpan.FromSeconds(20)));

    [Theory]
    [InlineData("--port", "99999")]
    [InlineData("--nothing", "1")]
    public async Task RunAsync_bad_settings_exit_78(string name, string value) => Assert.Equal(78, await SconceServer.RunAsync([name, value]));

    [Fact]
    public async Task StartAsync_port_taken_says_so()
    {
        await using var first = await RunningServer.StartAsync();
        var port = new Uri(first.Address).Port;

        var error = await Assert.ThrowsAsync<ConfigurationException>(() => SconceServer.StartAsync(new SconceServerOptions { Port = port, LogLevel = LogLevel.Error }));

        Assert.Contains($"cannot listen on 127.0.0.1, port {port}: ", error.Message, StringComparison.Ordinal);
        Assert.Contains("address already in use", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("nowhere/s", "whose folder does not exist")]
    [InlineData("", "which is a folder")]
    public async Task StartAsync_place_of_a_file_that_cannot_be_is_named(string place, string expected)
    {
        var path = Path.Combine(_directory, place);

        var error = await Assert.ThrowsAsync<ConfigurationException>(() => RunningServer.StartAsync(options => (options.UnixSocket, options.AddressFile) = (path, path)));

        Assert.Contains($"unix_socket is \"{path}\", {expected}", error.Message, StringComparison.Ordinal);
        Assert.Contains($"address_file is \"{path}\", {expected}", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task StartAsync_time_to_live_above_the_greatest_speaks_in_settings()
    {
        var error = await Assert.ThrowsAsync<ConfigurationException>(() => RunningServer.StartAsync(options => options.Engine.GraphTtl = TimeSpan.FromDays(2)));

        Assert.Contains("graph_ttl is 172800s; it must be <= max_ttl, which is 86400s", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task StartAsync_unix_socket_serves_its_owner_alone()
    {
        var path = Path.Combine(_directory, "s.sock");
        await using var server = await RunningServer.StartAsync(options => options.UnixSocket = path);
        using var channel = UnixChannel(path);

        Assert.Equal("cpu", (await new V1.HostService.HostServiceClient(channel).GetHostAsync(new V1.GetHostRequest())).Device);
        Assert.Contains("unix:" + path, server.Server.Addresses);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(path));
        Assert.Contains("another server listens", (await Assert.ThrowsAsync<ConfigurationException>(() => RunningServer.StartAsync(options => options.UnixSocket = path))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task StartAsync_socket_of_a_dead_server_is_replaced_and_a_file_is_not()
    {
        var path = Path.Combine(_directory, "stale.sock");
        using (var dead = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
        {
            dead.Bind(new UnixDomainSocketEndPoint(path));
        }

        File.WriteAllText(Path.Combine(_directory, "file"), "precious");
        await using (var server = await SconceServer.StartAsync(new SconceServerOptions { UnixSocket = path, Address = "none", LogLevel = LogLevel.Error }))
        {
            Assert.Equal(["unix:" + path], server.Addresses);
            using var channel = UnixChannel(path);
            Assert.Equal("cpu", (await new V1.HostService.HostServiceClient(channel).GetHostAsync(new V1.GetHostRequest())).Device);
        }

        await Assert.ThrowsAsync<ConfigurationException>(() => RunningServer.StartAsync(options => options.UnixSocket = Path.Combine(_directory, "file")));
        Assert.Equal("precious", await File.ReadAllTextAsync(Path.Combine(_directory, "file")));
    }

    [Fact]
    public async Task Stop_ends_sessions_streams_and_uploads_with_unavailable()
    {
        var server = await RunningServer.StartAsync();
        await Make.ModuleAsync(server, "m", Make.Sequential());
        using var session = server.Tensors.OpenSession(new V1.OpenSessionRequest());
        using var stream = server.Execution.ForwardStream();
        using var upload = server.State.LoadStateDict();
        Assert.True(await session.ResponseStream.MoveNext(default));
        await upload.RequestStream.WriteAsync(new V1.LoadStateDictRequest
        {
            Header = new V1.LoadStateDictHeader { Module = "m", Strict = false, Entries = { new V1.StateEntry { Key = "k", Dtype = V1.DataType.Float32, Shape = { 4 } } } },
        });
        await stream.RequestStream.WriteAsync(new V1.ForwardStreamRequest { Forward = Make.Forward("m", Make.Floats([1], 1)) });
        Assert.True(await stream.ResponseStream.MoveNext(default));
        var started = Stopwatch.GetTimestamp();

        var stopping = server.Server.StopAsync();
        var ends = new[]
        {
            await Assert.ThrowsAsync<RpcException>(() => session.ResponseStream.MoveNext(default)),
            await Assert.ThrowsAsync<RpcException>(() => stream.ResponseStream.MoveNext(default)),
            await Assert.ThrowsAsync<RpcException>(() => upload.ResponseAsync),
        };
        await stopping.WaitAsync(TimeSpan.FromSeconds(9));

        Assert.All(ends, end =>
        {
            Assert.Equal(StatusCode.Unavailable, end.StatusCode);
            Assert.Equal("DRAINING", end.GetRpcStatus()?.GetDetail<ErrorInfo>()?.Reason);
            Assert.NotNull(end.GetRpcStatus()?.GetDetail<RetryInfo>());
        });
        Assert.InRange(Stopwatch.GetElapsedTime(started).TotalSeconds, 0, 5);
        Assert.Empty(server.Errors);
        await server.DisposeAsync();
    }

    [Fact]
    public async Task Stop_lets_work_in_flight_finish_and_refuses_what_waits()
    {
        var server = await RunningServer.StartAsync(options => options.Engine.Lanes = 1);
        await Make.ModuleAsync(server, "m", Make.Sequential([.. Enumerable.Range(0, 20).Select(_ => Make.Linear(512, 512))]));
        var input = Make.Floats([512, 512], new float[512 * 512]);
        var calls = Enumerable.Range(0, 32).Select(_ => server.Execution.ForwardAsync(Make.Forward("m", input)).ResponseAsync).ToList();
        await Task.WhenAny(calls);

        var stopping = server.Server.StopAsync();
        var codes = new List<StatusCode>();
        foreach (var call in calls)
        {
            try
            {
                await call.WaitAsync(TimeSpan.FromSeconds(20));
                codes.Add(StatusCode.OK);
            }
            catch (RpcException e)
            {
                codes.Add(e.StatusCode);
            }
        }

        await stopping.WaitAsync(TimeSpan.FromSeconds(15));
        Assert.Contains(StatusCode.OK, codes);
        Assert.Contains(StatusCode.Unavailable, codes);
        Assert.All(codes, code => Assert.True(code is StatusCode.OK or StatusCode.Unavailable, code.ToString()));
        Assert.Empty(server.Errors);
        await server.DisposeAsync();
    }

    [Fact]
    public async Task Stop_told_not_to_wait_answers_work_in_flight_and_leaves_it_behind()
    {
        var held = Path.Combine(_directory, "held");
        var plugIn = typeof(LifetimeTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == "Sconce.BrokenPlugIn").Value!;
        var server = await RunningServer.StartAsync(options => (options.DrainTimeout, options.Engine.PluginDir) = (TimeSpan.FromMinutes(5), plugIn));
        await Make.ModuleAsync(server, "m", Make.Spec($$"""{ "type": "Held", "args": { "file": "{{held}}" } }"""));
        var call = server.Execution.ForwardAsync(Make.Forward("m", Make.Floats([1], 1))).ResponseAsync;
        await Eventually.TrueAsync(() => Task.FromResult(File.Exists(held)));
        using var enough = new CancellationTokenSource(TimeSpan.FromMilliseconds(200));

        await server.Server.StopAsync(enough.Token).WaitAsync(TimeSpan.FromSeconds(60));

        // Not because it had ended.
        Assert.True(server.Server.Engine.IsBusy);
        var refused = (await Refused.OfAsync(call)).Is(StatusCode.Unavailable);
        Assert.Equal("STOPPED", refused.Reason);
        Assert.Empty(server.Errors);
        File.Delete(held);
        await server.DisposeAsync();
    }

    [Fact]
    public async Task Queue_full_is_refused_at_once_with_a_time_to_retry()
    {
        await using var server = await RunningServer.StartAsync(options => (options.Engine.Lanes, options.Engine.MaxQueue, options.Engine.MaxQueuePerModule) = (1, 2, 2));
        await Make.ModuleAsync(server, "m", Make.Sequential([.. Enumerable.Range(0, 20).Select(_ => Make.Linear(512, 512))]));
        var input = Make.Floats([512, 512], new float[512 * 512]);

        var calls = Enumerable.Range(0, 16).Select(_ => server.Execution.ForwardAsync(Make.Forward("m", input)).ResponseAsync).ToList();
        var errors = new List<RpcException>();
        foreach (var call in calls)
        {
            try
            {
                await call.WaitAsync(TimeSpan.FromSeconds(20));
            }
            catch (RpcException e)
            {
                errors.Add(e);
            }
        }

        Assert.NotEmpty(errors);
        Assert.All(errors, error =>
        {
            Assert.Equal(StatusCode.ResourceExhausted, error.StatusCode);
            Assert.Equal("QUEUE_FULL", error.GetRpcStatus()?.GetDetail<ErrorInfo>()?.Reason);
            Assert.True(error.GetRpcStatus()?.GetDetail<RetryInfo>()?.RetryDelay.ToTimeSpan() > TimeSpan.Zero);
        });
        await server.Execution.ForwardAsync(Make.Forward("m", input));
        Assert.Empty(server.Errors);
    }

    [Fact]
    public async Task Deadline_that_passes_in_the_queue_is_never_run()
    {
        await using var server = await RunningServer.StartAsync(options => options.Engine.Lanes = 1);
        await Make.ModuleAsync(server, "m", Make.Sequential([.. Enumerable.Range(0, 20).Select(_ => Make.Linear(512, 512))]));
        await server.Training.CreateOptimizerAsync(new V1.CreateOptimizerRequest { Module = "m", Type = "SGD", Args = Make.Args(("lr", 0.1)) });
        var generation = (await server.Modules.GetModuleAsync(new V1.GetModuleRequest { Module = "m" })).Module.Generation;

        // By id: requests of a megabyte each would be overtaken by the small one.
        await server.Tensors.PutTensorAsync(new V1.PutTensorRequest { Id = "t", Tensor = Make.Floats([512, 512], new float[512 * 512]) });
        var busy = Enumerable.Range(0, 12).Select(_ => server.Execution.ForwardAsync(Make.Forward("m", new V1.Tensor { KeptId = "t" })).ResponseAsync).ToList();
        await Task.WhenAny(busy);
        var late = await RunningServer.RefusedAsync(server.Modules.ToAsync(new V1.ToRequest { Module = "m", Conversion = V1.Conversion.Double }, deadline: DateTime.UtcNow.AddMilliseconds(40)));
        await Task.WhenAll(busy);

        Assert.Equal(StatusCode.DeadlineExceeded, late.StatusCode);
        Assert.Equal(generation, (await server.Modules.GetModuleAsync(new V1.GetModuleRequest { Module = "m" })).Module.Generation);
        Assert.Empty(server.Errors);
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    private static GrpcChannel UnixChannel(string path) => GrpcChannel.ForAddress("http://localhost", new GrpcChannelOptions
    {
        HttpHandler = new SocketsHttpHandler
        {
            ConnectCallback = async (_, cancellationToken) =>
            {
                var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellationToken);
                return new NetworkStream(socket, ownsSocket: true);
            },
        },
    });
}
