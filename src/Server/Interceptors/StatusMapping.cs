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
    /// languages, drops a call whose trailers exceed 8 KiB, so both parts are cut to stay under that. This one is as grpc-message counts: what is not
    /// printable ASCII takes three bytes for each of its own.
    /// </summary>
    private const int MaxMessageBytes = 1536;

    /// <summary>The other part, before base64 makes it a third larger: 7.5 KiB together, and the rest is for the other headers.</summary>
    private const int MaxStatusBytes = 4500;

    /// <summary>Kept free for the last of the fields, which counts those that are left out.</summary>
    private const int MoreFields = 64;

    private static readonly Rune Ellipsis = new('…');

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
            status.Details.Add(Any.Pack(Fields(error.Fields, MaxStatusBytes - status.CalculateSize() - MoreFields)));
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
        if (error.Fields.Count < 2 || error.Message.EnumerateRunes().Sum(Encoded) <= MaxMessageBytes)
        {
            return Cut(error.Message, MaxMessageBytes, Encoded);
        }

        var text = new StringBuilder();
        var size = 0;
        for (var i = 0; i < error.Fields.Count; i++)
        {
            var (field, description) = error.Fields[i];
            var item = (i == 0 ? "" : "; ") + Cut(field.Length == 0 ? description : $"{field}: {description}", MaxMessageBytes / 3, Encoded);
            size += item.EnumerateRunes().Sum(Encoded);
            if (size > MaxMessageBytes / 3 * 2)
            {
                text.Append(System.Globalization.CultureInfo.InvariantCulture, $"; and {error.Fields.Count - i} more");
                break;
            }

            text.Append(item);
        }

        return text.ToString();
    }

    /// <summary>As many fields as fit, and the number of the rest.</summary>
    private static BadRequest Fields(IReadOnlyList<FieldViolation> fields, int room)
    {
        var request = new BadRequest();
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
    private static string Cut(string text, int bytes) => Cut(text, bytes, static rune => rune.Utf8SequenceLength);

    /// <summary>Cuts text to a number of bytes as <paramref name="size"/> counts them, at a character's edge.</summary>
    private static string Cut(string text, int bytes, Func<Rune, int> size)
    {
        var (kept, place, taken) = (0, 0, size(Ellipsis));
        foreach (var rune in text.EnumerateRunes())
        {
            taken += size(rune);
            place += rune.Utf16SequenceLength;
            if (taken <= bytes)
            {
                kept = place;
            }
            else if (taken - size(Ellipsis) > bytes)
            {
                return string.Concat(text.AsSpan(0, kept), Ellipsis.ToString());
            }
        }

        return text;
    }

    /// <summary>Bytes of a character in a grpc-message, where all but printable ASCII is percent-encoded, and the percent sign too.</summary>
    private static int Encoded(Rune rune) => rune.Value is >= ' ' and <= '~' and not '%' ? 1 : 3 * rune.Utf8SequenceLength;
}
