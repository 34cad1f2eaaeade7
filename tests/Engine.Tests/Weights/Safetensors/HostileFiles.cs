using System.Text;
using static Sconce.Engine.Weights.Safetensors.SafetensorsRule;

namespace Sconce.Engine.Tests.Weights.Safetensors;

/// <summary>A file that breaks a rule.</summary>
/// <param name="Title">What it is.</param>
/// <param name="Bytes">The file.</param>
/// <param name="Rule">The rule, as errors give it.</param>
/// <param name="Tensor">The tensor that errors name; null where it is about none.</param>
internal sealed record HostileFile(string Title, byte[] Bytes, string Rule, string? Tensor);

/// <summary>Files that break each rule of the format, and each of ours, in many ways.</summary>
internal static class HostileFiles
{
    private const string Good = """{"dtype":"F32","shape":[1],"data_offsets":[0,4]}""";

    /// <summary>All of them, by title.</summary>
    public static IReadOnlyDictionary<string, HostileFile> All { get; } = ((IEnumerable<HostileFile>)
    [
        .. Prefixes(), .. Starts(), .. Texts(), .. Json(), .. Names(), .. Forms(), .. DTypes(), .. Shapes(), .. OffsetPairs(), .. Layouts(), .. Metadatas(), .. Nestings(),
    ]).ToDictionary(file => file.Title, StringComparer.Ordinal);

    private static IEnumerable<HostileFile> Prefixes()
    {
        yield return new("a file of 0 bytes", [], TooShort, null);
        yield return new("a file of 1 byte", [2], TooShort, null);
        yield return new("a file of 7 bytes", new byte[7], TooShort, null);
        yield return new("a header of 0 bytes, and no more", new byte[8], HeaderStart, null);
        yield return new("a header of 0 bytes before data", new byte[16], HeaderStart, null);
        yield return new("a header of 1 byte more than there is", [.. SafetensorsBytes.Length(3), .. "{}"u8], HeaderBeyondFile, null);
        yield return new("a header of the whole file's length", [.. SafetensorsBytes.Length(10), .. "{}"u8], HeaderBeyondFile, null);
        yield return new("a header of 100,000,000 bytes in a file of 10", [.. SafetensorsBytes.Length(100_000_000), .. "{}"u8], HeaderBeyondFile, null);
        yield return new("a header of 100,000,001 bytes", [.. SafetensorsBytes.Length(100_000_001), .. "{}"u8], HeaderTooLarge, null);
        yield return new("a header of 2^31 bytes", [.. SafetensorsBytes.Length(1UL << 31), .. "{}"u8], HeaderTooLarge, null);
        yield return new("a header of 2^32 + 2 bytes", [.. SafetensorsBytes.Length((1UL << 32) + 2), .. "{}"u8], HeaderTooLarge, null);
        yield return new("a header of 2^63 bytes", [.. SafetensorsBytes.Length(1UL << 63), .. "{}"u8], HeaderTooLarge, null);
        yield return new("a header of 2^64 - 8 bytes", [.. SafetensorsBytes.Length(ulong.MaxValue - 7), .. "{}"u8], HeaderTooLarge, null);
        yield return new("a header of 2^64 - 1 bytes", [.. SafetensorsBytes.Length(ulong.MaxValue), .. "{}"u8], HeaderTooLarge, null);
        yield return new("a length in big-endian order", [0, 0, 0, 0, 0, 0, 0, 2, .. "{}"u8], HeaderTooLarge, null);
    }

    private static IEnumerable<HostileFile> Starts()
    {
        foreach (var json in new[] { " {}", "\n{}", "\t{}", "[]", "null", "1", "\"{}\"", "true", "}{", "\0{}", "x{}" })
        {
            yield return Of(json, 0, HeaderStart);
        }

        yield return new("a byte order mark", SafetensorsBytes.File([0xef, 0xbb, 0xbf, .. "{}"u8], 0), HeaderStart, null);
        yield return new("UTF-16", SafetensorsBytes.File(Encoding.Unicode.GetBytes("\ufeff{}"), 0), HeaderStart, null);
    }

