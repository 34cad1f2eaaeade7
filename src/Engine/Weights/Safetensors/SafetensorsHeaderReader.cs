using System.Text.Json;
using System.Text.Unicode;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Weights.Safetensors;

/// <summary>Reads the JSON of a header, token by token, and checks each tensor by itself.</summary>
internal ref struct SafetensorsHeaderReader
{
    private const int MaxNesting = 8;
    private const int MaxFields = 64;
    private const string DTypeField = "dtype";
    private const string ShapeField = "shape";
    private const string OffsetsField = "data_offsets";

    // A character is at most six bytes in JSON, as \u0061. Longer text is refused before it is decoded.
    private const int MaxRawName = 6 * SafetensorsHeader.MaxNameLength;

    // Of the largest number that is allowed, 2^63 - 1.
    private const int MostDigits = 19;

    private readonly List<SafetensorsEntry> _entries = [];
    private readonly Dictionary<string, string> _metadata = new(StringComparer.Ordinal);
    private Utf8JsonReader _json;
    private string? _tensor;
    private long _descriptionBytes;

    // Nesting is counted here, so that too much of it has its own rule.
    private SafetensorsHeaderReader(ReadOnlySpan<byte> json) => _json = new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = 1 << 10 });

    /// <summary>Reads a header. Where the tensors lie in the file is not checked.</summary>
    /// <exception cref="EngineException">It breaks a rule.</exception>
    public static SafetensorsHeader Read(ReadOnlySpan<byte> json)
    {
        CheckStart(json);

        // Utf8JsonReader looks at a string's bytes only when the string is asked for, and those that are skipped never are.
        if (!Utf8.IsValid(json))
        {
            throw SafetensorsRule.Broken(SafetensorsRule.HeaderText, "the header is not UTF-8");
        }

        var reader = new SafetensorsHeaderReader(json);
        try
        {
            reader.ReadTensors();
        }
        catch (JsonException exception)
        {
            throw SafetensorsRule.Broken(SafetensorsRule.HeaderJson, $"the header is not JSON{reader.Where()}: {exception.Message}", reader._tensor, exception);
        }
        catch (InvalidOperationException exception)
        {
            // What GetString throws for an escaped half of a surrogate pair.
            throw SafetensorsRule.Broken(SafetensorsRule.HeaderText, $"the header holds text that is not Unicode{reader.Where()}: {exception.Message}", reader._tensor, exception);
        }

        if (json[(int)reader._json.BytesConsumed..].ContainsAnyExcept(" \t\r\n"u8))
        {
            throw SafetensorsRule.Broken(SafetensorsRule.HeaderTrailing, $"the header's object ends at byte {reader._json.BytesConsumed} of {json.Length}, and something other than white space follows");
        }

        return new SafetensorsHeader(reader._entries, reader._metadata, SafetensorsHeader.PrefixBytes + json.Length);
    }

    /// <summary>Checks the first byte of a header.</summary>
    public static void CheckStart(ReadOnlySpan<byte> json)
    {
        if (json.IsEmpty || json[0] != '{')
        {
            throw SafetensorsRule.Broken(SafetensorsRule.HeaderStart, json.IsEmpty ? "the header is empty; it must begin with '{'" : $"the header does not begin with '{{' but with byte 0x{json[0]:x2}");
        }
    }

    private readonly string Where() => _tensor is null ? "" : $", at {EngineException.Quote(_tensor)}";

    private readonly EngineException Broken(string rule, string message) => SafetensorsRule.Broken(rule, $"{EngineException.Quote(_tensor!)} {message}", _tensor);

    private void ReadTensors()
    {
        var keys = new HashSet<string>(StringComparer.Ordinal);
        _ = _json.Read();
        while (_json.Read() && _json.TokenType == JsonTokenType.PropertyName)
        {
            if (_json.ValueSpan.Length > MaxRawName)
            {
                throw SafetensorsRule.Broken(SafetensorsRule.TensorName, $"a tensor's name takes {_json.ValueSpan.Length} bytes; at most {SafetensorsHeader.MaxNameLength} characters are possible");
            }

            _tensor = _json.GetString()!;
            if (!keys.Add(_tensor))
            {
                throw _tensor == SafetensorsHeader.MetadataKey
                    ? SafetensorsRule.Broken(SafetensorsRule.Metadata, $"{SafetensorsHeader.MetadataKey} is there twice")
                    : Broken(SafetensorsRule.TensorTwice, "is there twice");
            }

            if (_tensor == SafetensorsHeader.MetadataKey)
            {
                ReadMetadata();
                continue;
            }

            _ = _json.Read();
            if (SafetensorsRule.OfName(_tensor) is { } problem)
            {
                throw Broken(SafetensorsRule.TensorName, $"is no name for a tensor: it {problem}");
            }

            SafetensorsRule.CheckCount(_entries.Count + 1);
            var entry = ReadTensor();
            SafetensorsRule.CheckMemory(ref _descriptionBytes, _tensor, entry.Shape.Count);
            _entries.Add(entry);
            _tensor = null;
        }
    }

    private void ReadMetadata()
    {
        _tensor = null;
        _ = _json.Read();
        if (_json.TokenType == JsonTokenType.Null)
        {
            return;
        }

        if (_json.TokenType != JsonTokenType.StartObject)
        {
            throw SafetensorsRule.Broken(SafetensorsRule.Metadata, $"{SafetensorsHeader.MetadataKey} is not an object of strings");
        }

        var bytes = 0L;
        while (_json.Read() && _json.TokenType == JsonTokenType.PropertyName)
        {
            var key = Text(ref bytes);
            _ = _json.Read();
            if (_json.TokenType != JsonTokenType.String)
            {
                throw SafetensorsRule.Broken(SafetensorsRule.Metadata, $"{SafetensorsHeader.MetadataKey} holds {EngineException.Quote(key)}, which is not a string");
            }

            if (!_metadata.TryAdd(key, Text(ref bytes)))
            {
                throw SafetensorsRule.Broken(SafetensorsRule.Metadata, $"{SafetensorsHeader.MetadataKey} holds {EngineException.Quote(key)} twice");
            }
        }
    }

    private readonly string Text(ref long bytes)
    {
        SafetensorsRule.CheckMetadataMemory(ref bytes, _json.ValueSpan.Length);
        return _json.GetString()!;
    }

    private SafetensorsEntry ReadTensor()
    {
        if (_json.TokenType != JsonTokenType.StartObject)
        {
            throw Broken(SafetensorsRule.TensorForm, "is not an object");
        }

        var type = ElementType.None;
        long[]? shape = null, offsets = null;
        var fields = new FieldNames();
        while (_json.Read() && _json.TokenType == JsonTokenType.PropertyName)
        {
            if (_json.ValueSpan.Length > MaxRawName || fields.Count == MaxFields)
            {
                throw Broken(SafetensorsRule.FieldCount, $"has more than {MaxFields} fields, or one with a name of more than {SafetensorsHeader.MaxNameLength} characters");
            }

            var field = _json.ValueTextEquals(DTypeField) ? DTypeField : _json.ValueTextEquals(ShapeField) ? ShapeField : _json.ValueTextEquals(OffsetsField) ? OffsetsField : _json.GetString()!;
            if (!fields.Add(field))
            {
                throw Broken(SafetensorsRule.FieldTwice, $"holds {EngineException.Quote(field)} twice");
            }

            _ = _json.Read();
            switch (field)
            {
                case DTypeField:
                    type = ReadType();
                    break;
                case ShapeField:
                    shape = ReadIntegers(ShapeField, SafetensorsRule.Shape, TensorLayout.MaxRank, SafetensorsRule.Rank);
                    break;
                case OffsetsField:
                    offsets = ReadIntegers(OffsetsField, SafetensorsRule.Offsets, 2, SafetensorsRule.Offsets);
                    break;
                default:
                    Skip();
                    break;
            }
        }

        if (type == ElementType.None || shape is null || offsets is null)
        {
            throw Broken(SafetensorsRule.FieldMissing, $"lacks its {(type == ElementType.None ? DTypeField : shape is null ? ShapeField : OffsetsField)}; dtype, shape and data_offsets are required");
        }

        CheckSpan(type, shape, offsets);
        return new SafetensorsEntry(_tensor!, type, shape, offsets[0], offsets[1]);
    }

    private readonly void CheckSpan(ElementType type, long[] shape, long[] offsets)
    {
        long bytes;
        try
        {
            // libtorch's strides overflow where a size beside a zero is huge, so such a shape is refused too.
            bytes = TensorLayout.ByteLength(type, shape, new FieldPath("", ShapeField));
        }
        catch (EngineException exception)
        {
            throw SafetensorsRule.Broken(SafetensorsRule.ShapeOverflow, $"{EngineException.Quote(_tensor!)} has the shape [{string.Join(", ", shape)}], 2^63 bytes or more", _tensor, exception);
        }

        if (offsets.Length != 2 || offsets[1] < offsets[0])
        {
            throw Broken(SafetensorsRule.Offsets, $"has the data_offsets [{string.Join(", ", offsets)}]; expected are two numbers, the first of them not above the second");
        }

        if (offsets[1] - offsets[0] != bytes)
        {
            throw Broken(SafetensorsRule.Span, $"is {type.Name()}[{string.Join(", ", shape)}], {bytes} bytes, but its data_offsets are [{offsets[0]}, {offsets[1]}]");
        }
    }

    private readonly ElementType ReadType()
    {
        if (_json.TokenType != JsonTokenType.String || _json.ValueSpan.Length > MaxRawName)
        {
            throw Broken(SafetensorsRule.DType, $"has a dtype that is no name but {_json.TokenType}; known are {SafetensorsTypes.Names}");
        }

        var name = _json.GetString()!;
        var type = SafetensorsTypes.Parse(name);
        return type != ElementType.None ? type
            : SafetensorsTypes.IsUnsupported(name) ? throw Broken(SafetensorsRule.DTypeUnsupported, $"has the dtype {name}, which this host cannot hold; convert it to one of {SafetensorsTypes.Names}")
            : throw Broken(SafetensorsRule.DType, $"has the dtype {EngineException.Quote(name)}; known are {SafetensorsTypes.Names}");
    }

    private long[] ReadIntegers(string field, string rule, int most, string countRule)
    {
        if (_json.TokenType != JsonTokenType.StartArray)
        {
            throw Broken(rule, $"has {field} that is not an array but {_json.TokenType}");
        }

        Span<long> values = stackalloc long[TensorLayout.MaxRank];
        var count = 0;
        while (_json.Read() && _json.TokenType != JsonTokenType.EndArray)
        {
            // Digits only: a general parser takes "-0" for 0.
            if (_json.TokenType != JsonTokenType.Number || _json.ValueSpan.Length > MostDigits || _json.ValueSpan.ContainsAnyExceptInRange((byte)'0', (byte)'9') || !_json.TryGetInt64(out var value))
            {
                throw Broken(rule, $"has {field} that holds something other than whole numbers from 0 to 2^63-1, written in digits");
            }

            if (count == most)
            {
                throw Broken(countRule, $"has {field} of more than {most} numbers");
            }

            values[count++] = value;
        }

        return values[..count].ToArray();
    }

    // Utf8JsonReader.Skip would go as deep as the reader does.
    private void Skip()
    {
        var depth = _json.CurrentDepth;
        while (_json.TokenType is JsonTokenType.StartArray or JsonTokenType.StartObject || _json.CurrentDepth > depth)
        {
            if (_json.TokenType is JsonTokenType.StartArray or JsonTokenType.StartObject && _json.CurrentDepth >= MaxNesting)
            {
                throw Broken(SafetensorsRule.HeaderNesting, $"nests a field more than {MaxNesting} levels deep");
            }

            _ = _json.Read();
        }
    }

    /// <summary>The names of a tensor's fields: three that are known, and seldom others.</summary>
    private ref struct FieldNames
    {
        private HashSet<string>? _others;
        private string? _first, _second, _third;

        public int Count { get; private set; }

        public bool Add(string name)
        {
            if (name == _first || name == _second || name == _third || _others?.Contains(name) == true)
            {
                return false;
            }

            switch (Count++)
            {
                case 0:
                    _first = name;
                    break;
                case 1:
                    _second = name;
                    break;
                case 2:
                    _third = name;
                    break;
                default:
                    _ = (_others ??= new HashSet<string>(StringComparer.Ordinal)).Add(name);
                    break;
            }

            return true;
        }
    }
}
