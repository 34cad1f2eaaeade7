namespace Sconce.Client;

/// <summary>
/// What calls through <see cref="RemoteModule.With"/> and <see cref="RemoteOptimizer.With"/> carry besides their arguments.
/// </summary>
public sealed record CallSettings
{
    /// <summary>Disposing is best effort and must not hold its caller up: what cannot be freed now expires.</summary>
    internal static readonly CallSettings OnDispose = new() { Timeout = TimeSpan.FromSeconds(5) };

    /// <summary>
    /// Only act if the module is at this generation; otherwise nothing happens and the call throws
    /// <see cref="SconceStaleGenerationException"/>. Null acts on any.
    /// </summary>
    public ulong? IfGeneration { get; init; }

    /// <summary>
    /// The id that makes a repeat of the same call return the first answer, for a caller that must not repeat a call after its own restart.
    /// Belongs to one
    /// call. Null lets the client choose one for each call, which covers its own retries.
    /// </summary>
    public string? RequestId { get; init; }

    /// <summary>
    /// Time that a call may take, retries included; null is <see cref="SconceClientOptions.Timeout"/> (none for streams).
    /// </summary>
    public TimeSpan? Timeout { get; init; }
}
