using System.Diagnostics;
using System.Net.Sockets;
using Google.Rpc;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.Extensions.Logging;

namespace Sconce.Server.Tests.Wire;

/// <summary>Starting, listening and stopping.</summary>
[System.Runtime.Versioning.SupportedOSPlatform("linux")]
public sealed class LifetimeTests : IDisposable
{
    // Only what fails waits as long.
    private static readonly TimeSpan Bound = TimeSpan.FromSeconds(60);

    private readonly string _directory = Directory.CreateTempSubdirectory("sconce").FullName;

    [Fact]
    public async Task RunAsync_serves_until_it_is_told_to_stop()
    {
        var file = Path.Combine(_directory, "address");
        using var stop = new CancellationTokenSource();

        var running = SconceServer.RunAsync(["--port", "0", "--address-file", file, "--log-level", "error"], stop.Token);
        await Eventually.TrueAsync(() => File.Exists(file));
        using (var channel = GrpcChannel.ForAddress((await File.ReadAllLinesAsync(file)).Single()))
        {
            Assert.Equal("cpu", (await new V1.HostService.HostServiceClient(channel).GetHostAsync(new V1.GetHostRequest())).Device);
        }

        await stop.CancelAsync();
        Assert.Equal(0, await running.WaitAsync(Bound));
    }

