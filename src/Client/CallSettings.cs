using Sconce.Client.Internal;

namespace Sconce.Client;

/// <summary>
/// What calls through <see cref="SconceClient.With"/>, <see cref="RemoteModule.With"/> and <see cref="RemoteOptimizer.With"/> carry besides their
/// arguments. What such a call returns (a module, an optimizer, a hook, a graph, a tensor, a session) keeps the time limit and nothing else.
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
    /// Only act if the server is the one of this <see cref="Sconce.V1.GetHostResponse.Instance"/>; one that has started since, and so may have lost
    /// the last of what was acknowledged, does nothing and the call throws <see cref="SconceServerRestartedException"/>. Null acts on any. A
    /// <see cref="TrainStream"/> that does not say is bound to the server that answers its first step.
    /// </summary>
    public string? IfInstance { get; init; }

    /// <summary>
    /// Time that a call may take, retries included; null is <see cref="SconceClientOptions.Timeout"/> (none for streams). In a
    /// <see cref="ForwardStream"/> or <see cref="TrainStream"/> each call's, from when it is made to its answer: one not sent by then is never sent.
    /// </summary>
    /// <remarks>At most 49 days; <see cref="System.Threading.Timeout.InfiniteTimeSpan"/> is no limit, whatever the options say.</remarks>
    /// <exception cref="ArgumentOutOfRangeException">It is zero, negative or longer.</exception>
    public TimeSpan? Timeout
    {
        get;
        init
        {
            if (!TimeLimit.IsValid(value))
            {
                throw new ArgumentOutOfRangeException(
                    nameof(value), $"CallSettings.Timeout is {value}; it must be > 0 and at most {TimeLimit.Longest}, or Timeout.InfiniteTimeSpan for none.");
            }

            field = value;
        }
    }

    /// <summary>What is left of them for the calls on what a call returned: the rest belonged to that call.</summary>
    internal CallSettings? OfHandle => Timeout is null ? null : new CallSettings { Timeout = Timeout };
}
