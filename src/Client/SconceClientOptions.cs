using Grpc.Net.Client;
using Microsoft.Extensions.Options;
using Sconce.Client.Internal;

namespace Sconce.Client;

/// <summary>How a <see cref="SconceClient"/> reaches its server.</summary>
public sealed class SconceClientOptions
{
    /// <summary>
    /// Where the server listens: <c>http://host:port</c>, <c>https://host:port</c>, or <c>unix:/path/to.sock</c>. Required unless a channel
    /// is given.
    /// </summary>
    public string? Address { get; set; }

    /// <summary>
    /// Path of the socket on which a server of this host hands out shared memory, its <c>shared_memory_socket</c>: for <see cref="SconceClient.RentSharedRegionAsync"/>. Null
    /// for none. Linux only.
    /// </summary>
    public string? SharedMemorySocket { get; set; }

    /// <summary>
    /// Time that a call may take, retries included: at most 49 days; null waits for ever. Streams have no limit unless
    /// <see cref="CallSettings.Timeout"/> sets one. Default: 100 s.
    /// </summary>
    public TimeSpan? Timeout { get; set; } = TimeSpan.FromSeconds(100);

    /// <summary>Most bytes of one message in either direction (state dicts travel in many). Default: 256 MiB.</summary>
    public int MaxMessageBytes { get; set; } = 256 << 20;

    /// <summary>When and how often a failed call is repeated.</summary>
    public SconceRetryOptions Retry { get; set; } = new();

    /// <summary>A last word on the gRPC channel (credentials, TLS, proxies, interceptors' handlers); null changes nothing.</summary>
    public Action<GrpcChannelOptions>? ConfigureChannel { get; set; }

    /// <summary>The same settings in an object of their own.</summary>
    internal SconceClientOptions Copy()
    {
        var copy = (SconceClientOptions)MemberwiseClone();
        copy.Retry = Retry?.Copy()!;
        return copy;
    }

    internal IEnumerable<string> Problems(bool needsAddress)
    {
        if (needsAddress && string.IsNullOrEmpty(Address))
            yield return "SconceClientOptions.Address is not set; it must be http://host:port, https://host:port or unix:/path/to.sock.";
        if (!TimeLimit.IsValid(Timeout))
            yield return $"SconceClientOptions.Timeout is {Timeout}; it must be > 0 and at most {TimeLimit.Longest}, or null for none.";
        if (MaxMessageBytes <= 0)
            yield return $"SconceClientOptions.MaxMessageBytes is {MaxMessageBytes}; it must be > 0.";
        if (Retry is null)
            yield return "SconceClientOptions.Retry is null; SconceRetryOptions.MaxAttempts = 1 turns retries off.";
        else if (Retry.MaxAttempts < 1)
            yield return $"SconceClientOptions.Retry.MaxAttempts is {Retry.MaxAttempts}; it must be >= 1 (1 turns retries off).";
        else if (Retry.BaseDelay <= TimeSpan.Zero || Retry.MaxDelay < Retry.BaseDelay)
            yield return $"SconceClientOptions.Retry.BaseDelay is {Retry.BaseDelay} and MaxDelay is {Retry.MaxDelay}; expected 0 < BaseDelay <= MaxDelay.";
    }

    internal void Validate(bool needsAddress)
    {
        var problems = Problems(needsAddress).ToList();
        if (problems.Count > 0)
            throw new OptionsValidationException(nameof(SconceClientOptions), typeof(SconceClientOptions), problems);
    }
}

/// <summary>When and how often a failed call is repeated.</summary>
/// <remarks>
/// Repeated is what fails with UNAVAILABLE (no server, or one that starts or drains) or with RESOURCE_EXHAUSTED and a delay (a full
/// queue), and only where that is safe: reads; changes, which carry a request id that lets the server act once; forwards without a
/// graph. A forward that records a graph, and a method other than forward, are repeated only where the server certainly did not run
/// them: it says so itself (a proxy's word does not count), or no connection to it was made. Streams resume or start again where what they carry is still there.
/// </remarks>
public sealed class SconceRetryOptions
{
    /// <summary>
    /// Most attempts of one call, the first included; 1 turns retries off. Default: 12, about 20 s with the other defaults.
    /// </summary>
    public int MaxAttempts { get; set; } = 12;

    /// <summary>
    /// Wait before the first repeat; it doubles each time, with jitter. A delay that the server names takes precedence. Default: 100 ms.
    /// </summary>
    public TimeSpan BaseDelay { get; set; } = TimeSpan.FromMilliseconds(100);

    /// <summary>Longest wait between attempts. Default: 3 s.</summary>
    public TimeSpan MaxDelay { get; set; } = TimeSpan.FromSeconds(3);

    internal SconceRetryOptions Copy() => (SconceRetryOptions)MemberwiseClone();
}
