using Google.Rpc;
using Grpc.Core;
using Sconce.V1;

namespace Sconce.Client.Tests;

public sealed class ErrorTests
{
    [Fact]
    public async Task InvalidArgument_badRequest_carriesFieldPaths()
    {
        var error = await FailAsync<SconceInvalidArgumentException>(Fakes.Error(
            Grpc.Core.StatusCode.InvalidArgument,
            "inputs[0]: shape [2, 3] has 24 bytes, 20 were given",
            new BadRequest { FieldViolations = { new BadRequest.Types.FieldViolation { Field = "inputs[0].data", Description = "20 bytes; expected 24" } } },
            new ErrorInfo { Reason = "TENSOR_SIZE", Domain = "sconce.v1", Metadata = { { "expected", "24" } } }));

        Assert.Equal("inputs[0]: shape [2, 3] has 24 bytes, 20 were given", error.Message);
        Assert.Equal([new FieldViolation("inputs[0].data", "20 bytes; expected 24")], error.Fields);
        Assert.Equal(("TENSOR_SIZE", "24"), (error.Reason, error.Metadata["expected"]));
        Assert.Equal(Grpc.Core.StatusCode.InvalidArgument, error.StatusCode);
    }

    [Fact]
    public async Task NotFound_resourceInfo_carriesTheResource()
    {
        var error = await FailAsync<SconceNotFoundException>(Fakes.Error(
            Grpc.Core.StatusCode.NotFound, "no module 'm'", new ResourceInfo { ResourceType = "module", ResourceName = "m", Description = "not on this host" }));

        Assert.Equal(new ErrorResource("module", "m", "not on this host"), error.Resource);
    }

    [Fact]
    public async Task FailedPrecondition_violations_areConditions()
    {
        var error = await FailAsync<SconceFailedPreconditionException>(Fakes.Error(
            Grpc.Core.StatusCode.FailedPrecondition,
            "the graph was used",
            new PreconditionFailure { Violations = { new PreconditionFailure.Types.Violation { Type = "GRAPH", Subject = "g1", Description = "used" } } }));

        Assert.Equal([new ConditionViolation("GRAPH", "g1", "used")], error.Conditions);
    }

    [Fact]
    public async Task ResourceExhausted_quotaWithoutDelay_isNotRepeated()
    {
        var error = await FailAsync<SconceResourceExhaustedException>(Fakes.Error(
            Grpc.Core.StatusCode.ResourceExhausted,
            "4 GiB asked, 1 GiB left",
            new QuotaFailure { Violations = { new QuotaFailure.Types.Violation { Subject = "memory", Description = "4 GiB asked" } } }));

        Assert.Equal([new ConditionViolation("", "memory", "4 GiB asked")], error.Conditions);
        Assert.Null(error.RetryAfter);
    }

    [Fact]
    public Task Aborted_isStaleGeneration() => FailAsync<SconceStaleGenerationException>(Fakes.Error(Grpc.Core.StatusCode.Aborted, "at 4, asked for 3"));

    [Fact]
    public Task AlreadyExists_isItsOwnKind() => FailAsync<SconceAlreadyExistsException>(Fakes.Error(Grpc.Core.StatusCode.AlreadyExists, "taken"));

    [Fact]
    public async Task Internal_plainStatus_isTheBaseKind()
    {
        var error = await FailAsync<SconceException>(new RpcException(new Grpc.Core.Status(Grpc.Core.StatusCode.Internal, "error 7f3a")));

        Assert.Equal((Grpc.Core.StatusCode.Internal, "error 7f3a"), (error.StatusCode, error.Message));
        Assert.IsType<RpcException>(error.InnerException);
    }

    [Fact]
    public async Task GarbledDetails_stillGiveTheStatus()
    {
        var error = await FailAsync<SconceNotFoundException>(new RpcException(
            new Grpc.Core.Status(Grpc.Core.StatusCode.NotFound, "no module 'm'"), new Metadata { { "grpc-status-details-bin", new byte[] { 0xFF, 0xFF, 0xFF } } }));

        Assert.Equal("no module 'm'", error.Message);
    }

    // One attempt only: none of these failures is one of the moment.
    private static async Task<TException> FailAsync<TException>(RpcException answer)
        where TException : SconceException
    {
        await using var server = await FakeServer.StartAsync();
        server.On<GetModuleRequest, GetModuleResponse>((_, _) => throw answer);
        await using var client = server.NewClient();

        var error = await Assert.ThrowsAsync<TException>(() => client.GetModuleAsync("m"));

        Assert.Single(server.Seen<GetModuleRequest>());
        return error;
    }
}
