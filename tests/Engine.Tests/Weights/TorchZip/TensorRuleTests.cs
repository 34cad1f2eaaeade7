using Sconce.Engine.Tensors;
using Sconce.Engine.Weights.TorchZip;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Weights.TorchZip;

/// <summary>Tensors that reach beyond their storages, storages that are not their records, and views of all kinds.</summary>
public sealed class TensorRuleTests
{
    public static TheoryData<string, string> Wrong => new()
    {
        { "missing record", "\"w\" of the PyTorch file has its elements in record \"archive/data/7\", which is missing" },
        { "record above", "in record \"archive/data/../data.pkl\", which is missing" },
        { "storage longer", "has a storage of 5 elements of 4 bytes; its record \"archive/data/0\" has 16 bytes" },
        { "storage shorter", "has a storage of 3 elements of 4 bytes" },
        { "storage of another type", "has a storage of 4 elements of 8 bytes" },
        { "storage overflows", "has a storage of 4,611,686,018,427,387,908 elements" },
        { "size beyond", "reaches beyond its storage: offset 0, shape [5], strides [1], and 4 elements" },
        { "offset beyond", "reaches beyond its storage: offset 1, shape [4]" },
        { "offset far beyond", "reaches beyond its storage" },
        { "offset negative", "reaches beyond its storage: offset -1" },
        { "offset negative of nothing", "reaches beyond its storage: offset -1" },
        { "stride beyond", "reaches beyond its storage: offset 0, shape [2, 2], strides [3, 1]" },
        { "stride negative", "has a stride of -1" },
        { "stride overflows", "reaches beyond its storage" },
        { "products overflow", "reaches beyond its storage" },
        { "size negative", "tensors[\"w\"].shape[0]: is -4; it must be >= 0" },
        { "sizes overflow", "the tensor would have 2^63 bytes or more" },
        { "sizes beside nothing overflow", "the tensor would have 2^63 bytes or more" },
        { "rank", "has 65 dimensions; at most 64 are possible" },
        { "strides fewer", "has 2 sizes and 1 strides" },
        { "strides more", "has 1 sizes and 2 strides" },
    };

