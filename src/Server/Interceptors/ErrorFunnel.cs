using System.Security.Cryptography;
using Google.Protobuf;
using Grpc.Core;
using Microsoft.Extensions.Logging;
using Sconce.Engine;

namespace Sconce.Server.Interceptors;

/// <summary>The one place where exceptions become statuses, for whole calls and for single messages of streams, and where they are logged.</summary>
internal sealed class ErrorFunnel(SconceServerOptions options, ILogger<ErrorFunnel> logger)
{
    private const string TooLarge = "MESSAGE_TOO_LARGE";

    /// <summary>What grpc-dotnet says of a message over the limit; it has no other mark.</summary>
    public const string TooLargeReceived = "Received message exceeds the maximum configured message size.";

    /// <summary>The same for an answer in a stream of answers; <see cref="CheckAnswer"/> sees the others first.</summary>
    private const string TooLargeSent = "Sending message exceeds the maximum configured message size.";

    /// <summary>How grpc-dotnet's readers and writers end what they say to a handler whose call is over.</summary>
    private const string RequestComplete = "the request is complete.";

    /// <summary>The status of a message received that is over the limit.</summary>
    public Google.Rpc.Status TooLargeMessage() => StatusMapping.Plain(
        StatusCode.ResourceExhausted, TooLarge, $"the message received is larger than {options.MaxMessageBytes} bytes; send less in one message, or raise max_message_bytes on the server");

    /// <summary>Refuses an answer over the limit: once grpc-dotnet has begun to write it, no more can be said of it than its own few words.</summary>
    public void CheckAnswer<T>(T answer)
    {
        if (!Fits(answer))
        {
            throw TooLargeAnswer();
        }
    }

    /// <summary>Whether an answer is within the limit.</summary>
    public bool Fits<T>(T answer) => answer is not IMessage message || (uint)message.CalculateSize() <= options.MaxMessageBytes; // The size wraps beyond 2 GiB.

    /// <summary>The exception to end a call with.</summary>
    public RpcException ToRpcException(Exception exception, IMessage? request, ServerCallContext context) =>
        exception is RpcException { Status.Detail: not (TooLargeReceived or TooLargeSent) } already ? already : Describe(exception, request, context).ToRpcException();

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
                reason = TooLarge;
                return TooLargeMessage();
            case RpcException { Status.Detail: TooLargeSent }:
                reason = TooLarge;
                return StatusMapping.From(TooLargeAnswer());
            case RpcException { StatusCode: var code, Status.Detail: var detail }:
                return new Google.Rpc.Status { Code = (int)code, Message = detail };
            case IOException { Message: var text } when text.StartsWith("Message too large", StringComparison.Ordinal):
                reason = TooLarge;
                return TooLargeMessage();
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

    private EngineException TooLargeAnswer() => new(
        EngineError.ResourceExhausted, TooLarge, $"the answer is larger than {options.MaxMessageBytes} bytes; ask for less at once, or raise max_message_bytes on the server");

    /// <summary>
    /// Reading and writing fail in several ways once the caller has gone, some of them before the token tells. The engine does no I/O, so an IOException is
    /// always the connection's.
    /// </summary>
    private static bool CallerLeft(Exception exception, ServerCallContext context) =>
        exception is IOException || (exception is InvalidOperationException && (context.CancellationToken.IsCancellationRequested || exception.Message.EndsWith(RequestComplete, StringComparison.Ordinal)));

    private static LogLevel Level(StatusCode code) => code switch
    {
        StatusCode.Cancelled => LogLevel.Debug,
        StatusCode.ResourceExhausted or StatusCode.Unavailable or StatusCode.DataLoss => LogLevel.Warning,
        _ => LogLevel.Information,
    };
}
