namespace Sconce.Engine.Weights.Safetensors;

/// <summary>The rules of a safetensors file, each by the reason that an error gives for it, and what makes those errors.</summary>
internal static class SafetensorsRule
{
    /// <summary>The file has fewer than the eight bytes of the header's length.</summary>
    public const string TooShort = "SAFETENSORS_TOO_SHORT";

    /// <summary>The header is longer than the format allows.</summary>
    public const string HeaderTooLarge = "SAFETENSORS_HEADER_TOO_LARGE";

    /// <summary>The header ends behind the end of the file.</summary>
    public const string HeaderBeyondFile = "SAFETENSORS_HEADER_BEYOND_FILE";

    /// <summary>The header's first byte is no brace: white space, a byte order mark, an array.</summary>
    public const string HeaderStart = "SAFETENSORS_HEADER_START";

    /// <summary>Something other than white space follows the header's object.</summary>
    public const string HeaderTrailing = "SAFETENSORS_HEADER_TRAILING";

    /// <summary>The header is not UTF-8, or a string that is read escapes half of a surrogate pair.</summary>
    public const string HeaderText = "SAFETENSORS_HEADER_TEXT";

    /// <summary>The header is not JSON.</summary>
    public const string HeaderJson = "SAFETENSORS_HEADER_JSON";

    /// <summary>Fields that are ignored nest too deeply.</summary>
    public const string HeaderNesting = "SAFETENSORS_HEADER_NESTING";

    /// <summary>What the header describes would take too much memory, before a tensor is read.</summary>
    public const string HeaderMemory = "SAFETENSORS_HEADER_MEMORY";

    /// <summary>There are too many tensors.</summary>
    public const string TensorCount = "SAFETENSORS_TENSOR_COUNT";

    /// <summary>A tensor's name is empty, too long, holds a control character or is reserved.</summary>
    public const string TensorName = "SAFETENSORS_TENSOR_NAME";

    /// <summary>A name is there twice.</summary>
    public const string TensorTwice = "SAFETENSORS_TENSOR_TWICE";

    /// <summary>A tensor is no object.</summary>
    public const string TensorForm = "SAFETENSORS_TENSOR_FORM";

    /// <summary>A field of a tensor is there twice.</summary>
    public const string FieldTwice = "SAFETENSORS_FIELD_TWICE";

    /// <summary>A tensor lacks a field.</summary>
    public const string FieldMissing = "SAFETENSORS_FIELD_MISSING";

    /// <summary>A tensor has too many fields, or one with too long a name.</summary>
    public const string FieldCount = "SAFETENSORS_FIELD_COUNT";

    /// <summary>A dtype that the format does not know.</summary>
    public const string DType = "SAFETENSORS_DTYPE";

    /// <summary>A dtype that the format knows and this host does not.</summary>
    public const string DTypeUnsupported = "DTYPE_UNSUPPORTED";

    /// <summary>A shape is no array of whole numbers.</summary>
    public const string Shape = "SAFETENSORS_SHAPE";

    /// <summary>A shape has too many dimensions.</summary>
    public const string Rank = "SAFETENSORS_RANK";

    /// <summary>A shape has too many elements.</summary>
    public const string ShapeOverflow = "SAFETENSORS_SHAPE_OVERFLOW";

    /// <summary>The offsets are no array of two whole numbers, the first of them not above the second.</summary>
    public const string Offsets = "SAFETENSORS_OFFSETS";

    /// <summary>The offsets span other bytes than dtype and shape take.</summary>
    public const string Span = "SAFETENSORS_SPAN";

    /// <summary>Bytes belong to no tensor.</summary>
    public const string Hole = "SAFETENSORS_HOLE";

    /// <summary>Bytes belong to two tensors.</summary>
    public const string Overlap = "SAFETENSORS_OVERLAP";

    /// <summary>The file ends before its tensors do.</summary>
    public const string CutShort = "SAFETENSORS_CUT_SHORT";

    /// <summary>The file goes on behind its tensors.</summary>
    public const string TrailingData = "SAFETENSORS_TRAILING_DATA";

    /// <summary><c>__metadata__</c> is neither null nor an object of strings, each once; or it is too large.</summary>
    public const string Metadata = "SAFETENSORS_METADATA";

