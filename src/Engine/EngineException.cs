namespace Sconce.Engine;

/// <summary>A field of the request that is wrong, by its path in the request.</summary>
/// <param name="Field">Path such as <c>inputs[0].shape[1]</c> or <c>spec.children[2].args.groups</c>.</param>
/// <param name="Description">What was given and what was expected.</param>
public readonly record struct FieldViolation(string Field, string Description);

/// <summary>The thing that an error is about.</summary>
/// <param name="Type">Its kind: <c>module</c>, <c>submodule</c>, <c>graph</c>, <c>tensor</c>, <c>session</c>, <c>optimizer</c>…</param>
/// <param name="Name">Its name.</param>
public sealed record ResourceRef(string Type, string Name);

/// <summary>A budget that an operation would exceed, in bytes (or items, for queues).</summary>
/// <param name="Subject">The setting that holds the limit, e.g. <c>memory_budget_bytes</c>.</param>
/// <param name="Asked">What the operation needs.</param>
/// <param name="Used">What is taken already.</param>
/// <param name="Allowed">The limit.</param>
public sealed record QuotaRef(string Subject, long Asked, long Used, long Allowed);

/// <summary>The engine's one exception: a kind, a reason for machines, and a message that says what was given and what mends it.</summary>
public sealed class EngineException : Exception
{
    /// <summary>Creates an exception.</summary>
    /// <param name="error">Its kind.</param>
    /// <param name="reason">Reason for machines, in UPPER_SNAKE_CASE, e.g. <c>SHAPE_MISMATCH</c>.</param>
    /// <param name="message">What was given, what was expected, what mends it.</param>
    /// <param name="innerException">The cause, for the log.</param>
    public EngineException(EngineError error, string reason, string message, Exception? innerException = null)
        : base(Printable(message), innerException)
    {
        Error = error;
        Reason = reason;
    }

    /// <summary>Its kind.</summary>
    public EngineError Error { get; }

    /// <summary>Reason for machines, in UPPER_SNAKE_CASE.</summary>
    public string Reason { get; }

    /// <summary>The fields that are wrong; empty where the error is not about the request's content.</summary>
    public IReadOnlyList<FieldViolation> Fields
    {
        get;
        init => field = value.Any(violation => !IsPrintable(violation.Field) || !IsPrintable(violation.Description))
            ? [.. value.Select(violation => new FieldViolation(Printable(violation.Field), Printable(violation.Description)))]
            : value;
    } = [];

    /// <summary>The thing that the error is about, where there is one.</summary>
    public ResourceRef? Resource { get; init; }

    /// <summary>The budget that would be exceeded, where there is one.</summary>
    public QuotaRef? Quota { get; init; }

    /// <summary>How long to wait before a retry can succeed, where one can.</summary>
    public TimeSpan? RetryAfter { get; init; }

    /// <summary>One wrong field.</summary>
    /// <param name="field">Its path in the request.</param>
    /// <param name="message">What was given and what was expected; the path need not be repeated in it.</param>
    /// <param name="reason">Reason for machines.</param>
    public static EngineException Invalid(string field, string message, string reason = "INVALID_ARGUMENT") =>
        Invalid([new FieldViolation(field, message)], reason);

    /// <summary>Several wrong fields, told all at once.</summary>
    /// <param name="fields">The fields; at least one.</param>
    /// <param name="reason">Reason for machines.</param>
    public static EngineException Invalid(IReadOnlyList<FieldViolation> fields, string reason = "INVALID_ARGUMENT") =>
        new(EngineError.InvalidArgument, reason, string.Join("; ", fields.Select(f => f.Field.Length == 0 ? f.Description : $"{f.Field}: {f.Description}")))
        {
            Fields = fields,
        };

    /// <summary>Something that is not there.</summary>
    /// <param name="type">Its kind, e.g. <c>module</c>.</param>
    /// <param name="name">The name that was given.</param>
    /// <param name="hint">What to do, e.g. which call lists what is there.</param>
    public static EngineException NotFound(string type, string name, string hint) =>
        new(EngineError.NotFound, $"{type.ToUpperInvariant()}_NOT_FOUND", $"there is no {type} {Quote(name)}; {hint}") { Resource = new ResourceRef(type, name) };

    /// <summary>A name that is taken.</summary>
    /// <param name="type">Its kind, e.g. <c>module</c>.</param>
    /// <param name="name">The name.</param>
    public static EngineException AlreadyExists(string type, string name) =>
        new(EngineError.AlreadyExists, $"{type.ToUpperInvariant()}_EXISTS", $"there is already a {type} {Quote(name)}; delete it or choose another name")
        {
            Resource = new ResourceRef(type, name),
        };

    /// <summary>A state that forbids the call.</summary>
    /// <param name="reason">Reason for machines.</param>
    /// <param name="message">What the state is, and which call mends it.</param>
    /// <param name="resource">What the error is about.</param>
    public static EngineException Precondition(string reason, string message, ResourceRef? resource = null) =>
        new(EngineError.FailedPrecondition, reason, message) { Resource = resource };

    /// <summary>A budget that would be exceeded.</summary>
    /// <param name="what">What was to be made, e.g. <c>the module "m"</c>.</param>
    /// <param name="quota">The budget.</param>
    /// <param name="retryAfter">How long to wait before a retry can succeed, where waiting helps.</param>
    public static EngineException Exhausted(string what, QuotaRef quota, TimeSpan? retryAfter = null) =>
        new(EngineError.ResourceExhausted, "BUDGET_EXCEEDED",
            $"{what} needs {quota.Asked:N0}, {quota.Used:N0} of {quota.Allowed:N0} are in use; free some, or raise {quota.Subject}")
        {
            Quota = quota,
            RetryAfter = retryAfter,
        };

    /// <summary>Quotes text that a caller sent, escaping control characters and cutting it to a readable length.</summary>
    /// <param name="text">The text.</param>
    public static string Quote(string text)
    {
        const int MaxShown = 128;
        var shown = text.Length > MaxShown ? string.Concat(text.AsSpan(0, MaxShown), "…") : text;
        return string.Concat("\"", Printable(shown.Replace("\"", "\\\"", StringComparison.Ordinal)), "\"");
    }

    // Whatever a caller put in a name, it begins no line of a log and moves no cursor.
    private static string Printable(string text) =>
        IsPrintable(text) ? text : string.Concat(text.Select(c => IsPrintable(c) ? c.ToString() : $"\\u{(int)c:x4}"));

    private static bool IsPrintable(string text)
    {
        foreach (var c in text)
        {
            if (!IsPrintable(c))
            {
                return false;
            }
        }

        return true;
    }

    private static bool IsPrintable(char c) => !char.IsControl(c) && !char.IsSurrogate(c) && c is not ('\u2028' or '\u2029');
}
