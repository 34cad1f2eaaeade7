using System.Text;
using Google.Protobuf.WellKnownTypes;
using Google.Rpc;
using Grpc.Core;
using Sconce.Engine;

namespace Sconce.Server.Interceptors;

/// <summary>Makes a google.rpc.Status of an engine error: a code, a message for people, details for machines.</summary>
internal static class StatusMapping
{
    private const string Domain = "sconce";

    /// <summary>
    /// Statuses travel in HTTP/2 trailers: the message twice (once inside the base64 details). gRPC's C core, so Python and most other
    /// languages, drops a call whose trailers exceed 8 KiB, so both parts are cut to stay under that.
    /// </summary>
    private const int MaxMessageBytes = 1536;

    private const int MaxDetailsBytes = 2816;

    public static StatusCode Code(EngineError error) => error switch
    {
        EngineError.InvalidArgument => StatusCode.InvalidArgument,
        EngineError.FailedPrecondition => StatusCode.FailedPrecondition,
        EngineError.NotFound => StatusCode.NotFound,
        EngineError.AlreadyExists => StatusCode.AlreadyExists,
        EngineError.ResourceExhausted => StatusCode.ResourceExhausted,
        EngineError.Aborted => StatusCode.Aborted,
        EngineError.Unimplemented => StatusCode.Unimplemented,
        EngineError.DataLoss => StatusCode.DataLoss,
        EngineError.Unavailable => StatusCode.Unavailable,
        EngineError.DeadlineExceeded => StatusCode.DeadlineExceeded,
        _ => StatusCode.Internal,
    };

    public static Google.Rpc.Status From(EngineException error)
    {
        var message = Message(error);
        var status = new Google.Rpc.Status { Code = (int)Code(error.Error), Message = message };
        status.Details.Add(Any.Pack(new ErrorInfo { Domain = Domain, Reason = error.Reason }));
        if (error.RetryAfter is { } retryAfter)
        {
            status.Details.Add(Any.Pack(new RetryInfo { RetryDelay = retryAfter.ToDuration() }));
        }

        if (error.Resource is { } resource)
        {
            status.Details.Add(Any.Pack(new ResourceInfo { ResourceType = resource.Type, ResourceName = Cut(resource.Name, 512) }));
        }

        if (error.Quota is { } quota)
        {
            status.Details.Add(Any.Pack(new QuotaFailure
            {
                Violations = { new QuotaFailure.Types.Violation { Subject = quota.Subject, Description = $"asked {quota.Asked}, used {quota.Used}, allowed {quota.Allowed}" } },
            }));
        }

        if (error.Error == EngineError.FailedPrecondition)
        {
            status.Details.Add(Any.Pack(new PreconditionFailure
            {
                Violations =
                {
                    new PreconditionFailure.Types.Violation
                    {
                        Type = error.Reason, Subject = Cut(error.Resource?.Name ?? "", 256), Description = Cut(message, 512),
                    },
                },
            }));
        }

        if (error.Fields.Count > 0)
        {
            status.Details.Add(Any.Pack(Fields(error.Fields)));
        }

        return status;
    }

    /// <summary>A status without an engine error behind it.</summary>
    public static Google.Rpc.Status Plain(StatusCode code, string reason, string message) => new()
    {
        Code = (int)code,
        Message = message,
        Details = { Any.Pack(new ErrorInfo { Domain = Domain, Reason = reason }) },
    };

    /// <summary>The message; of one that is too long for what it lists, as many items as fit and the number of the rest.</summary>
    private static string Message(EngineException error)
    {
        if (error.Fields.Count < 2 || Encoding.UTF8.GetByteCount(error.Message) <= MaxMessageBytes)
        {
            return Cut(error.Message, MaxMessageBytes);
        }

        var text = new StringBuilder();
        for (var i = 0; i < error.Fields.Count; i++)
        {
            var (field, description) = error.Fields[i];
            var item = Cut(field.Length == 0 ? description : $"{field}: {description}", 512);
            if (text.Length + item.Length > MaxMessageBytes / 3 * 2)
            {
                return Cut(text.Append(System.Globalization.CultureInfo.InvariantCulture, $"; and {error.Fields.Count - i} more").ToString(), MaxMessageBytes);
            }

            text.Append(i == 0 ? "" : "; ").Append(item);
        }

        return Cut(text.ToString(), MaxMessageBytes);
    }

    private static BadRequest Fields(IReadOnlyList<FieldViolation> fields)
    {
        var request = new BadRequest();
        var room = MaxDetailsBytes;
        for (var i = 0; i < fields.Count; i++)
        {
            var violation = new BadRequest.Types.FieldViolation { Field = Cut(fields[i].Field, 512), Description = Cut(fields[i].Description, 1024) };
            room -= violation.CalculateSize() + 4;
            if (room < 0)
            {
                request.FieldViolations.Add(new BadRequest.Types.FieldViolation { Description = $"and {fields.Count - i} more" });
                break;
            }

            request.FieldViolations.Add(violation);
        }

        return request;
    }

    /// <summary>Cuts text to a number of UTF-8 bytes, at a character's edge.</summary>
    private static string Cut(string text, int bytes)
    {
        if (text.Length * 3 <= bytes || Encoding.UTF8.GetByteCount(text) <= bytes)
        {
            return text;
        }

        var kept = 0;
        var size = 3; // the ellipsis
        foreach (var rune in text.EnumerateRunes())
        {
            size += rune.Utf8SequenceLength;
            if (size > bytes)
            {
                break;
            }

            kept += rune.Utf16SequenceLength;
        }

        return string.Concat(text.AsSpan(0, kept), "…");
    }
}
