using System.Collections.Concurrent;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Sconce.V1;

namespace Sconce.Client.Tests;

public sealed class ClientTests
{
    [Fact]
    public async Task With_settings_reachEveryCallOfTheClient()
    {
        await using var server = await FakeServer.StartAsync();
        var deadlines = new ConcurrentQueue<DateTime>();
        server.On<GetHostRequest, GetHostResponse>((_, context) =>
        {
            deadlines.Enqueue(context.Deadline);
            return new GetHostResponse();
        });
        await using var client = server.NewClient(o => o.Timeout = null);
        var settled = client.With(new CallSettings { RequestId = "mine", Timeout = TimeSpan.FromHours(3) });

        await settled.GetHostAsync();
        await settled.CreateModuleAsync("m", Nn.Sequential());
        await settled.DropTensorAsync("t");
        await settled.ManualSeedAsync(7);
        await settled.Module("m").TrainAsync();

        Assert.InRange(Assert.Single(deadlines), DateTime.UtcNow.AddHours(2), DateTime.UtcNow.AddHours(3));
        Assert.Equal("mine", Assert.Single(server.Seen<CreateModuleRequest>()).RequestId);
        Assert.Equal("mine", Assert.Single(server.Seen<DropTensorRequest>()).RequestId);
        Assert.Equal("mine", Assert.Single(server.Seen<ManualSeedRequest>()).RequestId);
        Assert.Equal("mine", Assert.Single(server.Seen<TrainRequest>()).RequestId);
        var error = Assert.Throws<ArgumentException>(() => client.With(new CallSettings { IfGeneration = 3 }));
        Assert.Contains("IfGeneration is 3; a generation is a module's", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task With_whatACallReturns_keepsTheTimeLimitAlone()
    {
        await using var server = await FakeServer.StartAsync();
        var later = new ConcurrentQueue<(IMessage Request, DateTime Deadline)>();
        void Note<TRequest, TResponse>(Func<TRequest, TResponse> answer)
            where TRequest : class, IMessage =>
            server.On<TRequest, TResponse>((request, context) =>
            {
                later.Enqueue((request, context.Deadline));
                return answer(request);
            });
        Note<TrainRequest, TrainResponse>(request => new TrainResponse { Module = Fakes.Module(request) });
        Note<OptimizerStepRequest, OptimizerStepResponse>(_ => new OptimizerStepResponse());
        Note<DropTensorRequest, DropTensorResponse>(_ => new DropTensorResponse());
        Note<ListTensorsRequest, ListTensorsResponse>(_ => new ListTensorsResponse());
        Note<RemoveHookRequest, RemoveHookResponse>(_ => new RemoveHookResponse());
        Note<BackwardRequest, BackwardResponse>(_ => new BackwardResponse());
        server.On<CreateOptimizerRequest, CreateOptimizerResponse>((_, _) => new CreateOptimizerResponse { Optimizer = new Optimizer { Name = "default" } });
        server.On<PutTensorRequest, PutTensorResponse>((_, _) => new PutTensorResponse { Tensor = new KeptTensor { Id = "t" } });
        server.On<ForwardRequest, ForwardResponse>((request, _) => Graphs.Recorded(request));
        server.OnStream<OpenSessionRequest, OpenSessionResponse>(async (_, writer, context) =>
        {
            await writer!.WriteAsync(new OpenSessionResponse { Session = "s" });
            await Task.Delay(Timeout.Infinite, context.CancellationToken);
            return null;
        });
        await using var client = server.NewClient(o => o.Timeout = null);
        var settings = new CallSettings { RequestId = "mine", Timeout = TimeSpan.FromHours(3) };
        var settled = client.With(settings);
        var module = client.Module("m").With(settings with { IfGeneration = 4 });

        await (await settled.CreateModuleAsync("m", Nn.Sequential())).TrainAsync();
        await (await module.CopyAsync("n")).TrainAsync();
        await (await module.AddModuleAsync("0", Nn.ReLU())).TrainAsync();
        await (await module.AddModuleAsync("1", module.GetSubmodule("0"))).TrainAsync();
        await (await module.RegisterModuleAsync("2", Nn.ReLU())).TrainAsync();
        await (await module.CreateOptimizerAsync("SGD")).StepAsync();
        await (await module.RegisterHookAsync(Hooks.Forward().Capture())).RemoveAsync();
        await (await module.ForwardWithGraphAsync(TensorData.Scalar(1f))).BackwardAsync();
        await (await settled.PutTensorAsync(TensorData.Scalar(1f))).DropAsync();
        await using var session = await settled.OpenSessionAsync();
        await session.ListTensorsAsync();
        await (await session.PutTensorAsync(TensorData.Scalar(1f))).DropAsync();

        Assert.Equal(11, later.Count);
        Assert.All(later, call =>
        {
            Assert.InRange(call.Deadline, DateTime.UtcNow.AddHours(2), DateTime.UtcNow.AddHours(3));
            Assert.NotEqual("mine", call.Request.Descriptor.FindFieldByName("request_id")?.Accessor.GetValue(call.Request));
            Assert.False(call.Request.Descriptor.FindFieldByName("if_generation")?.Accessor.HasValue(call.Request) ?? false);
        });
    }

    [Fact]
    public async Task Optimizer_ofAModuleWithSettings_hasThem()
    {
        await using var server = await FakeServer.StartAsync();
        await using var client = server.NewClient();

        await client.Module("m").With(new CallSettings { IfGeneration = 4 }).Optimizer().StepAsync();

        Assert.Equal(4ul, Assert.Single(server.Seen<OptimizerStepRequest>()).IfGeneration);
    }

    [Fact]
    public async Task MessageOverTheLimit_namesTheSetting()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<ForwardRequest, ForwardResponse>((request, _) => Fakes.Echo(new ForwardRequest { Inputs = { Fakes.Tensor(new float[1000]) } }));
        await using var client = server.NewClient(o => o.MaxMessageBytes = 1000);

        var sent = await Assert.ThrowsAsync<SconceResourceExhaustedException>(() => client.Module("m").ForwardAsync(TensorData.Create(new float[1000])));
        Assert.Contains("ForwardRequest sends a message larger than the 1000 bytes that SconceClientOptions.MaxMessageBytes allows", sent.Message, StringComparison.Ordinal);
        var received = await Assert.ThrowsAsync<SconceResourceExhaustedException>(() => client.Module("m").ForwardAsync(TensorData.Scalar(1f)));
        Assert.Contains("answered with a message larger than the 1000 bytes", received.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task UnixSocket_calls_goThrough()
    {
        var path = Path.Combine(Path.GetTempPath(), $"sconce-{Guid.NewGuid():N}.sock");
        await using var server = await FakeServer.StartAsync(path);
        await using var client = new SconceClient($"unix:{path}");

        await client.GetHostAsync();

        Assert.Single(server.Seen<GetHostRequest>());
    }

    [Fact]
    public async Task UnixSocket_absent_namesTheAddress()
    {
        await using var client = new SconceClient(new SconceClientOptions { Address = "unix:/nowhere/sconce.sock", Retry = new() { MaxAttempts = 1 } });

        var error = await Assert.ThrowsAsync<SconceUnavailableException>(() => client.GetHostAsync());

        Assert.Contains("a Sconce server at unix:/nowhere/sconce.sock: there is no socket at /nowhere/sconce.sock (", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Channel_ofTheCaller_isUsedAndLeftOpen()
    {
        await using var server = await FakeServer.StartAsync();
        using var channel = GrpcChannel.ForAddress(server.Address);

        await using (var client = new SconceClient(channel))
            await client.GetHostAsync();
        await using (var client = new SconceClient(channel))
            await client.GetHostAsync();

        Assert.Equal(2, server.Seen<GetHostRequest>().Count);
    }

    [Theory]
    [InlineData("localhost:5000")]
    [InlineData("ftp://localhost")]
    [InlineData("unix:")]
    public void Address_otherForm_saysWhatIsExpected(string address) =>
        Assert.Contains("unix:/path/to.sock", Assert.Throws<ArgumentException>(() => new SconceClient(address)).Message, StringComparison.Ordinal);

    [Fact]
    public void Options_outOfRange_areAllNamed()
    {
        var options = new SconceClientOptions { Timeout = TimeSpan.Zero, MaxMessageBytes = 0, Retry = new() { MaxAttempts = 0 } };

        var error = Assert.Throws<OptionsValidationException>(() => new SconceClient(options));

        Assert.Contains("SconceClientOptions.Address is not set", error.Message, StringComparison.Ordinal);
        Assert.Contains("Timeout is 00:00:00; it must be > 0", error.Message, StringComparison.Ordinal);
        Assert.Contains("MaxMessageBytes is 0", error.Message, StringComparison.Ordinal);
        Assert.Contains("Retry.MaxAttempts is 0; it must be >= 1", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Timeouts_thatNoTimerTakes_areRefusedWhereTheyAreSet()
    {
        foreach (var timeout in new[] { TimeSpan.Zero, TimeSpan.FromSeconds(-5), TimeSpan.FromDays(50), TimeSpan.MaxValue, TimeSpan.MinValue })
        {
            var option = Assert.Throws<OptionsValidationException>(() => new SconceClient(new SconceClientOptions { Address = "http://127.0.0.1:1", Timeout = timeout }));
            Assert.Contains($"SconceClientOptions.Timeout is {timeout}; it must be > 0 and at most 49.00:00:00, or null for none.", option.Message, StringComparison.Ordinal);
            var setting = Assert.Throws<ArgumentOutOfRangeException>(() => new CallSettings { Timeout = timeout });
            Assert.Contains($"CallSettings.Timeout is {timeout}; it must be > 0 and at most 49.00:00:00, or Timeout.InfiniteTimeSpan for none.", setting.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Timeouts_infiniteAndLongest_reachEveryKindOfCall()
    {
        await using var server = await FakeServer.StartAsync();
        var deadlines = new ConcurrentQueue<DateTime>();
        server.On<GetHostRequest, GetHostResponse>((_, context) =>
        {
            deadlines.Enqueue(context.Deadline);
            return new GetHostResponse();
        });
        server.OnStream<ForwardStreamRequest, ForwardStreamResponse>(async (incoming, writer, _) =>
        {
            await foreach (var request in incoming.All)
                await writer!.WriteAsync(new ForwardStreamResponse { Id = request.Id, Forward = Fakes.Echo(request.Forward) });
            return null;
        });
        server.OnStream<GetStateDictRequest, GetStateDictResponse>(async (_, writer, _) =>
        {
            await writer!.WriteAsync(new GetStateDictResponse { Manifest = new() });
            await writer.WriteAsync(new GetStateDictResponse { End = new() });
            return null;
        });
        server.OnStream<OpenSessionRequest, OpenSessionResponse>(async (_, writer, context) =>
        {
            await writer!.WriteAsync(new OpenSessionResponse { Session = "s" });
            await Task.Delay(Timeout.Infinite, context.CancellationToken);
            return null;
        });
        var longest = TimeSpan.FromDays(49);
        await using var client = server.NewClient(o => o.Timeout = longest);
        await using var endless = server.NewClient(o => o.Timeout = Timeout.InfiniteTimeSpan);

        foreach (var settled in new[] { client, client.With(new() { Timeout = Timeout.InfiniteTimeSpan }), endless, endless.With(new() { Timeout = longest }) })
        {
            await settled.GetHostAsync();
            await settled.Module("m").StateDictAsync();
            await using var session = await settled.OpenSessionAsync();
            await using var stream = settled.Module("m").OpenForwardStream();
            await stream.ForwardAsync(TensorData.Scalar(1f));
        }

        Assert.Equal([false, true, true, false], deadlines.Select(deadline => deadline == DateTime.MaxValue));
        Assert.All(deadlines, deadline => Assert.True(deadline > DateTime.UtcNow.AddDays(48)));
    }

    [Fact]
    public async Task Options_changedAfterwards_changeNothing()
    {
        await using var server = await FakeServer.StartAsync();
        var deadlines = new ConcurrentQueue<DateTime>();
        server.On<GetHostRequest, GetHostResponse>((_, context) =>
        {
            deadlines.Enqueue(context.Deadline);
            return new GetHostResponse();
        });
        using var channel = GrpcChannel.ForAddress(server.Address);
        var options = new SconceClientOptions { Address = server.Address, Timeout = TimeSpan.FromHours(3), Retry = new() { MaxAttempts = 2, BaseDelay = TimeSpan.FromMilliseconds(1) } };
        await using var client = new SconceClient(options);
        await using var over = new SconceClient(channel, options);

        options.Timeout = TimeSpan.FromTicks(-1);
        (options.Retry.MaxAttempts, options.Retry.MaxDelay) = (1, TimeSpan.Zero);
        await client.GetHostAsync();
        await over.GetHostAsync();
        server.On<GetHostRequest, GetHostResponse>((_, _) => throw Fakes.Error(StatusCode.Unavailable, "draining"));
        await Assert.ThrowsAsync<SconceUnavailableException>(() => client.GetHostAsync());
        await Assert.ThrowsAsync<SconceUnavailableException>(() => over.GetHostAsync());

        Assert.All(deadlines, deadline => Assert.InRange(deadline, DateTime.UtcNow.AddHours(2), DateTime.UtcNow.AddHours(3)));
        Assert.Equal(6, server.Seen<GetHostRequest>().Count);
    }

    [Fact]
    public async Task Disposed_whatItGave_isDisposedAfterItWithoutThrowing()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<ForwardRequest, ForwardResponse>((request, _) => Graphs.Recorded(request));
        server.On<PutTensorRequest, PutTensorResponse>((_, _) => new PutTensorResponse { Tensor = new KeptTensor { Id = "t" } });
        server.OnStream<OpenSessionRequest, OpenSessionResponse>(async (_, writer, context) =>
        {
            await writer!.WriteAsync(new OpenSessionResponse { Session = "s" });
            await Task.Delay(Timeout.Infinite, context.CancellationToken);
            return null;
        });
        var log = new Lines();
        using var loggers = LoggerFactory.Create(builder => builder.SetMinimumLevel(LogLevel.Debug).AddProvider(log));
        var client = server.NewClient(loggers: loggers);
        var tensor = await client.PutTensorAsync(TensorData.Scalar(1f));
        var graph = await client.Module("m").ForwardWithGraphAsync(TensorData.Scalar(1f));
        var session = await client.OpenSessionAsync();
        var stream = client.Module("m").OpenForwardStream();

        await client.DisposeAsync();
        await tensor.DisposeAsync();
        await graph.DisposeAsync();
        await session.DisposeAsync();
        await stream.DisposeAsync();

        Assert.True(session.Ended.IsCancellationRequested);
        Assert.Contains(log.All, line => line.StartsWith("Debug: Kept tensor t could not be dropped", StringComparison.Ordinal));
        Assert.Contains(log.All, line => line.StartsWith("Debug: Graph g1 could not be released", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("2.0")]
    [InlineData("10.3")]
    [InlineData("nonsense")]
    public async Task Contract_otherMajor_isNamedOnSuccessAndOnFailure(string version)
    {
        await using var server = await FakeServer.StartAsync();
        server.Contract = version;
        server.On<GetModuleRequest, GetModuleResponse>((_, _) => throw Fakes.Error(StatusCode.NotFound, "no module"));
        await using var client = server.NewClient();

        var success = await Assert.ThrowsAsync<SconceContractException>(() => client.GetHostAsync());
        var failure = await Assert.ThrowsAsync<SconceContractException>(() => client.GetModuleAsync("m"));
        var stream = await Assert.ThrowsAsync<SconceContractException>(() => client.Module("m").StateDictAsync());

        Assert.StartsWith($"The server speaks contract {version} and this client 1.0: update the older of the two", success.Message, StringComparison.Ordinal);
        Assert.Equal((success.Message, success.Message), (failure.Message, stream.Message));
    }

    [Theory]
    [InlineData("1.7")]
    [InlineData(null)]
    public async Task Contract_sameMajorOrUnsaid_passes(string? version)
    {
        await using var server = await FakeServer.StartAsync();
        server.Contract = version;
        await using var client = server.NewClient();

        await client.GetHostAsync();

        Assert.Single(server.Seen<GetHostRequest>());
    }

    [Fact]
    public async Task Host_catalogueAndListing_passFiltersOn()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<ListModuleTypesRequest, ListModuleTypesResponse>((_, _) => new ListModuleTypesResponse { Types_ = { new ModuleType { Name = "Conv2d" } } });
        server.On<ListModulesRequest, ListModulesResponse>((_, _) => new ListModulesResponse { Modules = { new Module { Name = "mlp" } } });
        await using var client = server.NewClient();

        Assert.Equal("Conv2d", Assert.Single(await client.ListModuleTypesAsync(TypeKind.Module, "conv")).Name);
        Assert.Equal("mlp", Assert.Single(await client.ListModulesAsync("m")).Name);
        await client.ManualSeedAsync(3);

        Assert.Equal((TypeKind.Module, "conv"), (server.Seen<ListModuleTypesRequest>()[0].Kind, server.Seen<ListModuleTypesRequest>()[0].NameContains));
        Assert.Equal("m", server.Seen<ListModulesRequest>()[0].Prefix);
        Assert.Equal(("", 3L), (server.Seen<ManualSeedRequest>()[0].Module, server.Seen<ManualSeedRequest>()[0].Seed));
    }

    [Fact]
    public async Task Retry_isLogged()
    {
        await using var server = await FakeServer.StartAsync();
        server.On<GetHostRequest, GetHostResponse>((_, _) => server.Seen<GetHostRequest>().Count < 2 ? throw Fakes.Error(StatusCode.Unavailable, "draining") : new GetHostResponse());
        var log = new Lines();
        using var loggers = LoggerFactory.Create(builder => builder.AddProvider(log));
        await using var client = server.NewClient(loggers: loggers);

        await client.GetHostAsync();

        Assert.Contains(log.All, line => line.StartsWith("Warning: GetHostRequest failed with Unavailable (draining); attempt 2 follows in ", StringComparison.Ordinal));
    }

    [Fact]
    public async Task AddSconceClient_defaultAndNamed_reachTheirServers()
    {
        await using var first = await FakeServer.StartAsync();
        await using var second = await FakeServer.StartAsync();
        var services = new ServiceCollection();
        services.AddLogging();
        services.AddSconceClient(o => o.Address = first.Address);
        services.AddSconceClient("gpu1", o => o.Address = second.Address);
        using var provider = services.BuildServiceProvider();

        await provider.GetRequiredService<SconceClient>().GetHostAsync();
        await provider.GetRequiredKeyedService<SconceClient>("gpu1").GetHostAsync();
        await provider.GetRequiredKeyedService<SconceClient>("gpu1").GetHostAsync();

        Assert.Single(first.Seen<GetHostRequest>());
        Assert.Equal(2, second.Seen<GetHostRequest>().Count);
        Assert.Same(provider.GetRequiredService<SconceClient>(), provider.GetRequiredService<SconceClient>());
    }

    [Fact]
    public void AddSconceClient_withoutAddress_saysWhichSetting()
    {
        using var provider = new ServiceCollection().AddSconceClient(_ => { }).BuildServiceProvider();

        var error = Assert.Throws<OptionsValidationException>(provider.GetRequiredService<SconceClient>);

        Assert.Contains("SconceClientOptions.Address is not set", error.Message, StringComparison.Ordinal);
    }
}
