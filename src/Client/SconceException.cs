using Grpc.Core;
using Sconce.Client.Internal;

namespace Sconce.Client;

/// <summary>A field that the server refused.</summary>
/// <param name="Path">Where in the request, e.g. <c>inputs[0].shape[1]</c>.</param>
/// <param name="Description">What was given and what was expected.</param>
public sealed record FieldViolation(string Path, string Description);

/// <summary>A condition of the server's state that forbids the call, or a quota that it would exceed.</summary>
/// <param name="Type">The kind, e.g. "GENERATION"; empty for a quota.</param>
/// <param name="Subject">What it concerns, e.g. a module's name.</param>
/// <param name="Description">What is, and what should be.</param>
public sealed record ConditionViolation(string Type, string Subject, string Description);

/// <summary>The thing that a call named and the server does not have, or has already.</summary>
/// <param name="Type">Its kind, e.g. "module".</param>
/// <param name="Name">Its name.</param>
/// <param name="Description">What the server says of it.</param>
public sealed record ErrorResource(string Type, string Name, string Description);

/// <summary>
/// A call that the server refused or that never reached it. Derived types mark the cases that callers branch on;
/// <see cref="StatusCode"/> has them all.
/// </summary>
/// <remarks>A call that its own caller cancelled throws <see cref="OperationCanceledException"/> instead.</remarks>
public class SconceException : Exception
{
    internal SconceException(ErrorDetails details, Exception? inner)
        : base(details.Message, inner)
    {
        StatusCode = details.Code;
        Reason = details.Reason;
        Metadata = details.Metadata;
        Fields = details.Fields;
        Conditions = details.Conditions;
        Resource = details.Resource;
        RetryAfter = details.RetryAfter;
    }

    /// <summary>The gRPC status.</summary>
    public StatusCode StatusCode { get; }

    /// <summary>
    /// The server's word for the cause, for programs to branch on (google.rpc.ErrorInfo.reason); null where it gave none.
    /// </summary>
    public string? Reason { get; }

    /// <summary>What belongs to <see cref="Reason"/>, by name.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>The fields refused.</summary>
    public IReadOnlyList<FieldViolation> Fields { get; }

    /// <summary>The conditions that were not met and the quotas exceeded.</summary>
    public IReadOnlyList<ConditionViolation> Conditions { get; }

    /// <summary>The thing concerned; null where the server named none.</summary>
    public ErrorResource? Resource { get; }

    /// <summary>When the server expects a repeat to succeed; null where it said nothing.</summary>
    public TimeSpan? RetryAfter { get; }
}