    private static IEnumerable<HostileFile> Texts()
    {
        var where = new (string Name, byte[] Before, byte[] After)[]
        {
            ("a name", [.. "{\""u8], [.. "\":"u8, .. Encoding.UTF8.GetBytes(Good), .. "}"u8]),
            ("an ignored field's value", [.. "{\"a\":{\"dtype\":\"U8\",\"x\":\""u8], [.. "\",\"shape\":[4],\"data_offsets\":[0,4]}}"u8]),
            ("metadata", [.. "{\"__metadata__\":{\"k\":\""u8], [.. "\"}}"u8]),
        };
        var bad = new (string Name, byte[] Bytes)[]
        {
            ("a lone byte 0xff", [0xff]), ("a lone continuation", [0x80]), ("an overlong slash", [0xc0, 0xaf]), ("a surrogate in UTF-8", [0xed, 0xa0, 0x80]), ("more than U+10FFFF", [0xf4, 0x90, 0x80, 0x80]),
            ("a sequence cut short", [0xe2, 0x82]),
        };
        foreach (var (place, before, after) in where)
        {
            foreach (var (what, bytes) in bad)
            {
                yield return new($"{what} in {place}", SafetensorsBytes.File([.. before, .. bytes, .. after], place == "metadata" ? 0 : 4), HeaderText, null);
            }
        }

        yield return Of($$"""{"\ud800":{{Good}}}""", 4, HeaderText);
        yield return Of($$"""{"\udc00\ud800":{{Good}}}""", 4, HeaderText);
        yield return Of("""{"__metadata__":{"k":"\ud800"}}""", 0, HeaderText);
        yield return Of("""{"__metadata__":{"\udfff":"v"}}""", 0, HeaderText);
        yield return OfA("\"dtype\":\"\\ud800\",\"shape\":[1],\"data_offsets\":[0,4]", HeaderText);
        yield return OfA("\"\\ud800\":0,\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]", HeaderText);
    }

    private static IEnumerable<HostileFile> Json()
    {
        foreach (var json in new[] { "{", "{\"a\"", "{\"a\":", "{,}", "{'a':1}", "{a:1}", "{\"a\" {}}", "{/* a */}", "{// a\n}", "{]", "{\"__metadata__\":}", "{\"__metadata__\":nul}", "{\"__metadata__\":{}", "{\"a\nb\":1}", "{\"a\\x\":1}", "{\"\\u12\":1}" })
        {
            yield return Of(json, 0, HeaderJson, json.StartsWith("{\"a\":", StringComparison.Ordinal) ? "a" : null);
        }

        yield return Of($$"""{"a":{{Good}},}""", 4, HeaderJson);
        yield return Of($$"""{"a":{{Good}} "b":{{Good}}}""", 8, HeaderJson);
        yield return Of("{\"a\":" + Good, 4, HeaderJson);
        foreach (var field in new[] { "\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],", "\"dtype\":\"F32\",\"shape\":[1,],\"data_offsets\":[0,4]", "\"dtype\":\"F32\",\"shape\":[01],\"data_offsets\":[0,4]",
            "\"dtype\":\"F32\",\"shape\":[+1],\"data_offsets\":[0,4]", "\"dtype\":\"F32\",\"shape\":[0x1],\"data_offsets\":[0,4]", "\"dtype\":\"F32\",\"shape\":[NaN],\"data_offsets\":[0,4]", "\"dtype\":\"F32\",\"shape\":[1 1],\"data_offsets\":[0,4]",
            "\"dtype\":\"F32\",\"shape\":[1},\"data_offsets\":[0,4]", "\"dtype\":\"F32\",\"shape\":[1.],\"data_offsets\":[0,4]", "\"dtype\":\"F32\",\"shape\":[--1],\"data_offsets\":[0,4]", "\"dtype\":F32,\"shape\":[1],\"data_offsets\":[0,4]" })
        {
            yield return OfA(field, HeaderJson);
        }

        foreach (var tail in new[] { "x", "{}", "]", "}", ",", "\0", " \0", "\n1", "\u00a0", "\v", "\f", "//" })
        {
            yield return Of($$"""{"a":{{Good}}}{{tail}}""", 4, HeaderTrailing);
        }

        yield return Of("{}\0\0\0\0\0\0", 0, HeaderTrailing);
    }