    /// <summary>A bool is neither 0 nor 1.</summary>
    public const string Bool = "SAFETENSORS_BOOL";

    // The limits on count and memory are ours, not the format's. The largest files there are have some 100,000 tensors with names of 60 characters:
    // half of this.
    private const long MaxDescriptionBytes = 1 << 26;
    private const long TensorOverhead = 200;
    private const long MaxMetadataBytes = 1 << 24;
    private const long MetadataOverhead = 64;

    /// <summary>What a broken rule gets.</summary>
    /// <param name="rule">The rule.</param>
    /// <param name="message">What is there, and what the rule is.</param>
    /// <param name="tensor">The tensor, where it is about one.</param>
    /// <param name="cause">The cause, for the log.</param>
    public static EngineException Broken(string rule, string message, string? tensor = null, Exception? cause = null) =>
        new(rule == DTypeUnsupported ? EngineError.Unimplemented : EngineError.InvalidArgument, rule, message, cause) { Resource = tensor is null ? null : new ResourceRef("tensor", tensor) };

    /// <summary>What is wrong with a tensor's name, for readers and writers alike; null where nothing is.</summary>
    public static string? OfName(string name) =>
        name.Length == 0 ? "is empty"
        : name.Length > SafetensorsHeader.MaxNameLength ? $"has {name.Length} characters; at most {SafetensorsHeader.MaxNameLength} are possible"
        : name.Any(char.IsControl) ? "holds a control character"
        : !IsUnicode(name) ? "holds half of a surrogate pair"
        : name == SafetensorsHeader.MetadataKey ? "is reserved by the format"
        : null;

    /// <summary>Whether a text has no half of a surrogate pair, which has no place in UTF-8.</summary>
    public static bool IsUnicode(string text)
    {
        for (var i = text.AsSpan().IndexOfAnyInRange('\ud800', '\udfff'); i >= 0 && i < text.Length; i += char.IsSurrogate(text[i]) ? 2 : 1)
        {
            if (char.IsSurrogate(text[i]) && !(i + 1 < text.Length && char.IsSurrogatePair(text[i], text[i + 1])))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Checks how many tensors there are.</summary>
    public static void CheckCount(int tensors)
    {
        if (tensors > SafetensorsHeader.MaxTensors)
        {
            throw Broken(TensorCount, $"there are more than {SafetensorsHeader.MaxTensors} tensors; split the file");
        }
    }

    /// <summary>Adds what a tensor's name and shape take in memory, and checks the sum.</summary>
    public static void CheckMemory(ref long sum, string name, int rank)
    {
        sum += TensorOverhead + (sizeof(char) * name.Length) + (sizeof(long) * rank);
        if (sum > MaxDescriptionBytes)
        {
            throw Broken(HeaderMemory, $"the names and shapes of its tensors, up to {EngineException.Quote(name)}, take more than {MaxDescriptionBytes >> 20} MiB of memory, which is the limit; split the file", name);
        }
    }

    /// <summary>Checks the metadata of a file that is to be written, so that a reader takes it.</summary>
    public static void CheckMetadata(IReadOnlyDictionary<string, string> metadata)
    {
        var bytes = 0L;
        foreach (var (key, value) in metadata)
        {
            if (!IsUnicode(key) || !IsUnicode(value))
            {
                throw Broken(Metadata, $"{SafetensorsHeader.MetadataKey} holds half of a surrogate pair at {EngineException.Quote(key)}");
            }

            // A character takes at most six bytes in JSON.
            CheckMetadataMemory(ref bytes, 6 * (long)key.Length);
            CheckMetadataMemory(ref bytes, 6 * (long)value.Length);
        }
    }

    /// <summary>Adds what a text of the metadata takes, and checks the sum.</summary>
    public static void CheckMetadataMemory(ref long sum, long rawBytes)
    {
        sum += rawBytes + MetadataOverhead;
        if (sum > MaxMetadataBytes)
        {
            throw Broken(Metadata, $"{SafetensorsHeader.MetadataKey} takes more than {MaxMetadataBytes >> 20} MiB, which is the limit");
        }
    }
}
