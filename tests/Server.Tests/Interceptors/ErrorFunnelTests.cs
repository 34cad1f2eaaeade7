using Grpc.Core;
using Microsoft.Extensions.Logging.Abstractions;
using Sconce.Server.Interceptors;

namespace Sconce.Server.Tests.Interceptors;

public sealed class ErrorFunnelTests
{
    private static readonly ErrorFunnel Funnel = new(new SconceServerOptions(), NullLogger<ErrorFunnel>.Instance);

    [Theory]
    [InlineData("Can't write the message because the request is complete.")]
    [InlineData("Can't read messages after the request is complete.")]
    public void A_stream_that_its_caller_has_left_is_cancelled_though_the_token_has_not_told_yet(string message) =>
        Assert.Equal(StatusCode.Cancelled, (StatusCode)Funnel.Describe(new InvalidOperationException(message), null, new CallContext(default)).Code);

    [Theory]
    [InlineData(true, StatusCode.Cancelled)]
    [InlineData(false, StatusCode.Internal)]
    public void Another_invalid_operation_is_a_bug_unless_the_caller_has_left(bool left, StatusCode expected) =>
        Assert.Equal(expected, (StatusCode)Funnel.Describe(new InvalidOperationException("Collection was modified"), null, new CallContext(new CancellationToken(left))).Code);
}