    private static IEnumerable<HostileFile> Names()
    {
        yield return Of($$"""{"":{{Good}}}""", 4, TensorName, "");
        foreach (var (escaped, name) in new[] { ("\\u0000", "\0"), ("a\\u0007", "a\a"), ("\\n", "\n"), ("a\\tb", "a\tb"), ("\\u001f", "\u001f"), ("\\u007f", "\u007f"), ("\u007f", "\u007f"), ("\\u0085", "\u0085"), ("\u009f", "\u009f"), ("\\r", "\r"), ("\\b", "\b"), ("\\f", "\f"), ("a\\u001b[2J", "a\u001b[2J") })
        {
            yield return Of($$"""{"{{escaped}}":{{Good}}}""", 4, TensorName, name);
        }

        var longest = new string('n', 4096);
        yield return new("a name of 4097 characters", SafetensorsBytes.File($$"""{"{{longest}}n":{{Good}}}""", 4), TensorName, longest + "n");
        yield return new("a name of 30,000 bytes", SafetensorsBytes.File($$"""{"{{new string('n', 30_000)}}":{{Good}}}""", 4), TensorName, null);
        yield return Of($$"""{"a":{{Good}},"a":{{Good}}}""", 4, TensorTwice);
        yield return Of($$"""{"a":{{Good}},"\u0061":{{Good}}}""", 4, TensorTwice);
        yield return Of($$"""{"\u0061":{{Good}},"a":{{Good}}}""", 4, TensorTwice);
        yield return Of("""{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"b":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}""", 4, TensorTwice);
        yield return Of($$"""{"\/":{{Good}},"/":{{Good}}}""", 4, TensorTwice, "/");
        yield return Of($$"""{"\ud83d\ude00":{{Good}},"😀":{{Good}}}""", 4, TensorTwice, "😀");
    }

    private static IEnumerable<HostileFile> Forms()
    {
        foreach (var form in new[] { "[\"F32\",[1],[0,4]]", "1", "null", "true", "\"F32\"", "[]", "-0.5" })
        {
            yield return Of($$"""{"a":{{form}}}""", 4, TensorForm);
        }

        const string D = "\"dtype\":\"F32\"", S = "\"shape\":[1]", O = "\"data_offsets\":[0,4]";
        foreach (var fields in new[] { "", D, S, O, $"{D},{S}", $"{D},{O}", $"{S},{O}", $"\"Dtype\":\"F32\",{S},{O}", $"{D},\"Shape\":[1],{O}", $"{D},{S},\"offsets\":[0,4]", $"{D},{S},\"data_offsets \":[0,4]", $"{D},{S},\"data-offsets\":[0,4]" })
        {
            yield return OfA(fields, FieldMissing);
        }

        foreach (var fields in new[] { $"{D},{D},{S},{O}", $"{D},{S},{S},{O}", $"{D},{S},{O},{O}", $"{D},{S},{O},\"\\u0064type\":\"F32\"", $"{D},\"sh\\u0061pe\":[1],{S},{O}", $"\"x\":1,{D},\"x\":2,{S},{O}", $"\"x\":1,\"y\":1,\"z\":1,\"v\":1,\"v\":1,{D},{S},{O}",
            $"{D},{S},\"data_offsets\":[0,8],{O}", $"\"dtype\":\"F64\",{S},{O},{D}", $"\"\":1,\"\":1,{D},{S},{O}" })
        {
            yield return OfA(fields, FieldTwice);
        }

        yield return new("65 fields", SafetensorsBytes.File($$$"""{"a":{{{{string.Join(',', Enumerable.Range(0, 62).Select(i => $"\"x{i}\":0"))}}},{{{D}}},{{{S}}},{{{O}}}}}""", 4), FieldCount, "a");
        yield return new("a field with a name of 30,000 bytes", SafetensorsBytes.File($$$"""{"a":{"{{{new string('x', 30_000)}}}":0,{{{D}}},{{{S}}},{{{O}}}}}""", 4), FieldCount, "a");
    }

