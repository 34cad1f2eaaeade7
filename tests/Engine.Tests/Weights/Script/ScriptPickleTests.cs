using System.Text;
using Sconce.Engine.Weights.Script;

namespace Sconce.Engine.Tests.Weights.Script;

/// <summary>What a file's pickles say is checked before libtorch believes it.</summary>
public sealed class ScriptPickleTests
{
    // The beginning of an object of the class M, and its end.
    private const string Begin = "\u0080\u0002c__torch__\nM\n)\u0081}(";
    private const string End = "ub.";

    [Fact]
    public void What_jit_save_writes_is_taken()
    {
        Assert.NotEmpty(ScriptFiles.Rewritten(File(Begin + Named("a") + Tensor("K\u0002\u0085", "K\u0001\u0085") + Named("training") + "\u0088" + End)));
        Assert.NotEmpty(ScriptFiles.Rewritten(File(Begin + Named("a") + "ctorch.jit._pickle\nbuild_intlist\n](K\u0001e\u0085R" + Named("b") + "ctorch.jit._pickle\nrestore_type_tag\n}(" + Named("k") + "Gxxxxxxxxu" + Text("Dict[str, float]") + "\u0086R" + End)));
        Assert.NotEmpty(ScriptFiles.Rewritten(File(Begin + Named("part") + "c__torch__\nP\n)\u0081}b" + Named("other") + "c__torch__\nP\n)\u0081}b" + End, "part : __torch__.P\nother : Optional[__torch__.P]", "class P:\n  x : int")));
        Assert.NotEmpty(ScriptFiles.Rewritten(File(Begin + Named("color") + "c__torch__\nC\nK\u0001R" + End, "color : __torch__.C", "class C(Enum):\n  RED = 1")));
    }

