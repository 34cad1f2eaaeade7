using Microsoft.AspNetCore.Http;
using Sconce.Engine;
using Sconce.Server.Interceptors;

namespace Sconce.Server.Tests.Interceptors;

public sealed class HandshakeTests
{
    [Theory]
    [InlineData(null)]
    [InlineData("1.0")]
    public void Check_silent_or_same_version_passes(string? version)
    {
        var headers = Headers(version);

        Handshake.Check(headers);

        Assert.Equal(version is null ? 0 : 1, headers.Count);
    }

    [Theory]
    [InlineData("0.9", "upgrade the caller")]
    [InlineData("2.0", "upgrade the server")]
    [InlineData("1.1", "upgrade the server")]
    public void Check_version_not_served_names_both(string version, string remedy)
    {
        var error = Assert.Throws<EngineException>(() => Handshake.Check(Headers(version)));

        Assert.Equal((EngineError.FailedPrecondition, "CONTRACT_VERSION"), (error.Error, error.Reason));
        Assert.Contains($"contract {version} and this server 1.0", error.Message, StringComparison.Ordinal);
        Assert.Contains(remedy, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("one")]
    [InlineData("1")]
    [InlineData("1.0.0")]
    [InlineData("-1.0")]
    public void Check_no_version_at_all_is_refused(string version) =>
        Assert.Equal(EngineError.InvalidArgument, Assert.Throws<EngineException>(() => Handshake.Check(Headers(version))).Error);

    [Fact]
    public void Announce_tells_contract_and_build()
    {
        var headers = new HeaderDictionary();

        Handshake.Announce(headers);

        Assert.Equal("1.0", headers["sconce-contract"]);
        Assert.NotEmpty(headers["sconce-build"].ToString());
    }

    private static HeaderDictionary Headers(string? version) => version is null ? [] : new() { ["sconce-contract"] = version };
}
