using System.Globalization;
using System.Security.Cryptography;
using Google.Protobuf;
using Grpc.Core;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace Sconce.Server.Interceptors;

/// <summary>
/// grpc-dotnet reads and writes the one message of a unary call outside of all interceptors. What fails there is rewritten here, just before the
/// response starts: a message over the limit names the setting, malformed protobuf is the caller's fault and not UNKNOWN, the rest is opaque.
/// </summary>
internal sealed class EarlyFailures
{
    private const string StatusHeader = "grpc-status";
    private const string MessageHeader = "grpc-message";
    private const string DetailsHeader = "grpc-status-details-bin";

    /// <summary>How grpc-dotnet, told to show detailed errors, words an exception. The funnel leaves none for it but those of its own reads and writes.</summary>
    private const string HandlerFailed = "Exception was thrown by handler.";

    /// <summary>What it throws for a frame that announces more than an array can hold.</summary>
    private const string FrameTooLarge = "IOException: Message too large";

    /// <summary>How a connection that breaks within a request shows itself.</summary>
    private static readonly string[] CallerLeft =
    [
        nameof(IOException), nameof(BadHttpRequestException), nameof(ConnectionResetException), nameof(ConnectionAbortedException),
        nameof(OperationCanceledException), nameof(TaskCanceledException),
    ];

    /// <summary>Bad protobuf, and bad frames or gzip around it.</summary>
    private static readonly string[] Malformed = [nameof(InvalidProtocolBufferException), nameof(InvalidDataException)];

    private readonly ErrorFunnel _errors;
    private readonly ServerInstance _instance;
    private readonly ILogger _logger;
    private readonly Func<object, Task> _onStarting;

    public EarlyFailures(ErrorFunnel errors, ServerInstance instance, ILogger<EarlyFailures> logger)
    {
        _errors = errors;
        _instance = instance;
        _logger = logger;
        _onStarting = OnStarting;
    }

    /// <summary>The middleware. Not async, and its callback is made once: it runs on every call.</summary>
    public RequestDelegate Wrap(RequestDelegate next) => context =>
    {
        Handshake.Announce(context.Response.Headers);
        _instance.Announce(context.Response.Headers);
        context.Response.OnStarting(_onStarting, context);
        return next(context);
    };

    private Task OnStarting(object state)
    {
        // Only a response without any message has its status among the headers.
        var context = (HttpContext)state;
        if (context.Response.Headers.TryGetValue(StatusHeader, out var code) && code != "0"
            && context.Response.Headers.TryGetValue(MessageHeader, out var message) && message[0] is { } text)
        {
            Rewrite(context, Uri.UnescapeDataString(text));
        }

        return Task.CompletedTask;
    }

    private void Rewrite(HttpContext context, string message)
    {
        Google.Rpc.Status status;
        if (message == ErrorFunnel.TooLargeReceived || message.Contains(FrameTooLarge, StringComparison.Ordinal))
        {
            status = _errors.TooLargeMessage();
        }
        else if (!message.StartsWith(HandlerFailed, StringComparison.Ordinal))
        {
            return;
        }
        else if (CallerLeft.Any(name => message.AsSpan(HandlerFailed.Length).TrimStart().StartsWith(name, StringComparison.Ordinal)))
        {
            status = StatusMapping.Plain(StatusCode.Cancelled, "CANCELLED", "the request could not be read to its end");
        }
        else if (Malformed.Any(name => message.Contains(name, StringComparison.Ordinal)))
        {
            CallLog.Malformed(_logger, context.Request.Path);
            status = StatusMapping.Plain(
                StatusCode.InvalidArgument, "MALFORMED_MESSAGE", "the request is not a valid protobuf message of this method, or nests more than 100 messages deep");
        }
        else
        {
            var id = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(8));
            CallLog.FailedOutside(_logger, context.Request.Path, id, message);
            status = StatusMapping.Plain(StatusCode.Internal, "INTERNAL", $"internal error {id}; the server's log tells more under this id");
        }

        var headers = context.Response.Headers;
        headers[StatusHeader] = status.Code.ToString(CultureInfo.InvariantCulture);
        headers[MessageHeader] = Uri.EscapeDataString(status.Message);
        headers[DetailsHeader] = Convert.ToBase64String(status.ToByteArray());
    }
}
