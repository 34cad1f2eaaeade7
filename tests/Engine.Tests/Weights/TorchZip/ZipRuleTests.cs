using Sconce.Engine.Weights.TorchZip;

namespace Sconce.Engine.Tests.Weights.TorchZip;

/// <summary>Archives that lie, each refused before a tensor is read.</summary>
public sealed class ZipRuleTests
{
    private static readonly byte[] Content = [0, 0, 0x80, 0x3f, 0, 0, 0, 0x40, 0, 0, 0x40, 0x40, 0, 0, 0x80, 0x40];
    private static readonly byte[] Pickle = PickleScript.State(new());

    [Fact]
    public void Crafted_archive_is_read_with_and_without_zip64_descriptors_and_utf8_flags()
    {
        Reads(ZipScript.Of(Pickle, ("0", Content)));
        Reads(new ZipScript { IsZip64 = false, Parts = [new("a/data.pkl", Pickle), new("a/data/0", Content)] });
        Reads(new ZipScript
        {
            Parts =
            [
                new("a/data.pkl", Pickle) { Flags = 0, HasDescriptor = false, LocalSize = (uint)Pickle.Length },
                new("a/data/0", Content) { Flags = 0, HasDescriptor = false, LocalSize = 16 }, new("a/byteorder", "little"u8.ToArray()),
            ],
        });

        static void Reads(ZipScript script)
        {
            using var file = TorchZipFile.Open(script.Source());
            using var tensor = file.Read(0);
            Assert.Equal([1f, 2f, 3f, 4f], tensor.data<float>().ToArray());
        }
    }

    [Fact]
    public void Records_that_newer_PyTorch_adds_and_folders_are_passed_over()
    {
        var script = new ZipScript
        {
            Parts =
            [
                new("model/", []), new("model/data.pkl", Pickle), new("model/.format_version", "1"u8.ToArray()), new("model/.storage_alignment", "64"u8.ToArray()), new("model/byteorder", "little"u8.ToArray()),
                new("model/data/0", Content), new("model/version", "3\n"u8.ToArray()), new("model/.data/serialization_id", "0123456789"u8.ToArray()),
            ],
        };
        using var file = TorchZipFile.Open(script.Source());
        file.Read(0).Dispose();
    }

    [Fact]
    public void Storage_beyond_4_GB_is_read_through_zip64_fields()
    {
        // 6 TB, of which nothing but the bytes around the elements is in memory.
        const long Elements = 1_500_000_000_000;
        var script = new ZipScript
        {
            Parts =
            [
                new("archive/data.pkl", new PickleScript().Op("}(").Text("far").Tensor(new(Storage: "1")).Text("empty").Tensor(new(Count: Elements, Offset: Elements - 1, Sizes: [0])).Op("u").Whole),
                new("archive/data/0", []) { Zeros = 4 * Elements, Crc = 7 }, new("archive/data/1", Content),
            ],
        };
        using var file = TorchZipFile.Open(script.Source());
        using var far = file.Read(0);
        Assert.Equal([1f, 2f, 3f, 4f], far.data<float>().ToArray());
        using var empty = file.Read(1);
        Assert.Equal([0], empty.shape);
    }

    public static TheoryData<string, string> Lies => new()
    {
        { "record twice", "record \"archive/data/0\" is there twice" },
        { "two data.pkl", "it has 2 records data.pkl" },
        { "no data.pkl", "it has no record data.pkl" },
        { "data.pkl too deep", "it has no record data.pkl in one folder" },
        { "data.pkl without a folder", "it has no record data.pkl in one folder" },
        { "record within another", "overlap" },
        { "record over the next", "overlap" },
        { "same content under two names", "its local header is not at the place" },
        { "compressed", "record \"archive/data/0\" is compressed (method 8)" },
        { "encrypted", "is encrypted" },
        { "strong encryption", "has the flags 0x0848" },
        { "other disk", "is on another disk" },
        { "several disks", "several disks" },
        { "name too long", "has a name of 1,025 bytes" },
        { "no name", "has a name of 0 bytes" },
        { "name is not UTF-8", "the name of record 1 is not UTF-8" },
        { "size beyond the file", "reaches beyond byte" },
        { "size beyond 63 bits", "reaches beyond byte" },
        { "offset beyond the file", "reaches beyond byte" },
        { "offset beyond 63 bits", "reaches beyond byte" },
        { "offset into the directory", "reaches beyond byte" },
        { "size too small", "data descriptor is missing, or has another" },
        { "packed size", "said to take 3 bytes for its 16" },
        { "local name", "its local header is not at the place that the central directory gives, or has another name" },
        { "local flags", "local header has other flags" },
        { "local size", "local header has another CRC-32 or other sizes" },
        { "descriptor missing", "data descriptor is missing" },
        { "descriptor size", "data descriptor is missing, or has another" },
        { "zip64 field missing", "lacks the zip64 field" },
        { "zip64 field short", "lacks the zip64 field" },
        { "zip64 field twice", "has two zip64 fields" },
        { "extra field beyond", "reach beyond their end" },
        { "extra field cut", "reach beyond their end" },
        { "too few counted", "of which 2 records take" },
        { "too many counted", "does not begin as one" },
        { "far too many counted", "do not fit" },
        { "more records than are read", "is larger than this server reads" },
        { "directory larger", "it must end at byte" },
        { "directory elsewhere", "it must end at byte" },
        { "directory beyond", "it must end at byte" },
        { "zip64 count differs", "differ in the number of records" },
        { "zip64 offset differs", "differ in the offset" },
        { "zip64 locator elsewhere", "its zip64 locator points to byte 5;" },
        { "zip64 disks", "its zip64 locator points" },
        { "comment", "something was added to it" },
        { "something after the end", "something was added to it" },
        { "no end", "it was cut short" },
        { "big-endian", "big-endian" },
        { "byteorder of neither", "neither little nor big" },
        { "byteorder too long", "at most 6 are taken" },
        { "data.pkl damaged", "has CRC-32" },
    };

