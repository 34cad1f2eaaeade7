using System.Net;
using System.Text;
using System.Text.RegularExpressions;
using Sconce.Engine.Execution;

namespace Sconce.Server.Configuration;

/// <summary>Checks options before anything starts.</summary>
internal static partial class OptionsValidation
{
    private static readonly HashSet<string> EngineProperties = [.. typeof(EngineOptions).GetProperties().Select(property => property.Name)];

    /// <summary>gRPC frames carry a 32-bit length, and protobuf arrays stop at 2 GiB.</summary>
    private const long MessageCeiling = int.MaxValue;

    /// <summary>What is wrong, one sentence each: "X is V; it must be > Y".</summary>
    public static IEnumerable<string> Check(SconceServerOptions options)
    {
        foreach (var problem in CheckAddress(options).Concat(CheckLimits(options)))
        {
            yield return problem;
        }

        // The engine speaks of its own properties; here they go by the names that operators write.
        foreach (var problem in options.Engine.Validate())
        {
            yield return PropertyName().Replace(problem, name => EngineProperties.Contains(name.Value) ? SnakeCase(name.Value) : name.Value);
        }
    }

    /// <summary>Whether the options ask for TCP.</summary>
    public static bool UsesTcp(SconceServerOptions options) => !string.Equals(options.Address, "none", StringComparison.OrdinalIgnoreCase);

    /// <summary>The address as an IP; "localhost" is the IPv4 loopback.</summary>
    public static bool TryParseAddress(string address, out IPAddress ip)
    {
        if (string.Equals(address, "localhost", StringComparison.OrdinalIgnoreCase))
        {
            ip = IPAddress.Loopback;
            return true;
        }

        return IPAddress.TryParse(address, out ip!);
    }

    private static IEnumerable<string> CheckAddress(SconceServerOptions options)
    {
        if (!UsesTcp(options))
        {
            if (options.UnixSocket.Length == 0)
            {
                yield return "address is none and unix_socket is empty; the server would listen nowhere: set one of them";
            }
        }
        else if (!TryParseAddress(options.Address, out var ip))
        {
            yield return $"address is \"{options.Address}\"; it must be an IP address such as 127.0.0.1, localhost, or none";
        }
        else if (!IPAddress.IsLoopback(ip) && !options.Insecure)
        {
            yield return $"address is {options.Address}, which other machines can reach in plaintext; set insecure to allow that, or use 127.0.0.1";
        }

        if (options.Port is < 0 or > 65535)
        {
            yield return $"port is {options.Port}; it must be between 0 and 65535 (0 takes a free one)";
        }

        // sockaddr_un holds 108 bytes, the closing zero among them.
        foreach (var (name, path) in new[] { ("unix_socket", options.UnixSocket), ("shared_memory_socket", options.SharedMemorySocket) })
        {
            if (Encoding.UTF8.GetByteCount(path) > 107)
            {
                yield return $"{name} is {Encoding.UTF8.GetByteCount(path)} bytes long; it must be <= 107";
            }
        }

        if (options.SharedMemorySocket.Length > 0)
        {
            if (!OperatingSystem.IsLinux())
            {
                yield return $"shared_memory_socket is \"{options.SharedMemorySocket}\"; shared memory is Linux's alone, so on this system it must be empty";
            }

            if (options.UnixSocket.Length > 0 && Path.GetFullPath(options.SharedMemorySocket) == Path.GetFullPath(options.UnixSocket))
            {
                yield return $"shared_memory_socket is \"{options.SharedMemorySocket}\", and so is unix_socket; each must have a path of its own";
            }
        }
    }

    private static IEnumerable<string> CheckLimits(SconceServerOptions options)
    {
        if (options.MaxMessageBytes is < 4096 or > MessageCeiling)
        {
            yield return $"max_message_bytes is {options.MaxMessageBytes}; it must be between 4096 and {MessageCeiling}";
        }

        foreach (var (name, value) in new (string, long)[]
        {
            ("max_calls_per_connection", options.MaxCallsPerConnection),
            ("request_id_capacity", options.RequestIdCapacity),
            ("request_id_max_bytes", options.RequestIdMaxBytes),
            ("stream_in_flight", options.StreamInFlight),
            ("max_uploads", options.MaxUploads),
        })
        {
            if (value <= 0)
            {
                yield return $"{name} is {value}; it must be > 0";
            }
        }

        if (options.StreamMinBytesPerSecond < 0)
        {
            yield return $"stream_min_bytes_per_second is {options.StreamMinBytesPerSecond}; it must be >= 0 (0 sets no least rate)";
        }

        foreach (var (name, value) in new (string, TimeSpan)[]
        {
            ("drain_timeout", options.DrainTimeout),
            ("request_id_retention", options.RequestIdRetention),
            ("stream_idle_timeout", options.StreamIdleTimeout),
            ("upload_ttl", options.UploadTtl),
            ("session_heartbeat", options.SessionHeartbeat),
        })
        {
            // Timers take at most 2^32 - 2 milliseconds; a day is more than any of these can sensibly be.
            if (value <= TimeSpan.Zero || value > TimeSpan.FromDays(1))
            {
                yield return $"{name} is {Units.Format(value)}; it must be > 0 and at most 1d";
            }
        }
    }

    [GeneratedRegex("[A-Z][A-Za-z]+")]
    private static partial Regex PropertyName();

    private static string SnakeCase(string name)
    {
        var text = new StringBuilder(name.Length + 4);
        foreach (var c in name)
        {
            if (char.IsUpper(c) && text.Length > 0)
            {
                text.Append('_');
            }

            text.Append(char.ToLowerInvariant(c));
        }

        return text.ToString();
    }
}
