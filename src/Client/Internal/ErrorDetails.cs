using Google.Rpc;
using Grpc.Core;

namespace Sconce.Client.Internal;

/// <summary>What a status and its google.rpc details say, as <see cref="SconceException"/> shows it.</summary>
internal sealed record ErrorDetails(StatusCode Code, string Message)
{
    // The domain in the ErrorInfo of every status that the server makes.
    private const string ServersDomain = "sconce";

    private const string ServerRestarted = "SERVER_RESTARTED";

    private static readonly Dictionary<string, string> NoMetadata = [];

    public string? Reason { get; init; }

    /// <summary>Whether the server itself says it. gRPC and proxies make statuses too, e.g. UNAVAILABLE of HTTP's 504.</summary>
    public bool IsTheServers { get; init; }

    public IReadOnlyDictionary<string, string> Metadata { get; init; } = NoMetadata;

    public IReadOnlyList<FieldViolation> Fields { get; init; } = [];

    public IReadOnlyList<ConditionViolation> Conditions { get; init; } = [];

    public ErrorResource? Resource { get; init; }

    public TimeSpan? RetryAfter { get; init; }

    public static ErrorDetails Of(RpcException e)
    {
        Google.Rpc.Status? status;
        try
        {
            status = e.GetRpcStatus();
        }
        catch (Google.Protobuf.InvalidProtocolBufferException)
        {
            // Something between here and the server garbled the details: the plain status still stands.
            status = null;
        }

        var details = new ErrorDetails(e.StatusCode, e.Status.Detail);
        return status is null ? details : details.With(status);
    }

    public static ErrorDetails Of(V1.CallError error) => new ErrorDetails((StatusCode)error.Code, error.Message).With(ToStatus(error));

    /// <summary>The error of one message of a stream, as if it were a whole call's.</summary>
    public static RpcException ToRpcException(V1.CallError error) => ToStatus(error).ToRpcException();

    private static Google.Rpc.Status ToStatus(V1.CallError error) =>
        new() { Code = error.Code, Message = error.Message, Details = { error.Details } };

    private ErrorDetails With(Google.Rpc.Status status)
    {
        var info = status.GetDetail<ErrorInfo>();
        var resource = status.GetDetail<ResourceInfo>();
        var conditions = new List<ConditionViolation>();
        if (status.GetDetail<PreconditionFailure>() is { } failure)
            conditions.AddRange(failure.Violations.Select(v => new ConditionViolation(v.Type, v.Subject, v.Description)));
        if (status.GetDetail<QuotaFailure>() is { } quota)
            conditions.AddRange(quota.Violations.Select(v => new ConditionViolation("", v.Subject, v.Description)));
        return this with
        {
            Reason = string.IsNullOrEmpty(info?.Reason) ? null : info.Reason,
            IsTheServers = info?.Domain == ServersDomain,
            Metadata = info is null ? NoMetadata : new Dictionary<string, string>(info.Metadata),
            Fields = [.. (status.GetDetail<BadRequest>()?.FieldViolations ?? []).Select(v => new FieldViolation(v.Field, v.Description))],
            Conditions = conditions,
            Resource = resource is null ? null : new ErrorResource(resource.ResourceType, resource.ResourceName, resource.Description),
            RetryAfter = status.GetDetail<RetryInfo>()?.RetryDelay?.ToTimeSpan(),
        };
    }

    public SconceException ToException(Exception? inner) => Code switch
    {
        StatusCode.InvalidArgument => new SconceInvalidArgumentException(this, inner),
        StatusCode.NotFound => new SconceNotFoundException(this, inner),
        StatusCode.AlreadyExists => new SconceAlreadyExistsException(this, inner),
        StatusCode.FailedPrecondition => new SconceFailedPreconditionException(this, inner),
        StatusCode.Aborted when Reason == ServerRestarted => new SconceServerRestartedException(this, inner),
        StatusCode.Aborted => new SconceStaleGenerationException(this, inner),
        StatusCode.ResourceExhausted => new SconceResourceExhaustedException(this, inner),
        StatusCode.Unavailable => new SconceUnavailableException(this, inner),
        StatusCode.DeadlineExceeded => new SconceDeadlineExceededException(this, inner),
        _ => new SconceException(this, inner),
    };
}
