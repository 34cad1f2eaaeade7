using System.Globalization;
using Sconce.Engine.Weights.TorchZip;

namespace Sconce.Engine.Tests.Weights.TorchZip;

/// <summary>Pickles that do what a state dict does not need, or break a rule.</summary>
public sealed class PickleRuleTests
{
    // What PyTorch's writer emits, and so what is taken.
    private const string Taken = "(.JKMNQRXabceh}]jqrstu)G";

    private static readonly byte[] TakenToo = [0x85, 0x86, 0x87, 0x88, 0x89, 0x8a];

    [Fact]
    public void Every_other_opcode_is_refused_by_name_and_byte()
    {
        for (var opcode = 0; opcode < 256; opcode++)
        {
            if (Taken.Contains((char)opcode, StringComparison.Ordinal) || TakenToo.Contains((byte)opcode))
            {
                continue;
            }

            var error = Refused(new PickleScript().Op("}NN").Raw((byte)opcode).Raw(new byte[20]).Whole);
            Assert.Equal("PICKLE_REFUSED", error.Reason);
            Assert.Contains("at byte 5: opcode ", error.Message, StringComparison.Ordinal);
        }

        Assert.Contains("opcode STACK_GLOBAL", Refused(new PickleScript().Raw(0x93).Whole).Message, StringComparison.Ordinal);
        Assert.Contains("opcode INST", Refused(new PickleScript().Op("(ios\nsystem\n").Whole).Message, StringComparison.Ordinal);
        Assert.Contains("opcode 0xff, which no pickle has", Refused(new PickleScript().Raw(0xff).Whole).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("os", "system")]
    [InlineData("posix", "system")]
    [InlineData("builtins", "eval")]
    [InlineData("__builtin__", "getattr")]
    [InlineData("torch", "load")]
    [InlineData("torch", "Tensor")]
    [InlineData("torch.hub", "load")]
    [InlineData("torch._utils", "_rebuild_tensor")]
    [InlineData("torch._utils", "_rebuild_qtensor")]
    [InlineData("torch._tensor", "_rebuild_from_type_v2")]
    [InlineData("torch.nn.modules.linear", "Linear")]
    [InlineData("numpy.core.multiarray", "_reconstruct")]
    [InlineData("collections", "OrderedDict.fromkeys")]
    [InlineData("collections", "defaultdict")]
    [InlineData("torch.storage", "FloatStorage")]
    [InlineData("torch.cuda", "FloatStorage")]
    [InlineData("", "")]
    public void Every_other_global_is_refused_by_name_and_byte(string module, string name)
    {
        var error = Refused(PickleScript.Value(pickle => pickle.Global(module, name)));
        Assert.Equal((EngineError.InvalidArgument, "PICKLE_REFUSED"), (error.Error, error.Reason));
        Assert.Contains($"at byte 9: global \"{module}.{name}\"", error.Message, StringComparison.Ordinal);
        Assert.Contains("save module.state_dict()", error.Message, StringComparison.Ordinal);
    }

    public static TheoryData<string, string> Wrong => new()
    {
        // REDUCE and BUILD of what is not for them.
        { "X\u0001\0\0\0a)R", "opcode REDUCE of a str" },
        { "ctorch\nfloat32\n)R", "opcode REDUCE of torch.float32" },
        { "ctorch\nFloatStorage\n)R", "opcode REDUCE of torch.FloatStorage" },
        { "ctorch.storage\nUntypedStorage\n)R", "opcode REDUCE of torch.storage.UntypedStorage" },
        { "ccollections\nOrderedDict\nNR", "is called with None; it must be a tuple" },
        { "ccollections\nOrderedDict\n(NtR", "collections.OrderedDict is called with arguments" },
        { "ctorch\nSize\n)R", "torch.Size is called with arguments" },
        { "ctorch._utils\n_rebuild_tensor_v2\n)R", "torch._utils._rebuild_tensor_v2 is called with arguments" },
        { "ctorch._utils\n_rebuild_tensor_v2\n(NNNNNNtR", "torch._utils._rebuild_tensor_v2 is called with arguments" },
        { "ctorch._utils\n_rebuild_tensor_v3\n(NNNNNNNtR", "torch._utils._rebuild_tensor_v3 is called with arguments" },
        { "ctorch._utils\n_rebuild_parameter\n(NNNtR", "torch._utils._rebuild_parameter is called with arguments" },
        { "}}b", "opcode BUILD of a dict" },
        { "]}b", "opcode BUILD of a list" },
        { "N}b", "opcode BUILD of None" },
        { "ctorch\nfloat32\n}b", "opcode BUILD of torch.float32" },
        { "ccollections\nOrderedDict\n)RNb", "opcode BUILD with None" },

        // The stack.
        { "(((((u", "its stack holds 0 of the 1 values" },
        { "t", "there is no mark" },
        { "(tt", "there is no mark" },
        { "u", "there is no mark" },
        { "(R", "its stack holds 0 of the 1 values" },
        { "(NR", "its stack holds 0 of the 1 values" },
        { "(N\u0086", "its stack holds 1 of the 2 values" },
        { "(q\0", "its stack holds 0 of the 1 values" },
        { "(N(b", "its stack holds 0 of the 1 values" },

        // Containers.
        { "}Na", "an item is appended to a dict" },
        { ")Na", "an item is appended to a tuple" },
        { "](Nu", "an item is set of a list" },
        { ")NNs", "an item is set of a tuple" },
        { "}(NNNu", "3 values are no pairs" },
        { "}]Ns", "a list is a key" },
        { "}}Ns", "a dict is a key" },

        // The memo.
        { "h\0", "place 0 of its memo was never set" },
        { "j\0\0\0\u0080", "place 2,147,483,648 of its memo was never set" },
        { "Nq\u0001h\0", "place 0 of its memo was never set" },
        { "Nr\0\0\u0010\0", "place 1,048,576 of its memo is set; 1,048,576 places are the most" },
        { "Nr\u00ff\u00ff\u00ff\u00ff", "of its memo is set" },

        // Arguments.
        { "X\u00ff\u00ff\u00ff\u00ff", "a string has 4,294,967,295 bytes" },
        { "X\u0001\0\u0010\0", "a string has 1,048,577 bytes" },
        { "X\u00ff\0\0\0a", "its argument reaches beyond the end" },
        { "X\u0002\0\0\0\u00c3\u0028", "a string is not UTF-8" },
        { "X\u0003\0\0\0\u00ed\u00a0\u0080", "a string is not UTF-8" },
        { "\u008a\u00ff\0", "its argument reaches beyond the end" },
        { "J\0\0\0", "its stack" },
        { "cos", "the name of a global has no end" },
        { "c" + "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo" + "\nx\n", "the name of a global has no end within 256 bytes" },

        // Persistent ids.
        { "NQ", "opcode BINPERSID of something else" },
        { "K\u0001Q", "opcode BINPERSID of something else" },
        { ")Q", "opcode BINPERSID of something else" },
        { "(X\u0006\0\0\0moduleNNNNtQ", "opcode BINPERSID of something else" },
        { "(X\u0007\0\0\0storagectorch\nfloat32\nX\u0001\0\0\x00000X\u0003\0\0\0cpuK\u0004tQ", "opcode BINPERSID of something else" },
        { "(X\u0007\0\0\0storagectorch\nFloatStorage\nX\u0001\0\0\x00000X\u0003\0\0\0cpuJ\u00ff\u00ff\u00ff\u00fftQ", "storage \"0\" has -1 elements" },
        { "(X\u0007\0\0\0storagectorch\nFloatStorage\nX\u0001\0\0\x00000X\u0003\0\0\0cpuNtQ", "opcode BINPERSID of something else" },
    };

    [Theory]
    [MemberData(nameof(Wrong))]
    public void Value_that_breaks_a_rule_is_refused_at_its_byte(string opcodes, string words)
    {
        var error = Refused(PickleScript.Value(pickle => pickle.Op(opcodes)));
        Assert.Equal(EngineError.InvalidArgument, error.Error);
        Assert.Contains(words, error.Message, StringComparison.Ordinal);
        Assert.Contains("at byte ", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("", "its opcode STOP is missing")]
    [InlineData("}", "its opcode STOP is missing")]
    [InlineData("}.N", "something follows its end")]
    [InlineData(".", "its stack must hold one value")]
    [InlineData("}N.", "its stack must hold one value")]
    [InlineData("(}.", "its stack must hold one value")]
    [InlineData("}(.", "its stack must hold one value")]
    public void Pickle_without_a_proper_end_is_refused(string opcodes, string words) =>
        Assert.Contains(words, Refused([0x80, 2, .. new PickleScript().Op(opcodes).Bytes]).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData(new byte[] { }, "its opcode STOP is missing")]
    [InlineData(new byte[] { (byte)'}', (byte)'.' }, "it does not begin with opcode PROTO")]
    [InlineData(new byte[] { 0x80 }, "its argument reaches beyond the end")]
    [InlineData(new byte[] { 0x80, 2, (byte)'}', 0x80, 2, (byte)'.' }, "opcode PROTO")]
    [InlineData(new byte[] { 0x80, 5, (byte)'}', (byte)'.' }, "pickle protocol 5")]
    public void Pickle_without_a_proper_beginning_is_refused(byte[] pickle, string words) =>
        Assert.Contains(words, Refused(pickle).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("tuples", "nested more than 128 deep")]
    [InlineData("dicts", "nested more than 128 deep")]
    [InlineData("list in itself", "nested more than 128 deep")]
    [InlineData("marks", "128 marks are open")]
    [InlineData("stack", "its stack holds 131,072 values")]
    [InlineData("lists", "its values take more than")]
    [InlineData("wide tuples", "its values take more than")]
    [InlineData("long strings", "its values take more than")]
    public void Bomb_is_refused_before_it_grows(string bomb, string words)
    {
        var script = new PickleScript();
        _ = bomb switch
        {
            "tuples" => Repeat(script.Op("N"), 1_000_000, [0x85]),
            "dicts" => Repeat(Repeat(script, 1_000, "}N"u8).Op("N"), 1_000, "s"u8),
            "list in itself" => Repeat(script.Op("]q\0"), 1_000, "h\0a"u8),
            "marks" => Repeat(script, 1_000_000, "("u8),
            "stack" => Repeat(script, 1_000_000, "N"u8),
            "lists" => Repeat(script.Op("]"), 4_000_000, "]a"u8),
            "wide tuples" => Repeat(script, 60, [(byte)'(', .. Enumerable.Repeat((byte)'N', 100_000), (byte)'t']),
            _ => Repeat(script, 70, new PickleScript().Text(new string('x', 1_000_000)).Bytes),
        };
        var pickle = script.Whole;
        var before = GC.GetAllocatedBytesForCurrentThread();
        var error = Assert.Throws<EngineException>(() => PickleMachine.Read(pickle));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 256L << 20);
        Assert.Contains(words, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Pickle_larger_than_is_read_is_refused_unread()
    {
        var script = new ZipScript { Parts = [new("a/data.pkl", []) { Zeros = TorchZipLimits.PickleBytes + 1 }] };
        var source = script.Source();
        var error = Assert.Throws<EngineException>(() => TorchZipFile.Open(source));
        Assert.Equal("TORCH_ZIP_LIMIT", error.Reason);
        Assert.InRange(source.BytesRead, 0, 10_000);
    }

    [Fact]
    public void More_tensors_than_are_read_are_refused()
    {
        var many = new PickleScript().Op("}(").Text("first").Tensor(new()).Op("q\0");
        for (var i = 0; i < TorchZipLimits.Tensors; i++)
        {
            many.Text(i.ToString(CultureInfo.InvariantCulture)).Op("h\0");
            if (i % 1_000 == 0)
            {
                many.Op("u(");
            }
        }

        var error = Refused(many.Op("u").Whole);
        Assert.Contains("has 65,537 entries; at most 65,536 are taken", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("", "has an empty name")]
    [InlineData("a\nb", "has a control character in it")]
    public void Name_that_no_module_has_is_refused(string name, string words) =>
        Assert.Contains(words, Refused(new PickleScript().Op("}").Text(name).Tensor(new()).Op("s").Whole).Message, StringComparison.Ordinal);

    [Fact]
    public void Name_that_is_too_long_or_there_twice_is_refused()
    {
        Assert.Contains("has 1,025 characters", Refused(new PickleScript().Op("}").Text(new string('k', 1_025)).Tensor(new()).Op("s").Whole).Message, StringComparison.Ordinal);
        Assert.Contains("\"w\" is there twice", Refused(new PickleScript().Op("}(").Text("w").Tensor(new()).Text("w").Tensor(new()).Op("u").Whole).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void State_dict_within_itself_ends_the_search()
    {
        var error = Refused(new PickleScript().Op("}q\0(").Text("a").Op("h\0").Text("b").Op("}").Text("w").Tensor(new()).Op("su").Whole);
        Assert.Contains("under \"b\" (1 tensors)", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Root_within_itself_is_followed_so_far_and_no_further()
    {
        var pickle = new PickleScript().Op("}q\0(").Text("a").Op("h\0").Text("a.b").Op("}").Text("w").Tensor(new()).Op("su").Whole;
        using var file = TorchZipFile.Open(ZipScript.Of(pickle, ("0", new byte[16])).Source(), "a.a.a.b");
        Assert.Equal("w", file.Entries[0].Key);
        Assert.Contains("holds nothing under", TorchZipFixtures.Refused(ZipScript.Of(pickle, ("0", new byte[16])).Bytes(), string.Join('.', Enumerable.Repeat("a", 400))).Message, StringComparison.Ordinal);
        Assert.Contains("root has 2,000 characters", TorchZipFixtures.Refused(ZipScript.Of(pickle, ("0", new byte[16])).Bytes(), new string('a', 2_000)).Message, StringComparison.Ordinal);
    }

    private static PickleScript Repeat(PickleScript script, int count, ReadOnlySpan<byte> bytes)
    {
        for (var i = 0; i < count; i++)
        {
            script.Raw(bytes.ToArray());
        }

        return script;
    }

    private static EngineException Refused(byte[] pickle) => TorchZipFixtures.Refused(ZipScript.Of(pickle, ("0", new byte[16])).Bytes());
}