    private static IEnumerable<HostileFile> DTypes()
    {
        foreach (var type in new[] { "\"f32\"", "\"F32 \"", "\"float32\"", "\"\"", "\"F\"", "\"F128\"", "\"C128\"", "\"bool\"", "\"Bool\"", "\"BOOL\\u0000\"", "\"F3\u0662\"", "1", "null", "[\"F32\"]", "{\"F32\":null}", "true" })
        {
            yield return OfA($"\"dtype\":{type},\"shape\":[1],\"data_offsets\":[0,4]", DType);
        }

        foreach (var type in new[] { "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "U16", "U32", "U64", "F4", "F6_E2M3", "F6_E3M2" })
        {
            yield return OfA($"\"dtype\":\"{type}\",\"shape\":[4],\"data_offsets\":[0,4]", DTypeUnsupported);
        }
    }

    private static IEnumerable<HostileFile> Shapes()
    {
        foreach (var size in new[] { "-1", "-0", "1.0", "1e0", "1E0", "0.5", "1e400", "\"1\"", "null", "true", "[1]", "{}", "9223372036854775808", "18446744073709551617", "99999999999999999999999999", "-9223372036854775808" })
        {
            yield return OfA($"\"dtype\":\"F32\",\"shape\":[{size}],\"data_offsets\":[0,4]", Shape);
        }

        foreach (var shape in new[] { "1", "null", "\"[1]\"", "{}", "{\"0\":1}", "true" })
        {
            yield return OfA($"\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[0,4]", Shape);
        }

        foreach (var (type, shape) in new[] { ("F32", "4294967296,4294967296"), ("U8", "4294967296,2147483648"), ("F64", "1152921504606846976"), ("C64", "9223372036854775807"), ("I16", "9223372036854775807"), ("U8", "3037000500,3037000500"),
            ("F32", "0,4294967296,4294967296"), ("U8", "9223372036854775807,9223372036854775807,0"), ("F64", "0,9223372036854775807"), ("U8", "65536,65536,65536,65536"), ("BOOL", "2147483648,2147483648,4") })
        {
            yield return OfA($"\"dtype\":\"{type}\",\"shape\":[{shape}],\"data_offsets\":[0,4]", ShapeOverflow);
        }

        foreach (var rank in new[] { 65, 66, 1000 })
        {
            yield return new($"rank {rank}", SafetensorsBytes.File($$$"""{"a":{"dtype":"U8","shape":[{{{string.Join(',', Enumerable.Repeat(1, rank))}}}],"data_offsets":[0,1]}}""", 1), Rank, "a");
        }

        foreach (var (shape, begin, end) in new[] { ("1", 0, 8), ("1", 0, 0), ("2", 0, 4), ("", 0, 0), ("0", 0, 4), ("1,0,3", 0, 4), ("1", 0, 3), ("3", 0, 4) })
        {
            yield return OfA($"\"dtype\":\"F32\",\"shape\":[{shape}],\"data_offsets\":[{begin},{end}]", Span);
        }

        yield return OfA("\"dtype\":\"U8\",\"shape\":[9223372036854775807],\"data_offsets\":[0,4]", Span);
    }

    private static IEnumerable<HostileFile> OffsetPairs()
    {
        foreach (var offsets in new[] { "[]", "[0]", "[4]", "[0,4,4]", "[0,4,8,12]", "[4,0]", "[-0,4]", "[0,-4]", "[0.0,4]", "[0,4.0]", "[0,4e0]", "[\"0\",\"4\"]", "[null,4]", "[[0,4]]", "[0,9223372036854775808]", "[18446744073709551612,4]", "0", "null", "\"0,4\"", "{\"0\":0,\"1\":4}" })
        {
            yield return OfA($"\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":{offsets}", Offsets);
        }
    }

    private static IEnumerable<HostileFile> Layouts()
    {
        yield return Of($$"""{"a":{{At(4, 8)}}}""", 8, Hole);
        yield return Of($$"""{"b":{{At(0, 4)}},"a":{{At(5, 9)}}}""", 9, Hole);
        yield return Of($$"""{"a":{{At(5, 9)}},"b":{{At(0, 4)}}}""", 9, Hole);
        yield return Of("""{"a":{"dtype":"U8","shape":[0],"data_offsets":[4,4]}}""", 4, Hole);
        yield return Of($$$"""{"b":{{{At(0, 4)}}},"a":{"dtype":"U8","shape":[0],"data_offsets":[5,5]}}""", 5, Hole);
        yield return Of("""{"a":{"dtype":"U8","shape":[1],"data_offsets":[9223372036854775806,9223372036854775807]}}""", 4, Hole);
        yield return Of($$"""{"b":{{At(0, 4)}},"a":{{At(0, 4)}}}""", 4, Overlap);
        yield return Of($$"""{"b":{{At(0, 4)}},"a":{{At(3, 7)}}}""", 7, Overlap);
        yield return Of($$"""{"b":{{At(0, 4)}},"c":{{At(4, 8)}},"a":{{At(2, 6)}}}""", 8, Overlap);
        yield return Of("""{"b":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"a":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}}""", 8, Overlap);
        yield return Of($$$"""{"b":{{{At(0, 4)}}},"a":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}}""", 4, Overlap);
        yield return Of($$"""{"a":{{At(0, 4)}}}""", 0, CutShort);
        yield return Of($$"""{"a":{{At(0, 4)}}}""", 3, CutShort);
        yield return Of($$"""{"b":{{At(0, 4)}},"a":{{At(4, 8)}}}""", 7, CutShort);
        yield return Of("""{"a":{"dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807]}}""", 4, CutShort);
        yield return Of($$"""{"a":{{At(0, 4)}}}""", 5, TrailingData, null);
        yield return Of($$"""{"a":{{At(0, 4)}}}""", 4096, TrailingData, null);
        yield return Of("{}", 1, TrailingData);
        yield return Of("""{"__metadata__":{"a":"b"}}""", 1, TrailingData);
        yield return Of("""{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}""", 1, TrailingData, null);

        static string At(int begin, int end) => $$"""{"dtype":"F32","shape":[1],"data_offsets":[{{begin}},{{end}}]}""";
    }

    private static IEnumerable<HostileFile> Metadatas()
    {
        foreach (var metadata in new[] { "[]", "1", "\"pt\"", "true", "false", "{\"a\":1}", "{\"a\":null}", "{\"a\":{}}", "{\"a\":[\"b\"]}", "{\"a\":true}", "{\"a\":\"1\",\"a\":\"2\"}", "{\"a\":\"1\",\"\\u0061\":\"1\"}", "{\"\":\"1\",\"\":\"1\"}", "{\"a\":\"1\",\"b\":2}" })
        {
            yield return Of($$"""{"__metadata__":{{metadata}}}""", 0, Metadata);
        }

        yield return Of("""{"__metadata__":null,"__metadata__":null}""", 0, Metadata);
        yield return Of("""{"__metadata__":{},"__metadata__":{}}""", 0, Metadata);
        yield return Of("""{"__metadata__":{"a":"1"},"\u005f_metadata__":null}""", 0, Metadata);
        yield return Of($$"""{"__metadata__":{{Good}}}""", 4, Metadata);
        yield return new("metadata of more than 16 MiB", SafetensorsBytes.File($$$"""{"__metadata__":{"a":"{{{new string('m', 17 << 20)}}}"}}""", 0), Metadata, null);
        yield return new("300,000 pairs of metadata", SafetensorsBytes.File($$$"""{"__metadata__":{{{{string.Join(',', Enumerable.Range(0, 300_000).Select(i => $"\"{i}\":\"\""))}}}}}""", 0), Metadata, null);
    }

    private static IEnumerable<HostileFile> Nestings()
    {
        foreach (var (open, close) in new[] { ("[", "]"), ("{\"n\":", "}"), ("[{\"n\":[", "]}]") })
        {
            foreach (var depth in new[] { 7, 100, 5000 })
            {
                var nested = string.Concat(Enumerable.Repeat(open, depth)) + "1" + string.Concat(Enumerable.Repeat(close, depth));
                yield return new($"{depth} x {open}", SafetensorsBytes.File($$$"""{"a":{"x":{{{nested}}},"dtype":"U8","shape":[1],"data_offsets":[0,1]}}""", 1), HeaderNesting, "a");
            }
        }

        yield return new("nesting that never ends", SafetensorsBytes.File("{\"a\":{\"x\":" + new string('[', 1 << 20), 0), HeaderNesting, "a");
        const string Empty = """{"dtype":"U8","shape":[0],"data_offsets":[0,0]}""";
        yield return new("262,145 tensors", SafetensorsBytes.File($$"""{{{string.Join(',', Enumerable.Range(0, (1 << 18) + 1).Select(i => $"\"{i}\":{Empty}"))}}}""", 0), TensorCount, null);
        yield return new("10,000 names of 4096 characters", SafetensorsBytes.File($$"""{{{string.Join(',', Enumerable.Range(0, 10_000).Select(i => $"\"{i:d4096}\":{Empty}"))}}}""", 0), HeaderMemory, $"{7989:d4096}");
    }

    private static HostileFile OfA(string fields, string rule) => Of($$$"""{"a":{{{{fields}}}}}""", 4, rule, "a");

    private static HostileFile Of(string json, int dataBytes, string rule) =>
        Of(json, dataBytes, rule, rule is TensorTwice or TensorForm or Hole or Overlap or CutShort ? "a" : null);

    private static HostileFile Of(string json, int dataBytes, string rule, string? tensor) => new($"{json} + {dataBytes}", SafetensorsBytes.File(json, dataBytes), rule, tensor);
}
