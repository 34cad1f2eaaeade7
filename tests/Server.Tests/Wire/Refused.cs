using Google.Rpc;
using Grpc.Core;

namespace Sconce.Server.Tests.Wire;

/// <summary>A call that was refused, its details decoded.</summary>
internal sealed record Refused(StatusCode Code, string Message, string Reason, IReadOnlyList<string> Fields, string Resource)
{
    public static async Task<Refused> OfAsync(Task call)
    {
        var thrown = await Assert.ThrowsAsync<RpcException>(() => call.WaitAsync(TimeSpan.FromSeconds(60)));
        return Of(thrown.GetRpcStatus() ?? new Google.Rpc.Status { Code = (int)thrown.StatusCode, Message = thrown.Status.Detail });
    }

    public static Refused Of(V1.CallError error) => Of(new Google.Rpc.Status { Code = error.Code, Message = error.Message, Details = { error.Details } });

    /// <summary>Expects a code and, where one is given, a field that is to blame or a resource that the error is about.</summary>
    public Refused Is(StatusCode code, string? field = null, string? resource = null)
    {
        Assert.True(Code == code, $"expected {code}, got {Code}: {Message}");
        Assert.True(field is null || Fields.Contains(field), $"{field} is not among [{string.Join(", ", Fields)}]: {Message}");
        Assert.True(resource is null || Resource == resource, $"about {Resource}, not {resource}: {Message}");

        // Nothing that a caller sent may break a line of a log or a terminal.
        Assert.All(Fields.Append(Message), text => Assert.DoesNotContain(text, char.IsControl));
        return this;
    }

    private static Refused Of(Google.Rpc.Status status) => new(
        (StatusCode)status.Code, status.Message, status.GetDetail<ErrorInfo>()?.Reason ?? "",
        [.. status.GetDetail<BadRequest>()?.FieldViolations.Select(violation => violation.Field) ?? []], status.GetDetail<ResourceInfo>()?.ResourceType ?? "");
}
