using System.Reflection;
using System.Text;
using Sconce.Engine.Weights.Safetensors;

namespace Sconce.Engine.Tests.Weights.Safetensors;

public sealed class HostileFileTests
{
    private const string Good = """{"dtype":"F32","shape":[1],"data_offsets":[0,4]}""";

    public static TheoryData<string, int> Legal => new()
    {
        { "{}", 0 },
        { "{}     ", 0 },
        { "{}\n\t\r ", 0 },
        { "{ \"__metadata__\" : null }", 0 },
        { """{"__metadata__":{}}""", 0 },
        { """{"__metadata__":{"":"","a\u0000":"\n"}}""", 0 },
        { $$"""{"a":{{Good}}}""", 4 },
        { $$$"""{"a":{{{Good}}},"__metadata__":{"format":"pt"}}""", 4 },
        { """{"a":{"data_offsets":[0,4],"shape":[],"dtype":"F32"}}""", 4 },
        { """{"b":{"dtype":"U8","shape":[1],"data_offsets":[4,5]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", 5 },
        { """{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}""", 0 },
        { """{"a":{"dtype":"F64","shape":[0,1152921504606846975],"data_offsets":[0,0]}}""", 0 },
        { """{"e":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"f":{"dtype":"F32","shape":[2,0],"data_offsets":[1,1]}}""", 1 },
        { """{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"more":{"x":[1,{"y":[2]}],"dtype":1,"dtype":1}}}""", 1 },
        { """{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":[[[[[[1]]]]]]}}""", 1 },
        { """{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":"\ud800"}}""", 1 },
        { """{"a":{"\u0064type":"\u00558","shape":[1],"data_offsets":[0,1]}}""", 1 },
        { $$"""{"größe":{{Good}}}""", 4 },
        { $$"""{"a b/c\\d\"e":{{Good}}}""", 4 },
        { $$"""{"\ud83d\ude00":{{Good}}}""", 4 },
        { $$"""{"__metadata":{{Good}}}""", 4 },
        { $$"""{"dtype":{{Good}}}""", 4 },
        { $$$"""{"{{{new string('n', 4096)}}}":{{{Good}}}}""", 4 },
        { $$$"""{"a":{"dtype":"U8","shape":[{{{string.Join(',', Enumerable.Repeat(1, 64))}}}],"data_offsets":[0,1]}}""", 1 },
        { $$$"""{"a":{{{{string.Join(',', Enumerable.Range(0, 61).Select(i => $"\"x{i}\":0"))}}},"dtype":"U8","shape":[1],"data_offsets":[0,1]}}""", 1 },
    };

    public static TheoryData<string> Titles => [.. HostileFiles.All.Keys];

    [Theory]
    [MemberData(nameof(Titles), DisableDiscoveryEnumeration = true)]
    public void Open_names_the_rule_and_the_tensor(string title)
    {
        var (_, bytes, rule, tensor) = HostileFiles.All[title];
        var error = Assert.Throws<EngineException>(() => SafetensorsFile.Open(bytes, SafetensorsBytes.Name));

        Assert.Equal((rule, tensor), (error.Reason, error.Resource?.Name));
        Assert.Equal(rule == SafetensorsRule.DTypeUnsupported ? EngineError.Unimplemented : EngineError.InvalidArgument, error.Error);
        Assert.StartsWith(SafetensorsBytes.Name + ": ", error.Message, StringComparison.Ordinal);
        Assert.Contains(tensor is null ? "" : EngineException.Quote(tensor), error.Message, StringComparison.Ordinal);
        Assert.True(error.Message.Length < 2000);
    }

    [Fact]
    public void Every_rule_has_files_that_break_it()
    {
        // A bool is no matter of the header; SafetensorsFileTests has it.
        var rules = typeof(SafetensorsRule).GetFields(BindingFlags.Static | BindingFlags.Public).Where(field => field.IsLiteral).Select(field => (string)field.GetValue(null)!).Where(rule => rule != SafetensorsRule.Bool);
        Assert.Empty(rules.Except(HostileFiles.All.Values.Select(file => file.Rule)));
        Assert.InRange(HostileFiles.All.Count, 250, int.MaxValue);
    }

    [Theory]
    [MemberData(nameof(Legal), DisableDiscoveryEnumeration = true)]
    public void Open_takes_what_the_format_allows(string json, int dataBytes)
    {
        using var file = SafetensorsFile.Open(SafetensorsBytes.File(json, dataBytes), SafetensorsBytes.Name);
        var bytes = 0L;
        for (var i = 0; i < file.Entries.Count; i++)
        {
            using var tensor = file.Read(i);
            Assert.Equal(file.Entries[i].Shape, tensor.shape);
            bytes += tensor.numel() * tensor.ElementSize;
        }

        Assert.Equal(dataBytes, bytes);
    }