    [Theory]
    [MemberData(nameof(Wrong))]
    public void Tensor_that_is_not_within_its_storage_is_refused_by_name(string what, string words)
    {
        const long Huge = 1L << 62;
        PickleScript.Given tensor = what switch
        {
            "missing record" => new(Storage: "7"),
            "record above" => new(Storage: "../data.pkl"),
            "storage longer" => new(Count: 5),
            "storage shorter" => new(Count: 3),
            "storage of another type" => new(Type: "DoubleStorage"),
            "storage overflows" => new(Count: Huge + 4),
            "size beyond" => new(Sizes: [5]),
            "offset beyond" => new(Offset: 1),
            "offset far beyond" => new(Offset: long.MaxValue, Sizes: [1]),
            "offset negative" => new(Offset: -1),
            "offset negative of nothing" => new(Offset: -1, Sizes: [0]),
            "stride beyond" => new(Sizes: [2, 2], Strides: [3, 1]),
            "stride negative" => new(Offset: 3, Strides: [-1]),
            "stride overflows" => new(Sizes: [3], Strides: [long.MaxValue]),
            "products overflow" => new(Sizes: [1 << 20, 1 << 20, 2], Strides: [long.MaxValue, long.MaxValue, long.MaxValue]),
            "size negative" => new(Sizes: [-4]),
            "sizes overflow" => new(Sizes: [Huge, 4], Strides: [0, 0]),
            "sizes beside nothing overflow" => new(Sizes: [0, Huge, 4], Strides: [0, 0, 0]),
            "rank" => new(Sizes: [.. Enumerable.Repeat(1L, 65)], Strides: [.. Enumerable.Repeat(1L, 65)]),
            "strides fewer" => new(Sizes: [2, 2]),
            _ => new(Strides: [1, 1]),
        };
        var error = Refused(PickleScript.State(tensor));
        Assert.Equal(EngineError.InvalidArgument, error.Error);
        Assert.Contains(words, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("QInt8Storage", "tensor \"w\" is of torch.QInt8Storage, which this server does not have")]
    [InlineData("QUInt4x2Storage", "torch.QUInt4x2Storage")]
    public void Element_type_that_the_server_lacks_is_refused_by_name(string type, string words)
    {
        var error = Refused(PickleScript.State(new(Type: type)));
        Assert.Equal((EngineError.Unimplemented, "DTYPE_UNSUPPORTED"), (error.Error, error.Reason));
        Assert.Contains(words, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Tensors_of_untyped_storages_as_newer_PyTorch_writes_them_are_read_where_the_server_has_the_type()
    {
        using var file = Open(Untyped("float32"), 16);
        Assert.Equal(new long[] { 4 }, file.Entries[0].Shape);
        file.Read(0).Dispose();
        var error = Refused(Untyped("float8_e4m3fn"));
        Assert.Equal((EngineError.Unimplemented, "DTYPE_UNSUPPORTED"), (error.Error, error.Reason));
        Assert.Contains("torch.float8_e4m3fn", error.Message, StringComparison.Ordinal);
        Assert.Contains("called with an untyped storage", Refused(PickleScript.State(new(Type: "x.UntypedStorage", Count: 16))).Message, StringComparison.Ordinal);

        static byte[] Untyped(string type) => PickleScript.Value(pickle => pickle.Global("torch._utils", "_rebuild_tensor_v3").Op("(")
            .Storage(new(Type: "x.UntypedStorage", Count: 16)).Int(0).Ints(4).Ints(1).Raw(0x89).OrderedDict().Global("torch", type).Op("tR"));
    }

    [Theory]
    [InlineData("conj", 0x88, "LAZY_TENSOR", "tensor \"w\" has the conj bit set")]
    [InlineData("neg", 0x88, "LAZY_TENSOR", "resolve_neg()")]
    [InlineData("neg", 0x89, null, "")]
    [InlineData("grad_fn", 0x88, "PICKLE_REFUSED", "a tensor with \"grad_fn\" in its metadata")]
    public void Lazy_flags_are_refused_where_they_are_set(string flag, byte value, string? reason, string words)
    {
        var pickle = PickleScript.Value(pickle => pickle.Global("torch._utils", "_rebuild_tensor_v2").Op("(").Storage(new()).Int(0).Ints(4).Ints(1).Raw(0x89).OrderedDict()
            .Op("}").Text(flag).Raw(value).Op("stR"));
        if (reason is null)
        {
            Open(pickle, 16).Dispose();
            return;
        }

        var error = Refused(pickle);
        Assert.Equal(reason, error.Reason);
        Assert.Contains(words, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Parameter_is_read_as_its_tensor_and_its_attributes_are_let_go()
    {
        using var file = Open(PickleScript.Value(pickle => pickle.Global("torch._utils", "_rebuild_parameter_with_state").Op("(").Tensor(new()).Raw(0x88).OrderedDict()
            .Op("}").Text("no_weight_decay").Raw(0x88).Op("stR")), 16);
        Assert.Equal("w", file.Entries[0].Key);
        var hooks = Refused(PickleScript.Value(pickle => pickle.Global("torch._utils", "_rebuild_parameter").Op("(").Tensor(new()).Raw(0x88).Op("}NNstR")));
        Assert.Contains("is called with arguments that PyTorch does not give it", hooks.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Small_storage_that_is_expanded_shows_its_whole_size_and_opening_it_takes_nothing()
    {
        using var file = Open(PickleScript.State(new(Sizes: [1L << 40, 1 << 20], Strides: [0, 0])), 16);
        Assert.Equal(new long[] { 1L << 40, 1 << 20 }, file.Entries[0].Shape);
        Assert.Equal(1L << 62, TensorLayout.ByteLength(file.Entries[0].Type, file.Entries[0].Shape, default));
        var error = Assert.Throws<EngineException>(() => file.Read(0));
        Assert.Equal((EngineError.ResourceExhausted, "OUT_OF_MEMORY"), (error.Error, error.Reason));
    }

    [Fact]
    public void Bool_that_is_neither_0_nor_1_is_refused_when_it_is_read()
    {
        using var file = TorchZipFile.Open(ZipScript.Of(PickleScript.State(new(Type: "BoolStorage")), ("0", [0, 1, 2, 1])).Source());
        var error = Assert.Throws<EngineException>(() => file.Read(0));
        Assert.Contains("tensors[\"w\"]: has 2 at byte 2; a bool is 0 or 1", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Bool_in_a_large_tensor_is_told_by_its_place_in_the_tensor()
    {
        var bytes = new byte[(1 << 20) + 10];
        bytes[^3] = 7;
        using var file = TorchZipFile.Open(ZipScript.Of(PickleScript.State(new(Type: "BoolStorage", Count: bytes.Length, Sizes: [bytes.Length])), ("0", bytes)).Source());
        Assert.Contains($"has 7 at byte {bytes.Length - 3};", Assert.Throws<EngineException>(() => file.Read(0)).Message, StringComparison.Ordinal);
    }

    // Larger than the window that a strided read takes at once, in every order of strides.
    [Theory]
    [InlineData(new long[] { 3, 2_000_001 }, new long[] { 1, 3 }, 5)]
    [InlineData(new long[] { 2_000_001, 3 }, new long[] { 1, 2_000_001 }, 0)]
    [InlineData(new long[] { 2, 3, 2 }, new long[] { 1, 2_300_000, 700_000 }, 11)]
    [InlineData(new long[] { 5, 2, 4, 2 }, new long[] { 3, 4_000_000, 0, 1 }, 2)]
    [InlineData(new long[] { 3_000_000, 2 }, new long[] { 2, 1 }, 1)]
    [InlineData(new long[] { 1, 4, 1 }, new long[] { 9, 2_000_000, 9 }, 0)]
    public void Strided_views_larger_than_the_window_are_those_of_libtorch(long[] sizes, long[] strides, long offset)
    {
        using var scope = NewDisposeScope();
        var count = offset + 1 + sizes.Zip(strides, (size, stride) => (size - 1) * stride).Sum();
        var elements = arange(count, ScalarType.Float64);
        var bytes = TorchZipFixtures.Bits(elements);
        using var file = TorchZipFile.Open(ZipScript.Of(PickleScript.State(new(Type: "DoubleStorage", Count: count, Offset: offset, Sizes: sizes, Strides: strides)), ("0", bytes)).Source());
        using var read = file.Read(0);
        Assert.True(read.equal(elements.as_strided(sizes, strides, offset)).all().item<bool>());
    }

    [Fact]
    public void Elements_far_apart_are_read_without_what_is_between_them()
    {
        // Each stretch of the storage is one element of the tensor; its checksum was taken before.
        const long Stride = 3 << 20;
        var count = (8 * Stride) + 1;
        var source = ZipScript.Of(PickleScript.State(new(Type: "DoubleStorage", Count: count, Sizes: [9], Strides: [Stride])), ("0", new byte[count * 8])).Source();
        using var file = TorchZipFile.Open(source);
        file.Read(0).Dispose();
        var before = source.BytesRead;
        file.Read(0).Dispose();
        Assert.Equal(9 * 8, source.BytesRead - before);
    }

    private static TorchZipFile Open(byte[] pickle, int bytes) => TorchZipFile.Open(ZipScript.Of(pickle, ("0", new byte[bytes])).Source());

    private static EngineException Refused(byte[] pickle) => TorchZipFixtures.Refused(ZipScript.Of(pickle, ("0", new byte[16])).Bytes());
}
