using System.Security.Cryptography;
using Google.Protobuf;
using Grpc.Core;
using Microsoft.Extensions.Logging;
using Sconce.Engine;

namespace Sconce.Server.Interceptors;

/// <summary>The one place where exceptions become statuses, for whole calls and for single messages of streams, and where they are logged.</summary>
internal sealed class ErrorFunnel(SconceServerOptions options, ILogger<ErrorFunnel> logger)
{
    /// <summary>What grpc-dotnet says of a message over the limit; it has no other mark.</summary>
    public const string TooLargeReceived = "Received message exceeds the maximum configured message size.";

    /// <summary>The same for an answer.</summary>
    public const string TooLargeSent = "Sending message exceeds the maximum configured message size.";

    public string TooLargeMessage(bool received) =>
        $"{(received ? "the message received" : "the answer")} is larger than {options.MaxMessageBytes} bytes; send less in one message, or raise max_message_bytes on the server";

    /// <summary>The exception to end a call with.</summary>
    public RpcException ToRpcException(Exception exception, IMessage? request, ServerCallContext context) =>
        exception is RpcException { Status.Detail: not TooLargeReceived } already ? already : Describe(exception, request, context).ToRpcException();

    /// <summary>The status of a failure, logged.</summary>
    public Google.Rpc.Status Describe(Exception exception, IMessage? request, ServerCallContext context)
    {
        var status = Map(exception, context, out var reason);
        var method = context.Method;
        var facts = RequestFacts.Of(request, context);
        if (status is null)
        {
            // Unforeseen: the caller learns an id and nothing else; the log has the rest under it.
            var id = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(8));
            CallLog.Failed(logger, exception, method, facts.Module, facts.RequestId, id);
            return StatusMapping.Plain(StatusCode.Internal, "INTERNAL", $"internal error {id}; the server's log tells more under this id");
        }

        var code = (StatusCode)status.Code;
        var level = Level(code);
        if (logger.IsEnabled(level))
        {
            CallLog.Refused(logger, level, method, facts.Module, facts.RequestId, code.ToString(), reason, status.Message);
        }

        return status;
    }

    private Google.Rpc.Status? Map(Exception exception, ServerCallContext context, out string reason)
    {
        reason = "";
        switch (exception)
        {
            case EngineException { Error: not EngineError.Internal } error:
                reason = error.Reason;
                return StatusMapping.From(error);
            case RpcException { Status.Detail: TooLargeReceived }:
                reason = "MESSAGE_TOO_LARGE";
                return StatusMapping.Plain(StatusCode.ResourceExhausted, reason, TooLargeMessage(received: true));
            case RpcException { StatusCode: var code, Status.Detail: var detail }:
                return new Google.Rpc.Status { Code = (int)code, Message = detail };
            case IOException { Message: var text } when text.StartsWith("Message too large", StringComparison.Ordinal):
                reason = "MESSAGE_TOO_LARGE";
                return StatusMapping.Plain(StatusCode.ResourceExhausted, reason, TooLargeMessage(received: true));
            case InvalidProtocolBufferException or InvalidDataException:
                reason = "MALFORMED_MESSAGE";
                return StatusMapping.Plain(StatusCode.InvalidArgument, reason, $"a message of the stream is not valid protobuf: {exception.Message}");
        }

        if (exception is OperationCanceledException || CallerLeft(exception, context))
        {
            var late = context.Deadline <= DateTime.UtcNow;
            reason = late ? "DEADLINE_EXCEEDED" : "CANCELLED";
            return StatusMapping.Plain(
                late ? StatusCode.DeadlineExceeded : StatusCode.Cancelled, reason, late ? "the deadline passed; work that had not begun was not run" : "the call was cancelled; work that had not begun was not run");
        }

        return null;
    }

    /// <summary>
    /// Reading and writing fail in several ways once the caller has gone, some of them before the token tells. The engine does no I/O, so an IOException is
    /// always the connection's.
    /// </summary>
    private static bool CallerLeft(Exception exception, ServerCallContext context) =>
        exception is IOException || (exception is InvalidOperationException && context.CancellationToken.IsCancellationRequested);

    private static LogLevel Level(StatusCode code) => code switch
    {
        StatusCode.Cancelled => LogLevel.Debug,
        StatusCode.ResourceExhausted or StatusCode.Unavailable or StatusCode.DataLoss => LogLevel.Warning,
        _ => LogLevel.Information,
    };
}
