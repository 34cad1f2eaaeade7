using System.Globalization;
using Grpc.Core;

namespace Sconce.Client.Internal;

/// <summary>The handshake: every call says which contract it was built against, every answer says which it was made for.</summary>
internal static class Contract
{
    public const string Header = "sconce-contract";

    /// <summary>Which start of a server answers; in a call, the only one that may do it.</summary>
    public const string Instance = "sconce-instance";

    public const string Version = "1.0";

    private const int Major = 1;

    /// <summary>
    /// Fails with words where the server speaks another major version, instead of with whatever parsing its messages gives.
    /// </summary>
    /// <remarks>An answer without the header passes: it came from a proxy, whose own status says more.</remarks>
    public static void Check(Metadata headers, Exception? failure)
    {
        if (Mismatch(headers) is { } version)
        {
            throw new SconceContractException(
                new ErrorDetails(
                    StatusCode.FailedPrecondition,
                    $"The server speaks contract {version} and this client {Version}: update the older of the two "
                    + $"(Sconce.Client {typeof(Contract).Assembly.GetName().Version?.ToString(3)})."),
                failure);
        }
    }

    private static string? Mismatch(Metadata headers)
    {
        var version = headers.GetValue(Header);
        if (version is null)
            return null;
        var dot = version.IndexOf('.', StringComparison.Ordinal);
        var major = dot < 0 ? version : version[..dot];
        return int.TryParse(major, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number == Major ? null : version;
    }
}