    [Theory]
    [InlineData("K\u0003\u0085", "K\u0001\u0085", "K\0", 2)]
    [InlineData("K\u0002\u0085", "K\u0002\u0085", "K\0", 2)]
    [InlineData("K\u0002\u0085", "K\u0001\u0085", "K\u0001", 2)]
    [InlineData("K\u0002\u0085", "K\u0001\u0085", "J\u00ff\u00ff\u00ff\u00ff", 2)]
    [InlineData("K\u0001\u0085", "K\u0001\u0085", "K\0", 3)]
    [InlineData("K\u0002\u0085", "K\u0001K\u0001\u0086", "K\0", 2)]
    [InlineData("\u008a\u0008\0\0\0\0\0\0\0\u0040\u0085", "K\u0001\u0085", "K\0", 2)]
    public void A_tensor_that_is_not_within_its_storage_is_refused(string sizes, string strides, string offset, int elements)
    {
        var error = ScriptFiles.Refused(File(Begin + Named("a") + Tensor(sizes, strides, offset, elements) + End));
        Assert.Contains(error.Reason, (string[])["TENSOR_MALFORMED", "INVALID_ARGUMENT"]);
        Assert.Contains("data.pkl:", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("cos\nsystem\n", "os.system")]
    [InlineData("ctorch._utils\n_rebuild_sparse_tensor\n", "_rebuild_sparse_tensor")]
    [InlineData("ctorch._utils\n_rebuild_qtensor\n", "_rebuild_qtensor")]
    [InlineData("ctorch.distributed.rpc\nrref\n", "rref")]
    [InlineData("c__torch__.torch.classes.quantized\nEmbeddingPackedParamsBase\n", "EmbeddingPackedParamsBase")]
    [InlineData("c__torch__\nNowhere\n", "Nowhere")]
    [InlineData("c__main__\nTensorID\n", "TensorID")]
    [InlineData("i__torch__\nM\n", "INST")]
    [InlineData("P0\n", "PERSID")]
    [InlineData("K\u0001\u0085Q", "BINPERSID")]
    [InlineData("N2", "DUP")]
    [InlineData("N)R", "REDUCE")]
    [InlineData("N)\u0081", "NEWOBJ")]
    [InlineData("c__torch__\nM\nN\u0081", "NEWOBJ")]
    [InlineData("N}b", "BUILD")]
    [InlineData("c__torch__\nM\n)\u0081", "an object in the place of a value")]
    [InlineData("c__torch__\nM\n)\u0081q\0}b", "remembered before")]
    [InlineData("c__torch__\nM\n", "__torch__.M in the place of a value")]
    [InlineData("ctorch\nFloatStorage\n", "torch.FloatStorage in the place of a value")]
    [InlineData("ctorch\nFloatStorage\n\u0085\u0085", "a tuple in the place of a value")]
    [InlineData("]q\0(h\0e", "filled after it was remembered")]
    [InlineData("](K\u0001e(K\u0002e", "or twice")]
    [InlineData("](c__torch__\nM\n)\u0081}be", "a tuple or list that holds an object")]
    [InlineData("c__torch__\nM\n)\u0081}b\u0085", "a tuple or list that holds an object")]
    [InlineData("}(X\u0001\0\0\0kc__torch__\nM\n)\u0081}bu", "a dict in the place of a value")]
    [InlineData("ctorch.jit._pickle\nrestore_type_tag\n]X\u0008\0\0\0List[x()\u0086R", "is never closed")]
    [InlineData("ctorch.jit._pickle\nrestore_type_tag\n]X\u0011\0\0\0List[__torch__.X]\u0086R", "names a class which its code lacks")]
    [InlineData("ctorch.jit._pickle\nrestore_type_tag\nK\u0001X\u0003\0\0\0int\u0086R", "restore_type_tag")]
    [InlineData("c__torch__\nM\nK\u0001R", "REDUCE")]
    public void What_it_never_writes_is_refused(string value, string message)
    {
        var error = ScriptFiles.Refused(File(Begin + Named("a") + value + End));
        Assert.Contains(error.Reason, (string[])["PICKLE_REFUSED", "PICKLE_MALFORMED", "SCRIPT_MALFORMED"]);
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("a : __torch__.P", "c__torch__\nM\n)\u0081}b")]
    [InlineData("a : Optional[__torch__.P]", "c__torch__\nM\n)\u0081}b")]
    [InlineData("a : Tensor", "c__torch__\nP\n)\u0081}b")]
    [InlineData("a : __torch__.P", "K\u0001")]
    public void An_object_is_of_the_class_that_the_code_declares(string attribute, string value) =>
        Assert.Contains("its code declares", ScriptFiles.Refused(File(Begin + Named("a") + value + End, attribute, "class P:\n  x : int")).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData(Begin + "u", "one value when it ends")]
    [InlineData("\u0080\u0002b.", "its stack holds 0")]
    [InlineData("\u0080\u0002e.", "mark")]
    [InlineData("\u0080\u0002h\u0005.", "memo")]
    [InlineData("\u0080\u0002N.", "no object of a class")]
    [InlineData("\u0080\u0002X\u00ff\u00ff\u00ff\u007f.", "string")]
    [InlineData("\u0080\u0004N.", "protocol")]
    [InlineData("N.", "PROTO")]
    public void A_pickle_that_is_none_is_refused(string pickle, string message) => Assert.Contains(message, ScriptFiles.Refused(File(pickle + (pickle.EndsWith('.') ? "" : "."))).Message, StringComparison.Ordinal);

    [Fact]
    public void Objects_and_types_have_limits()
    {
        var many = string.Concat(Enumerable.Repeat("h\0)\u0081}b0", ScriptLimits.Objects + 1).Select(one => one[..^1]));
        Assert.Contains("objects", ScriptFiles.Refused(File("\u0080\u0002c__torch__\nM\nq\0)\u0081}(" + many + End)).Message, StringComparison.Ordinal);
        var type = $"List[{new string('a', ScriptLimits.TypeLength)}]";
        var long1 = ScriptFiles.Refused(File(Begin + Named("a") + "ctorch.jit._pickle\nrestore_type_tag\n]X" + (char)(type.Length & 255) + (char)(type.Length >> 8) + "\0\0" + type + "\u0086R" + End));
        Assert.Contains("characters", long1.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Constants_are_tensors_within_their_storages()
    {
        Assert.Contains("tuple of tensors", ScriptFiles.Refused(File(Begin + End, constants: "\u0080\u0002K\u0001\u0085.")).Message, StringComparison.Ordinal);
        var error = ScriptFiles.Refused(File(Begin + End, constants: "\u0080\u0002" + Tensor("K\u0009\u0085", "K\u0001\u0085") + "\u0085."));
        Assert.Contains("constants.pkl:", error.Message, StringComparison.Ordinal);
    }

    private static string Named(string name) => Text(name);

    private static string Text(string text) => $"X{(char)text.Length}\0\0\0{text}";

    private static string Tensor(string sizes, string strides, string offset = "K\0", int elements = 2) =>
        $"ctorch._utils\n_rebuild_tensor_v2\n((X\u0007\0\0\0storagectorch\nFloatStorage\nX\u0001\0\0\00X\u0003\0\0\0cpuK{(char)elements}tQ{offset}{sizes}{strides}\u0089ccollections\nOrderedDict\n)RtR";

    // A file with one storage of two floats, for values and for constants.
    private static byte[] File(string pickle, string attributes = "", string beside = "", string? constants = null)
    {
        var records = ScriptFiles.Records(ScriptFiles.With("return x", attributes, beside));
        records["data.pkl"] = Encoding.Latin1.GetBytes(pickle);
        records["data/0"] = records["constants/0"] = new byte[8];
        records["constants.pkl"] = constants is null ? records["constants.pkl"] : Encoding.Latin1.GetBytes(constants);
        return ScriptFiles.Of(records);
    }
}
