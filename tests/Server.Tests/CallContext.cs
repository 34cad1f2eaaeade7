using Grpc.Core;

namespace Sconce.Server.Tests;

/// <summary>The context of a call that came from nowhere, for tests of what needs one.</summary>
/// <param name="token">Fires where its caller has left.</param>
internal sealed class CallContext(CancellationToken token) : ServerCallContext
{
    protected override string MethodCore => "/sconce.v1.HostService/GetHost";

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
