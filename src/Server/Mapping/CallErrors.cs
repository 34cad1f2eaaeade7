namespace Sconce.Server.Mapping;

/// <summary>A status as an answer inside a stream.</summary>
internal static class CallErrors
{
    public static V1.CallError From(Google.Rpc.Status status) => new() { Code = status.Code, Message = status.Message, Details = { status.Details } };
}
