using Google.Rpc;
using Grpc.Core;
using StatusCode = Grpc.Core.StatusCode;

namespace Sconce.Functional.Harness;

/// <summary>A call that the server refused, with the details of its status decoded.</summary>
internal sealed class Refusal
{
    private Refusal(StatusCode code, string message, Google.Rpc.Status status)
    {
        Code = code;
        Message = message;
        Fields = status.GetDetail<BadRequest>()?.FieldViolations.ToDictionary(violation => violation.Field, violation => violation.Description) ?? [];
        Info = status.GetDetail<ErrorInfo>();
        Resource = status.GetDetail<ResourceInfo>();
        RetryAfter = status.GetDetail<RetryInfo>()?.RetryDelay.ToTimeSpan();
        Precondition = status.GetDetail<PreconditionFailure>();
        Quota = status.GetDetail<QuotaFailure>();
    }

    public StatusCode Code { get; }

    public string Message { get; }

    /// <summary>BadRequest's violations by field path.</summary>
    public IReadOnlyDictionary<string, string> Fields { get; }

    public ErrorInfo? Info { get; }

    public ResourceInfo? Resource { get; }

    public TimeSpan? RetryAfter { get; }

    public PreconditionFailure? Precondition { get; }

    public QuotaFailure? Quota { get; }

    /// <summary>Expects a call to be refused with a code and with words in its message.</summary>
    public static async Task<Refusal> OfAsync(Func<Task> call, StatusCode code, params string[] words)
    {
        var thrown = await Assert.ThrowsAsync<RpcException>(call);
        return Check(new Refusal(thrown.StatusCode, thrown.Status.Detail, thrown.GetRpcStatus() ?? new Google.Rpc.Status()), code, words);
    }

    /// <summary>Expects an error inside a stream.</summary>
    public static Refusal Of(V1.CallError error, StatusCode code, params string[] words) =>
        Check(new Refusal((StatusCode)error.Code, error.Message, new Google.Rpc.Status { Code = error.Code, Message = error.Message, Details = { error.Details } }), code, words);

    /// <summary>Expects a wrong field.</summary>
    public Refusal At(string field)
    {
        Assert.True(Fields.ContainsKey(field), $"No violation at '{field}' but at [{string.Join(", ", Fields.Keys)}]: {Message}");
        return this;
    }

    /// <summary>Expects a reason for machines.</summary>
    public Refusal For(string reason)
    {
        Assert.NotNull(Info);
        Assert.Equal("sconce", Info.Domain);
        Assert.Equal(reason, Info.Reason);
        return this;
    }

    private static Refusal Check(Refusal refusal, StatusCode code, string[] words)
    {
        Assert.True(code == refusal.Code, $"Expected {code}, got {refusal.Code}: {refusal.Message}");
        foreach (var word in words)
        {
            Assert.True(refusal.Message.Contains(word, StringComparison.Ordinal), $"'{word}' is not in: {refusal.Message}");
        }

        return refusal;
    }
}
