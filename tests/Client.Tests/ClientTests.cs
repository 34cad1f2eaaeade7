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

        Assert.Contains("a Sconce server at unix:/nowhere/sconce.sock: ", error.Message, StringComparison.Ordinal);
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