    [Fact]
    public void Open_takes_a_header_of_the_largest_size_and_refuses_one_byte_more()
    {
        var header = new byte[SafetensorsHeader.MaxBytes + 1];
        Array.Fill(header, (byte)' ');
        "{}"u8.CopyTo(header);
        using (var file = SafetensorsFile.Open(SafetensorsBytes.File(header.AsSpan(0, SafetensorsHeader.MaxBytes), 0), SafetensorsBytes.Name))
        {
            Assert.Empty(file.Entries);
        }

        Assert.Equal(SafetensorsRule.HeaderTooLarge, Assert.Throws<EngineException>(() => SafetensorsFile.Open(SafetensorsBytes.File(header, 0), SafetensorsBytes.Name)).Reason);
    }

    [Fact]
    public void Open_of_the_most_tensors_and_of_what_is_too_much_allocates_within_bounds()
    {
        const string Empty = """{"dtype":"U8","shape":[0],"data_offsets":[0,0]}""";
        var most = SafetensorsBytes.File($$"""{{{string.Join(',', Enumerable.Range(0, SafetensorsHeader.MaxTensors).Select(i => $"\"{i}\":{Empty}"))}}}""", 0);
        Assert.InRange(Allocated(() => SafetensorsFile.Open(most, SafetensorsBytes.Name).Dispose()), 1, 156_000_000); // beside a native copy of the header, up to 100 MB

        foreach (var title in new[] { "300,000 pairs of metadata", "metadata of more than 16 MiB", "262,145 tensors", "10,000 names of 4096 characters", "nesting that never ends" })
        {
            var bytes = HostileFiles.All[title].Bytes;
            Assert.InRange(Allocated(() => Assert.Throws<EngineException>(() => SafetensorsFile.Open(bytes, SafetensorsBytes.Name))), 1, 156_000_000);
        }

        static long Allocated(Action action)
        {
            var before = GC.GetAllocatedBytesForCurrentThread();
            action();
            return GC.GetAllocatedBytesForCurrentThread() - before;
        }
    }

    [Fact]
    public void Any_bit_that_is_flipped_in_a_header_is_an_error_or_makes_another_legal_file()
    {
        var layout = SafetensorsLayout.Of([new("weight", Engine.Tensors.ElementType.Float32, [2, 3]), new("bias", Engine.Tensors.ElementType.Float32, [2]), new("steps", Engine.Tensors.ElementType.Int64, [])]);
        byte[] good = [.. layout.Header.Span, .. new byte[layout.FileBytes - layout.Header.Length]];
        var free = Free(Encoding.ASCII.GetString(good, 0, layout.Header.Length));
        for (var at = 0; at < layout.Header.Length; at++)
        {
            for (var bit = 0; bit < 8; bit++)
            {
                var flipped = good.ToArray();
                flipped[at] ^= (byte)(1 << bit);
                if (Outcome(flipped) is { } error)
                {
                    Assert.Matches("^SAFETENSORS_|DTYPE_UNSUPPORTED", error.Reason);
                    Assert.StartsWith(SafetensorsBytes.Name + ": ", error.Message, StringComparison.Ordinal);
                }
                else
                {
                    Assert.True(free[at], $"bit {bit} of byte {at}, '{(char)good[at]}', went unseen");
                }
            }
        }

        // Names, texts of the metadata and, as far as sizes agree, dtypes may be others; a flip in those only a digest finds.
        static bool[] Free(string header)
        {
            var free = new bool[header.Length];
            foreach (var text in new[] { "__metadata__", "format", "pt", "weight", "bias", "steps", "F32", "I64" })
            {
                for (var i = header.IndexOf(text, 8, StringComparison.Ordinal); i >= 0; i = header.IndexOf(text, i + 1, StringComparison.Ordinal))
                {
                    Array.Fill(free, true, i, text.Length);
                }
            }

            return free;
        }
    }

    [Fact]
    public void Every_byte_of_a_header_that_is_missing_is_an_error()
    {
        var layout = SafetensorsLayout.Of([new("weight", Engine.Tensors.ElementType.Float32, [2, 3])]);
        byte[] good = [.. layout.Header.Span, .. new byte[24]];
        Assert.Null(Outcome(good));
        Assert.All(Enumerable.Range(0, good.Length), length => Assert.Matches("TOO_SHORT|HEADER_BEYOND_FILE|CUT_SHORT", Outcome(good[..length])?.Reason));
    }

    private static EngineException? Outcome(byte[] bytes)
    {
        try
        {
            using var file = SafetensorsFile.Open(bytes, SafetensorsBytes.Name);
            foreach (var index in Enumerable.Range(0, file.Entries.Count))
            {
                file.Read(index).Dispose();
            }

            return null;
        }
        catch (EngineException error)
        {
            return error;
        }
    }
}