    [Theory]
    [MemberData(nameof(Lies))]
    public void Archive_that_lies_is_refused(string lie, string words)
    {
        var error = TorchZipFixtures.Refused(Lie(lie));
        Assert.Contains(words, error.Message, StringComparison.Ordinal);
        Assert.Contains(error.Reason, lie switch
        {
            "big-endian" => "BIG_ENDIAN",
            "data.pkl damaged" => "CRC_MISMATCH",
            _ when words.Contains("larger than this server", StringComparison.Ordinal) || lie == "byteorder too long" => "TORCH_ZIP_LIMIT",
            _ => "TORCH_ZIP_MALFORMED",
        }, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("", "this is no PyTorch file")]
    [InlineData("hello, world: no zip at all", "this is no PyTorch file")]
    [InlineData("PK\u0003\u0004", "it has 4 bytes; the smallest zip archive has 22")]
    [InlineData("PK\u0003\u0004 and then nothing of an archive", "it was cut short")]
    [InlineData("\u0010\0\0\0\0\0\0\0{\"w\":{}}        ", "this is a safetensors file")]
    public void File_that_is_no_archive_is_refused(string text, string words) =>
        Assert.Contains(words, TorchZipFixtures.Refused(System.Text.Encoding.Latin1.GetBytes(text)).Message, StringComparison.Ordinal);

    [Fact]
    public void File_cut_anywhere_is_refused()
    {
        var whole = TorchZipFixtures.Bytes("views.pt");
        for (var length = 0; length < whole.Length; length++)
        {
            Assert.Equal(EngineError.InvalidArgument, TorchZipFixtures.Refused(whole[..length]).Error);
        }
    }

    [Fact]
    public void Byte_changed_anywhere_is_refused_found_when_it_is_read_or_without_effect()
    {
        var whole = TorchZipFixtures.Bytes("dtypes.pt");
        var expected = TorchZipFixtures.State("dtypes.pt", "");
        for (var at = 0; at < whole.Length; at++)
        {
            var bytes = whole.ToArray();
            bytes[at] ^= 0x20;
            try
            {
                using var file = TorchZipFile.Open(new MemorySource(bytes));
                TorchZipFixtures.Same(expected, file);
            }
            catch (EngineException)
            {
            }
        }
    }

    private static byte[] Lie(string lie)
    {
        var script = ZipScript.Of(Pickle, ("0", Content));
        var zero = script.Parts[1];

        // Behind data.pkl's header, name, content and descriptor.
        var second = 30 + 16 + Pickle.Length + 16;
        return lie switch
        {
            "record twice" => With(zero, zero),
            "two data.pkl" => With(zero, new("other/data.pkl", Pickle)),
            "no data.pkl" => new ZipScript { Parts = [zero] }.Bytes(),
            "data.pkl too deep" => new ZipScript { Parts = [new("a/b/data.pkl", Pickle), zero] }.Bytes(),
            "data.pkl without a folder" => new ZipScript { Parts = [new("data.pkl", Pickle), zero] }.Bytes(),
            "record within another" => With(new("archive/outer", new ZipScript { Parts = [zero] }.Bytes()), zero with { HeaderOffset = second + 43 }),
            "record over the next" => With(zero with { Flags = 0, HasDescriptor = false, Size = 26, LocalSize = 26 }, new("archive/next", Pickle)),
            "same content under two names" => With(zero, new("archive/data/1", Content) { HeaderOffset = second }),
            "compressed" => With(zero with { Method = 8 }),
            "encrypted" => With(zero with { Flags = 0x0809 }),
            "strong encryption" => With(zero with { Flags = 0x0848 }),
            "other disk" => With(zero with { Disk = 1 }),
            "several disks" => new ZipScript { Parts = script.Parts, Disk = 1 }.Bytes(),
            "name too long" => With(zero, new(new string('n', 1_025), [])),
            "no name" => With(zero, new("", [])),
            "name is not UTF-8" => With(zero with { NameBytes = [(byte)'a', 0xff] }),
            "size beyond the file" => With(zero with { Size = 1_000_000 }),
            "size beyond 63 bits" => With(zero with { Size = -2 }, size: -2),
            "offset beyond the file" => With(zero with { HeaderOffset = 1_000_000 }),
            "offset beyond 63 bits" => With(zero with { HeaderOffset = uint.MaxValue, Extra = [1, 0, 8, 0, .. ZipScript.U64(-2)] }),
            "offset into the directory" => With(zero with { HeaderOffset = script.Bytes().AsSpan().IndexOf("PK\u0001\u0002"u8) - 10 }),
            "size too small" => With(zero with { Size = 12 }),
            "packed size" => With(zero with { PackedSize = 3 }),
            "local name" => With(zero with { LocalName = "archive/data/1" }),
            "local flags" => With(zero with { LocalFlags = 0 }),
            "local size" => With(zero with { Flags = 0, HasDescriptor = false, LocalSize = 12 }),
            "descriptor missing" => With(zero with { HasDescriptor = false }),
            "descriptor size" => With(zero with { DescriptorSize = 12 }),
            "zip64 field missing" => With(zero with { Size = uint.MaxValue, Extra = [] }),
            "zip64 field short" => With(zero with { Size = uint.MaxValue, Extra = [1, 0, 8, 0, 16, 0, 0, 0, 0, 0, 0, 0] }),
            "zip64 field twice" => With(zero with { Extra = [1, 0, 0, 0, 1, 0, 0, 0] }),
            "extra field beyond" => With(zero with { Extra = [1, 0, 9, 0, 0] }),
            "extra field cut" => With(zero with { Extra = [1, 0, 0] }),
            "too few counted" => new ZipScript { Parts = script.Parts, Count = 2 }.Bytes(),
            "too many counted" => new ZipScript { Parts = [script.Parts[0], zero with { Extra = [9, 9, 60, 0, .. new byte[60]] }], Count = 3 }.Bytes(),
            "far too many counted" => new ZipScript { Parts = script.Parts, Count = 60_000 }.Bytes(),
            "more records than are read" => new ZipScript { Parts = script.Parts, Count = 70_000 }.Bytes(),
            "directory larger" => new ZipScript { Parts = script.Parts, DirectorySize = 1_000_000 }.Bytes(),
            "directory elsewhere" => new ZipScript { Parts = script.Parts, DirectoryOffset = 0 }.Bytes(),
            "directory beyond" => new ZipScript { Parts = script.Parts, DirectoryOffset = -3 }.Bytes(),
            "zip64 count differs" => new ZipScript { Parts = script.Parts, Zip64Count = 4 }.Bytes(),
            "zip64 offset differs" => new ZipScript { Parts = script.Parts, Zip64Offset = 4 }.Bytes(),
            "zip64 locator elsewhere" => new ZipScript { Parts = script.Parts, LocatorOffset = 5 }.Bytes(),
            "zip64 disks" => new ZipScript { Parts = script.Parts, Disks = 2 }.Bytes(),
            "comment" => new ZipScript { Parts = script.Parts, Comment = [1, 2, 3] }.Bytes(),
            "something after the end" => new ZipScript { Parts = script.Parts, Trailing = [1, 2, 3] }.Bytes(),
            "no end" => script.Bytes()[..^30],
            "big-endian" => With(zero, new("archive/byteorder", "big"u8.ToArray())),
            "byteorder of neither" => With(zero, new("archive/byteorder", "middle"u8.ToArray())),
            "byteorder too long" => With(zero, new("archive/byteorder", new byte[1_000])),
            "data.pkl damaged" => new ZipScript { Parts = [new("archive/data.pkl", Pickle) { Crc = 1 }, zero] }.Bytes(),
            _ => throw new ArgumentException(lie),
        };

        byte[] With(ZipPart first, ZipPart? second = null, long? size = null) => new ZipScript
        {
            Parts = [script.Parts[0], size is { } raw ? first with { Size = uint.MaxValue, Extra = [1, 0, 16, 0, .. ZipScript.U64(raw), .. ZipScript.U64(raw)] } : first, .. second is null ? [] : new[] { second }],
        }.Bytes();
    }
}
