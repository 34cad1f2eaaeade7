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
        Assert.Equal(StatusCode.Cancelled, (StatusCode)Funnel.Describe(new InvalidOperationException(message), null, new Context(default)).Code);

    [Theory]
    [InlineData(true, StatusCode.Cancelled)]
    [InlineData(false, StatusCode.Internal)]
    public void Another_invalid_operation_is_a_bug_unless_the_caller_has_left(bool left, StatusCode expected) =>
        Assert.Equal(expected, (StatusCode)Funnel.Describe(new InvalidOperationException("Collection was modified"), null, new Context(new CancellationToken(left))).Code);

    private sealed class Context(CancellationToken token) : ServerCallContext
    {
        protected override string MethodCore => "/sconce.v1.HookService/WatchHook";

        protected override string HostCore => "";

        protected override string PeerCore => "";

        protected override DateTime DeadlineCore => DateTime.MaxValue;

        protected override Metadata RequestHeadersCore => [];

        protected override CancellationToken CancellationTokenCore => token;

        protected override Metadata ResponseTrailersCore => [];

        protected override Status StatusCore { get; set; }

        protected override WriteOptions? WriteOptionsCore { get; set; }

        protected override AuthContext AuthContextCore => new(null, []);

        protected override ContextPropagationToken CreatePropagationTokenCore(ContextPropagationOptions? options) => throw new NotSupportedException();

        protected override Task WriteResponseHeadersAsyncCore(Metadata responseHeaders) => Task.CompletedTask;
    }
}