    [Fact]
    public async Task RunAsync_told_to_stop_before_it_started_is_a_clean_stop() =>
        Assert.Equal(0, await SconceServer.RunAsync(["--port", "0", "--log-level", "error"], new CancellationToken(canceled: true)).WaitAsync(Bound));

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
        // Long before the drain's limit. A busy machine may make one or the other stop slow, not each of them.
        for (var (attempt, took) = (0, TimeSpan.MaxValue); took > TimeSpan.FromSeconds(5); attempt++)
        {
            Assert.True(attempt < 5, $"none of {attempt} stops came within 5 s; the last took {took}");
            took = await StopWithStreamsAsync();
        }
    }

    private static async Task<TimeSpan> StopWithStreamsAsync()
    {
        var server = await RunningServer.StartAsync(options => options.DrainTimeout = TimeSpan.FromMinutes(1));
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
        await stopping.WaitAsync(Bound);
        var took = Stopwatch.GetElapsedTime(started);

        Assert.All(ends, end =>
        {
            Assert.Equal(StatusCode.Unavailable, end.StatusCode);
            Assert.Equal("DRAINING", end.GetRpcStatus()?.GetDetail<ErrorInfo>()?.Reason);
            Assert.NotNull(end.GetRpcStatus()?.GetDetail<RetryInfo>());
        });
        Assert.Empty(server.Errors);
        await server.DisposeAsync();
        return took;
    }

    [Fact]
    public async Task Stop_lets_work_in_flight_finish_and_refuses_what_waits()
    {
        const int Queue = 8;
        var held = new HeldModule(_directory);
        var server = await RunningServer.StartAsync(options =>
        {
            (options.DrainTimeout, options.Engine.PluginDir) = (TimeSpan.FromMinutes(5), HeldModule.PlugIn);
            (options.Engine.Lanes, options.Engine.MaxQueuePerModule) = (1, Queue);
        });
        await Make.ModuleAsync(server, "m", held.Spec);
        var running = ForwardAsync(server);
        await held.RunsAsync();

        // One more than there is room for: once it is refused, the others wait.
        var waiting = Enumerable.Range(0, Queue + 1).Select(_ => ForwardAsync(server)).ToList();
        var beyond = await Task.WhenAny(waiting).WaitAsync(Bound);
        Assert.Equal("QUEUE_FULL", (await Refused.OfAsync(beyond)).Is(StatusCode.ResourceExhausted).Reason);
        waiting.Remove(beyond);

        var stopping = server.Server.StopAsync();
        foreach (var call in waiting)
        {
            Assert.Equal("DRAINING", (await Refused.OfAsync(call)).Is(StatusCode.Unavailable).Reason);
        }

        Assert.False(running.IsCompleted || stopping.IsCompleted);
        held.LetGo();
        var answer = await running.WaitAsync(Bound);
        Assert.Equal(2, Assert.Single(Make.Floats(answer.Output.Tensor)));
        await stopping.WaitAsync(Bound);
        Assert.Empty(server.Errors);
        await server.DisposeAsync();
    }

    [Fact]
    public async Task Stop_told_not_to_wait_answers_work_in_flight_and_leaves_it_behind()
    {
        var held = new HeldModule(_directory);
        var server = await RunningServer.StartAsync(options => (options.DrainTimeout, options.Engine.PluginDir) = (TimeSpan.FromMinutes(5), HeldModule.PlugIn));
        await Make.ModuleAsync(server, "m", held.Spec);
        var call = ForwardAsync(server);
        await held.RunsAsync();
        using var enough = new CancellationTokenSource(TimeSpan.FromMilliseconds(200));

        await server.Server.StopAsync(enough.Token).WaitAsync(Bound);

        // Not because it had ended.
        Assert.True(server.Server.Engine.IsBusy);
        var refused = (await Refused.OfAsync(call)).Is(StatusCode.Unavailable);
        Assert.Equal("STOPPED", refused.Reason);
        Assert.Empty(server.Errors);
        held.LetGo();
        await server.DisposeAsync();
    }

    [Fact]
    public async Task Queue_full_is_refused_at_once_with_a_time_to_retry()
    {
        var held = new HeldModule(_directory);
        await using var server = await RunningServer.StartAsync(options =>
        {
            (options.Engine.Lanes, options.Engine.MaxQueue, options.Engine.MaxQueuePerModule) = (1, 2, 2);
            options.Engine.PluginDir = HeldModule.PlugIn;
        });
        await Make.ModuleAsync(server, "m", held.Spec);
        var running = ForwardAsync(server);
        await held.RunsAsync();

        var calls = Enumerable.Range(0, 16).Select(_ => ForwardAsync(server)).ToList();

        // While one runs and two wait, and neither of them can end.
        await Eventually.TrueAsync(() => calls.Count(call => call.IsFaulted) == 14);
        Assert.DoesNotContain(calls.Append(running), call => call.IsCompletedSuccessfully);
        held.LetGo();
        foreach (var call in calls.Where(call => call.IsFaulted))
        {
            var error = await Assert.ThrowsAsync<RpcException>(() => call);
            Assert.Equal(StatusCode.ResourceExhausted, error.StatusCode);
            Assert.Equal("QUEUE_FULL", error.GetRpcStatus()?.GetDetail<ErrorInfo>()?.Reason);
            Assert.True(error.GetRpcStatus()?.GetDetail<RetryInfo>()?.RetryDelay.ToTimeSpan() > TimeSpan.Zero);
        }

        await Task.WhenAll(calls.Where(call => !call.IsFaulted).Append(running)).WaitAsync(Bound);
        await ForwardAsync(server);
        Assert.Empty(server.Errors);
    }

    [Fact]
    public async Task Deadline_that_passes_in_the_queue_is_never_run()
    {
        var held = new HeldModule(_directory);
        await using var server = await RunningServer.StartAsync(options => (options.Engine.Lanes, options.Engine.PluginDir) = (1, HeldModule.PlugIn));
        await Make.ModuleAsync(server, "m", Make.Sequential(held.Spec, Make.Linear(1, 1)));
        await server.Training.CreateOptimizerAsync(new V1.CreateOptimizerRequest { Module = "m", Type = "SGD", Args = Make.Args(("lr", 0.1)) });
        var generation = (await server.Modules.GetModuleAsync(new V1.GetModuleRequest { Module = "m" })).Module.Generation;
        var busy = ForwardAsync(server);
        await held.RunsAsync();

        // Time enough to get into the queue, which nothing leaves.
        var late = await RunningServer.RefusedAsync(server.Modules.ToAsync(new V1.ToRequest { Module = "m", Conversion = V1.Conversion.Double }, deadline: DateTime.UtcNow.AddSeconds(2)));

        // The server has a clock of its own.
        await Eventually.TrueAsync(() => server.Log.Any(line => line.Contains("ModuleService/To ", StringComparison.Ordinal) && line.Contains("DEADLINE_EXCEEDED", StringComparison.Ordinal)));
        held.LetGo();
        await busy;

        Assert.Equal(StatusCode.DeadlineExceeded, late.StatusCode);
        Assert.Equal(generation, (await server.Modules.GetModuleAsync(new V1.GetModuleRequest { Module = "m" })).Module.Generation);
        Assert.Empty(server.Errors);
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    private static Task<V1.ForwardResponse> ForwardAsync(RunningServer server) => server.Execution.ForwardAsync(Make.Forward("m", Make.Floats([1], 1))).ResponseAsync;

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
