using System.Text.Json;
using System.Text.Json.Serialization;
using Sconce.Engine.Execution;

namespace Sconce.Engine.Snapshots;

/// <summary>
/// The calls of a snapshot as JSON and back: <c>{"format":1,"requests":[{"id":…,"fingerprint":…,"answer":…,"content":…},…]}</c>, in the order of their turns, the content in base64.
/// </summary>
internal static class RequestsJson
{
    /// <summary>The format that is written, and the newest that is read.</summary>
    public const int Format = 1;

    // There may be tens of thousands: they are not to be in memory as text too.
    private const int FlushBytes = 1 << 16;

    /// <summary>Writes calls, one after the other.</summary>
    public static void Write(Stream stream, IEnumerable<RememberedCall> calls)
    {
        using var writer = new Utf8JsonWriter(stream);
        writer.WriteStartObject();
        writer.WriteNumber("format", Format);
        writer.WriteStartArray("requests");
        foreach (var call in calls)
        {
            writer.WriteStartObject();
            writer.WriteString("id", call.Id);
            writer.WriteString("fingerprint", call.Fingerprint);
            writer.WriteString("answer", call.Answer);
            writer.WriteBase64String("content", call.Content.Span);
            writer.WriteEndObject();
            if (writer.BytesPending > FlushBytes)
            {
                writer.Flush();
            }
        }

        writer.WriteEndArray();
        writer.WriteEndObject();
    }

    /// <summary>Reads calls.</summary>
    /// <exception cref="EngineException">DATA_LOSS: it is no such text. FAILED_PRECONDITION: a newer server wrote it.</exception>
    public static IReadOnlyList<RememberedCall> Read(Stream stream)
    {
        try
        {
            // The format first: what else a newer one holds is not known here.
            var start = stream.Position;
            if (Parsed(JsonSerializer.Deserialize(stream, RequestsContext.Default.Version)).Format is var format and not Format)
            {
                throw EngineException.Precondition("SNAPSHOT_TOO_NEW",
                    $"the requests in the snapshot are of format {format}, and this build reads format {Format}: they were written by a newer server; run that one");
            }

            stream.Position = start;
            return [.. Parsed(JsonSerializer.Deserialize(stream, RequestsContext.Default.Content)).Requests.Select(entry => Parsed(entry).ToCall())];
        }
        catch (JsonException exception)
        {
            throw new EngineException(EngineError.DataLoss, "SNAPSHOT_UNREADABLE", $"what the snapshot says of requests is no such text: {exception.Message}", exception);
        }
    }

    // JSON's null is no failure of the parser.
    private static T Parsed<T>(T? read)
        where T : class => read ?? throw new JsonException("null");

    /// <summary>The part that every format has.</summary>
    internal sealed record Version(int Format);

    /// <summary>Format 1.</summary>
    internal sealed record Content(int Format, IReadOnlyList<Entry?> Requests);

    /// <summary>One call.</summary>
    internal sealed record Entry(string Id, string Fingerprint, string Answer, byte[] Content)
    {
        public RememberedCall ToCall() => new(Id, Fingerprint, Answer, Content);
    }
}

/// <summary>How requests are read: made at build time, since a restart waits for it.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, RespectNullableAnnotations = true, RespectRequiredConstructorParameters = true)]
[JsonSerializable(typeof(RequestsJson.Version))]
[JsonSerializable(typeof(RequestsJson.Content))]
internal sealed partial class RequestsContext : JsonSerializerContext;
