using System.Security.Cryptography;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Primitives;
using Sconce.Engine;

namespace Sconce.Server.Interceptors;

/// <summary>
/// Which start of a server this is, told in every response. A caller who counts on what a server has acknowledged binds its calls to it: one that has started since may have
/// lost the last of it, and a call behind that must not be done before it is repeated.
/// </summary>
internal sealed class ServerInstance
{
    public const string Header = "sconce-instance";

    private readonly StringValues _announced;

    public ServerInstance()
    {
        Id = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(8));

        // Made once, as the handshake's.
        _announced = Id;
    }

    /// <summary>16 hexadecimal digits, another one at each start.</summary>
    public string Id { get; }

    public void Announce(IHeaderDictionary responseHeaders) => responseHeaders[Header] = _announced;

    /// <exception cref="EngineException">ABORTED: the call is bound to another instance.</exception>
    public void Check(IHeaderDictionary requestHeaders)
    {
        if (requestHeaders.TryGetValue(Header, out var value) && value.Count > 0 && value[0] != Id)
        {
            throw new EngineException(EngineError.Aborted, "SERVER_RESTARTED",
                $"the call is bound to the server instance {EngineException.Quote(value[0] ?? "")}, and this is {Id}, which has started since: what was acknowledged after the last snapshots is lost; "
                + "GetModule's durable_steps tells from where to repeat, with this instance or without the metadata sconce-instance");
        }
    }
}
