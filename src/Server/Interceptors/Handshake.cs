using System.Globalization;
using System.Reflection;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Primitives;
using Sconce.Engine;

namespace Sconce.Server.Interceptors;

/// <summary>The version of the contract, told in every response and checked where a caller tells its own.</summary>
internal static class Handshake
{
    public const string ContractVersion = "1.0";
    public const string ContractHeader = "sconce-contract";
    public const string BuildHeader = "sconce-build";
    private const int Major = 1;
    private const int Minor = 0;

    public static string BuildVersion { get; } =
        typeof(Handshake).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "0.0.0";

    // Made once: a StringValues of a string allocates nothing per response.
    private static readonly StringValues Contract = ContractVersion;
    private static readonly StringValues Build = BuildVersion;

    public static void Announce(IHeaderDictionary responseHeaders)
    {
        responseHeaders[ContractHeader] = Contract;
        responseHeaders[BuildHeader] = Build;
    }

    public static void Check(IHeaderDictionary requestHeaders)
    {
        if (!requestHeaders.TryGetValue(ContractHeader, out var value) || value.Count == 0)
        {
            return;
        }

        var asked = value[0] ?? "";
        if (asked == ContractVersion)
        {
            return;
        }

        var dot = asked.IndexOf('.', StringComparison.Ordinal);
        if (dot < 0 || !int.TryParse(asked.AsSpan(0, dot), NumberStyles.None, CultureInfo.InvariantCulture, out var major)
            || !int.TryParse(asked.AsSpan(dot + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var minor))
        {
            throw EngineException.Invalid(ContractHeader, $"the metadata is {EngineException.Quote(asked)}; expected \"major.minor\" such as \"{ContractVersion}\"", "CONTRACT_VERSION");
        }

        if (major != Major || minor > Minor)
        {
            throw EngineException.Precondition(
                "CONTRACT_VERSION",
                $"the caller speaks contract {asked} and this server {ContractVersion} (build {BuildVersion}); {(major > Major || (major == Major && minor > Minor) ? "upgrade the server" : "upgrade the caller")}");
        }
    }
}
