using System.Collections;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Sconce.Engine.Hooks;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Snapshots;

/// <summary><see cref="ModuleFacts"/> as JSON and back.</summary>
internal static class FactsJson
{
    private static readonly JsonSerializerOptions Options = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        // As deep as a spec may be, each module of which is several levels.
        MaxDepth = 2048,
        RespectNullableAnnotations = true,
        RespectRequiredConstructorParameters = true,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower, allowIntegerValues: false), new ValueConverter(), new OperandConverter() },
        TypeInfoResolver = new DefaultJsonTypeInfoResolver { Modifiers = { Actions } },
    };

    /// <summary>Writes facts.</summary>
    public static void Write(Stream stream, ModuleFacts facts) => JsonSerializer.Serialize(stream, facts, Options);

    /// <summary>Reads facts.</summary>
    /// <exception cref="EngineException">They are of a newer format, or no facts at all.</exception>
    public static ModuleFacts Read(Stream stream)
    {
        try
        {
            using var document = JsonDocument.Parse(stream, new JsonDocumentOptions { MaxDepth = Options.MaxDepth });
            if (document.RootElement.TryGetProperty("format", out var format) && format.GetInt32() > ModuleFacts.CurrentFormat)
            {
                throw EngineException.Precondition("SNAPSHOT_TOO_NEW",
                    $"the snapshot is of format {format.GetInt32()}, and this build reads formats up to {ModuleFacts.CurrentFormat}: it was written by a newer server; run that one");
            }

            return document.Deserialize<ModuleFacts>(Options) ?? throw new JsonException("it is null");
        }
        catch (Exception exception) when (exception is JsonException or InvalidOperationException or FormatException or NotSupportedException)
        {
            throw new EngineException(EngineError.DataLoss, "SNAPSHOT_UNREADABLE", $"what the snapshot says of its module is no such text: {exception.Message}", exception);
        }
    }

    private static void Actions(JsonTypeInfo info)
    {
        if (info.Type != typeof(HookAction))
        {
            return;
        }

        info.PolymorphismOptions = new JsonPolymorphismOptions { TypeDiscriminatorPropertyName = "action", UnknownDerivedTypeHandling = JsonUnknownDerivedTypeHandling.FailSerialization };
        foreach (var type in typeof(HookAction).Assembly.GetTypes().Where(type => type is { IsSealed: true } && type.IsSubclassOf(typeof(HookAction))))
        {
            info.PolymorphismOptions.DerivedTypes.Add(new JsonDerivedType(type, JsonNamingPolicy.SnakeCaseLower.ConvertName(type.Name[..^"Action".Length])));
        }
    }

    /// <summary>Arguments in the shape of JSON, with the numbers that JSON has no words for.</summary>
    private sealed class ValueConverter : JsonConverter<object?>
    {
        private const string NotFinite = "$number";

        public override bool HandleNull => true;

        public override object? Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
        {
            using var document = JsonDocument.ParseValue(ref reader);
            return Value(document.RootElement);
        }

        public override void Write(Utf8JsonWriter writer, object? value, JsonSerializerOptions options)
        {
            switch (value)
            {
                case null:
                    writer.WriteNullValue();
                    break;
                case bool flag:
                    writer.WriteBooleanValue(flag);
                    break;
                case string text:
                    writer.WriteStringValue(text);
                    break;
                case long whole:
                    writer.WriteNumberValue(whole);
                    break;
                case double number when double.IsFinite(number):
                    writer.WriteNumberValue(number);
                    break;
                case double number:
                    writer.WriteStartObject();
                    writer.WriteString(NotFinite, double.IsNaN(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity");
                    writer.WriteEndObject();
                    break;
                case IReadOnlyDictionary<string, object?> map:
                    writer.WriteStartObject();
                    foreach (var (name, item) in map)
                    {
                        writer.WritePropertyName(name);
                        Write(writer, item, options);
                    }

                    writer.WriteEndObject();
                    break;
                case IEnumerable items:
                    writer.WriteStartArray();
                    foreach (var item in items)
                    {
                        Write(writer, item, options);
                    }

                    writer.WriteEndArray();
                    break;
                default:
                    throw new NotSupportedException($"an argument is a {value.GetType().Name}; arguments are values of JSON");
            }
        }

        private static object? Value(JsonElement element) => element.ValueKind switch
        {
            JsonValueKind.Null => null,
            JsonValueKind.True => true,
            JsonValueKind.False => false,
            JsonValueKind.String => element.GetString(),
            JsonValueKind.Number => element.GetDouble(),
            JsonValueKind.Array => element.EnumerateArray().Select(Value).ToList(),
            _ when element.TryGetProperty(NotFinite, out var number) => number.GetString() switch
            {
                "NaN" => double.NaN,
                "Infinity" => double.PositiveInfinity,
                _ => double.NegativeInfinity,
            },
            _ => element.EnumerateObject().ToDictionary(property => property.Name, property => Value(property.Value), StringComparer.Ordinal),
        };
    }

    /// <summary>Of an operand's tensor the type and shape; its bytes are in the file of tensors.</summary>
    private sealed class OperandConverter : JsonConverter<TensorInput>
    {
        public override TensorInput Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
        {
            var operand = JsonSerializer.Deserialize<OperandFacts>(ref reader, options)!;
            return TensorInput.Of(new TensorPayload(operand.Type, operand.Shape, default));
        }

        public override void Write(Utf8JsonWriter writer, TensorInput value, JsonSerializerOptions options) =>
            JsonSerializer.Serialize(writer, new OperandFacts(value.Payload.Type, [.. value.Payload.Shape]), options);
    }

    private sealed record OperandFacts(ElementType Type, IReadOnlyList<long> Shape);
}
