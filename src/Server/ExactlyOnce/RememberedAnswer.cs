using System.Collections.Frozen;
using System.Text.Json;
using System.Text.Json.Serialization;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Sconce.Engine;
using Sconce.Engine.Execution;

namespace Sconce.Server.ExactlyOnce;

/// <summary>A remembered answer as a snapshot holds it: a response under the full name of its type, or an error.</summary>
internal static class RememberedAnswer
{
    /// <summary>Stands where a response's type would; no type of protobuf has this name.</summary>
    private const string Failure = "error";

    /// <summary>What a call of the contract answers, by full name. Nothing else is made of a file's bytes.</summary>
    private static readonly FrozenDictionary<string, MessageDescriptor> Responses =
        new[]
        {
            V1.HostReflection.Descriptor, V1.ModuleReflection.Descriptor, V1.ExecutionReflection.Descriptor, V1.TrainingReflection.Descriptor, V1.StateReflection.Descriptor,
            V1.TensorReflection.Descriptor, V1.HookReflection.Descriptor,
        }
        .SelectMany(file => file.Services).SelectMany(service => service.Methods).Select(method => method.OutputType).DistinctBy(type => type.FullName)
        .ToFrozenDictionary(type => type.FullName, StringComparer.Ordinal);

    /// <summary>Writes an answer.</summary>
    public static RememberedCall Write(string id, Fingerprint fingerprint, RequestOutcome outcome) => outcome.Response is { } response
        ? new(id, fingerprint.ToString(), response.Descriptor.FullName, response.ToByteArray())
        : new(id, fingerprint.ToString(), Failure, JsonSerializer.SerializeToUtf8Bytes(ErrorForm.Of(outcome.Error!), ErrorContext.Default.ErrorForm));

    /// <summary>Reads an answer.</summary>
    /// <returns>The call, how it ended, and the bytes of its answer.</returns>
    /// <exception cref="EngineException">DATA_LOSS: it is not one that a server writes. FAILED_PRECONDITION: a newer server wrote it.</exception>
    public static (string Id, Fingerprint Fingerprint, RequestOutcome Outcome, long Bytes) Read(RememberedCall call)
    {
        try
        {
            RequestIdStore.Check(call.Id, "id");
            return call.Id.Length > 0 && Fingerprint.TryParse(call.Fingerprint, out var fingerprint)
                ? (call.Id, fingerprint, ReadOutcome(call), call.Content.Length)
                : throw new InvalidDataException("an id is empty, or a fingerprint is none");
        }
        catch (Exception exception) when (exception is InvalidProtocolBufferException or JsonException or InvalidDataException or EngineException { Error: EngineError.InvalidArgument })
        {
            throw new EngineException(EngineError.DataLoss, "SNAPSHOT_UNREADABLE",
                $"what the snapshot says of the request {EngineException.Quote(call.Id)} is not what a server writes: {exception.Message}", exception);
        }
    }

    private static RequestOutcome ReadOutcome(RememberedCall call)
    {
        if (call.Answer == Failure)
        {
            var form = JsonSerializer.Deserialize(call.Content.Span, ErrorContext.Default.ErrorForm) ?? throw new JsonException("null");
            return new RequestOutcome(null, form.ToException());
        }

        // The bytes are those that were written, so this is no damage: the type is of a later contract.
        return Responses.TryGetValue(call.Answer, out var type)
            ? new RequestOutcome(type.Parser.ParseFrom(call.Content.Span), null)
            : throw EngineException.Precondition("SNAPSHOT_TOO_NEW",
                $"the snapshot holds an answer of type {EngineException.Quote(call.Answer)}, which is no response of this server's contract: it was written by a newer server; run that one");
    }

    /// <summary>An <see cref="EngineException"/>, in full: a status would be cut to what trailers hold.</summary>
    internal sealed record ErrorForm(
        EngineError Error, string Reason, string Message, IReadOnlyList<FieldViolation> Fields, ResourceRef? Resource, QuotaRef? Quota, double? RetryAfterSeconds)
    {
        public static ErrorForm Of(Exception exception) => exception is EngineException e
            ? new(e.Error, e.Reason, e.Message, e.Fields, e.Resource, e.Quota, e.RetryAfter?.TotalSeconds)
            : new(EngineError.Internal, "UNEXPECTED", $"{exception.GetType().Name}: {exception.Message}", [], null, null, null);

        public EngineException ToException() => new(Error, Reason, Message)
        {
            Fields = Fields,
            Resource = Resource,
            Quota = Quota,
            RetryAfter = RetryAfterSeconds is { } seconds and >= 0 and < int.MaxValue ? TimeSpan.FromSeconds(seconds) : null,
        };
    }
}

/// <summary>How errors are written: made at build time, since a restart waits for it.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, RespectNullableAnnotations = true, RespectRequiredConstructorParameters = true, UseStringEnumConverter = true)]
[JsonSerializable(typeof(RememberedAnswer.ErrorForm))]
internal sealed partial class ErrorContext : JsonSerializerContext;
