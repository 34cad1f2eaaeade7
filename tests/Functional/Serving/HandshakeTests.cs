using Grpc.Core;
using Sconce.Functional.Harness;
using Sconce.V1;

namespace Sconce.Functional.Serving;

/// <summary>Versions, health, limits and the Unix socket.</summary>
public sealed class HandshakeTests(SharedServer server) : ServerTest(server)
{
    [Fact]
    public async Task Every_answer_carries_contract_and_build()
    {
        using var call = Stubs.Host.GetHostAsync(new GetHostRequest());
        var headers = await call.ResponseHeadersAsync;
        var host = await call;
        Assert.Equal(host.ContractVersion, headers.GetValue("sconce-contract"));
        Assert.Equal(host.ServerVersion, headers.GetValue("sconce-build"));

        // A refusal carries them too, so that a client can tell why.
        var thrown = await Assert.ThrowsAsync<RpcException>(async () => await Stubs.Modules.GetModuleAsync(new() { Module = "none" }));
        using var refused = Stubs.Modules.GetModuleAsync(new() { Module = "none" });
        var refusedHeaders = await refused.ResponseHeadersAsync;
        Assert.Equal(host.ContractVersion, refusedHeaders.GetValue("sconce-contract") ?? thrown.Trailers.GetValue("sconce-contract"));
    }

    [Theory]
    [InlineData("2.0")]
    [InlineData("0.9")]
    [InlineData("1.999")]
    public async Task Contract_that_is_not_served_is_FAILED_PRECONDITION_naming_both(string version)
    {
        var refusal = await Refusal.OfAsync(
            async () => await Stubs.Host.GetHostAsync(new GetHostRequest(), new Metadata { { "sconce-contract", version } }), StatusCode.FailedPrecondition, version);
        Assert.Contains((await Stubs.Host.GetHostAsync(new())).ContractVersion, refusal.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Contract_that_is_no_version_is_refused() =>
        await Refusal.OfAsync(
            async () => await Stubs.Host.GetHostAsync(new GetHostRequest(), new Metadata { { "sconce-contract", "banana" } }), StatusCode.InvalidArgument, "banana");

    [Fact]
    public async Task Contract_of_the_server_is_served()
    {
        var version = (await Stubs.Host.GetHostAsync(new())).ContractVersion;
        await Stubs.Host.GetHostAsync(new GetHostRequest(), new Metadata { { "sconce-contract", version } });
    }

    [Fact]
    public async Task GetHost_tells_device_versions_and_limits()
    {
        var host = await Stubs.Host.GetHostAsync(new());
        Assert.Equal("cpu", host.Device);
        Assert.NotEmpty(host.DeviceName);
        Assert.Empty(host.DeviceUuid);
        Assert.StartsWith("2.", host.LibtorchVersion, StringComparison.Ordinal);
        Assert.StartsWith("0.", host.TorchsharpVersion, StringComparison.Ordinal);
        Assert.Equal(1UL << 30, host.Memory.BudgetBytes);
        Assert.InRange(host.Memory.ResidentBytes, 10UL << 20, 100UL << 30);
        Assert.Equal($"{32 << 20}", host.Limits["max_message_bytes"]);
        Assert.Equal(["cpu"], host.Devices);
        Assert.InRange(host.Started.ToDateTime(), DateTime.UtcNow.AddHours(-1), DateTime.UtcNow);
        foreach (var limit in (string[])["graph_ttl", "kept_tensor_ttl", "request_id_retention", "request_id_capacity", "stream_idle_timeout", "stream_min_bytes_per_second", "max_queue"])
        {
            Assert.Contains(limit, host.Limits.Keys);
        }
    }

    [Fact]
    public async Task ListModuleTypes_lists_every_kind_with_arguments()
    {
        var all = (await Stubs.Host.ListModuleTypesAsync(new())).Types_;
        foreach (var kind in Enum.GetValues<TypeKind>().Except([TypeKind.Unspecified]))
        {
            Assert.Contains(all, type => type.Kind == kind);
        }

        Assert.Equal(all.OrderBy(type => type.Kind).ThenBy(type => type.Name, StringComparer.Ordinal).Select(type => type.Name), all.Select(type => type.Name));
        var conv = Assert.Single((await Stubs.Host.ListModuleTypesAsync(new() { Kind = TypeKind.Module, NameContains = "conv2d" })).Types_, type => type.Name == "Conv2d");
        Assert.Equal("_ConvNd", conv.Base);
        Assert.Equal("conv2d", conv.Functional);
        Assert.Equal(["in_channels", "out_channels", "kernel_size"], conv.Arguments.Where(argument => argument.Required).Select(argument => argument.Name));
        Assert.Equal(1, conv.Arguments.Single(argument => argument.Name == "stride").DefaultValue.NumberValue);
        Assert.Equal(["input", "h_0?", "c_0?"], (await Stubs.Host.ListModuleTypesAsync(new() { NameContains = "LSTM" })).Types_.Single(type => type.Name == "LSTM").Inputs);
        var lstm = Assert.Single((await Stubs.Host.ListModuleTypesAsync(new() { NameContains = "LSTM" })).Types_, type => type.Name == "LSTM");
        Assert.Equal(["output", "(h_n, c_n)"], lstm.Outputs);
        Assert.Equal("ResNet", Assert.Single((await Stubs.Host.ListModuleTypesAsync(new() { Kind = TypeKind.Model, NameContains = "resnet50" })).Types_).Base);
        (await Refusal.OfAsync(async () => await Stubs.Host.ListModuleTypesAsync(new() { Kind = (TypeKind)99 }), StatusCode.InvalidArgument, "99")).At("kind");
    }

    [Fact]
    public async Task Health_is_SERVING()
    {
        var health = new Grpc.Health.V1.Health.HealthClient(Stubs.Invoker);
        Assert.Equal(Grpc.Health.V1.HealthCheckResponse.Types.ServingStatus.Serving, (await health.CheckAsync(new())).Status);
    }

    [Fact]
    public async Task Unix_socket_serves_and_is_for_this_user_only()
    {
        using var channel = Channels.OpenUnix(Server.Process);
        var module = await CreateAsync(Specs.Identity, training: false);
        var answer = await new ExecutionService.ExecutionServiceClient(channel).ForwardAsync(new() { Module = module, Inputs = { Wire.Floats([2], 3, 4) } });
        Assert.Equal([3, 4], answer.Floats());
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(Server.Process.UnixSocket) & ~UnixFileMode.UserExecute);
    }

    [Fact]
    public async Task Message_larger_than_the_limit_names_its_setting()
    {
        var module = await CreateAsync(Specs.Identity, training: false);
        await Refusal.OfAsync(
            async () => await Stubs.Execution.ForwardAsync(new() { Module = module, Inputs = { Wire.Of(DataType.Uint8, [33 << 20], new byte[33 << 20]) } }),
            StatusCode.ResourceExhausted, "max_message_bytes");
    }
}
