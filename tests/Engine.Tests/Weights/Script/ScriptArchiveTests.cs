using Sconce.Engine.Tests.Weights.TorchZip;
using Sconce.Engine.Weights.Script;
using Sconce.Engine.Weights.TorchZip;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Weights.Script;

/// <summary>Files of real PyTorch are taken and compute what they did there; those that do what a file must not are refused by name and place.</summary>
public sealed class ScriptArchiveTests
{
    public static TheoryData<string> Good => [.. ScriptFiles.Good];

    [Theory]
    [MemberData(nameof(Good))]
    public void What_is_written_of_a_file_computes_what_PyTorch_computed(string name)
    {
        var file = Path.GetTempFileName();
        try
        {
            File.WriteAllBytes(file, ScriptFiles.Rewritten(ScriptFiles.Bytes(name)));
            using var scope = NewDisposeScope();
            var module = jit.load(file);
            module.eval();
            var expected = ScriptFiles.ExpectedOf(name);
            var type = name == "half.pt" ? ScalarType.BFloat16 : ScalarType.Float32;
            var inputs = expected.GetProperty("inputs").EnumerateArray().Select(input => (object)ScriptFiles.Value(input, type)).ToArray();
            var given = module.invoke("forward", inputs);
            var output = given as Tensor ?? (Tensor)((System.Runtime.CompilerServices.ITuple)given!)[0]!;
            Assert.True(output.to(ScalarType.Float32).allclose(ScriptFiles.Value(expected.GetProperty("output")), 1e-4, 1e-5), output.str());
            Assert.Equal(expected.GetProperty("state").EnumerateArray().Select(entry => entry.GetProperty("key").GetString()!).Order(), module.state_dict().Keys.Order());
        }
        finally
        {
            File.Delete(file);
        }
    }

    [Fact]
    public void Only_tensors_values_and_code_are_kept()
    {
        var records = ScriptFiles.Records(ScriptFiles.Bytes("scripted.pt"));
        Assert.Contains(records.Keys, name => name.EndsWith(".debug_pkl", StringComparison.Ordinal));
        var kept = ScriptFiles.Records(ScriptFiles.Rewritten(ScriptFiles.Bytes("scripted.pt")));
        Assert.Equal(records.Where(record => !record.Key.EndsWith(".debug_pkl", StringComparison.Ordinal)).OrderBy(record => record.Key, StringComparer.Ordinal).Select(record => record.Key), kept.Keys);
        Assert.All(kept, record => Assert.Equal(records[record.Key], record.Value));
    }

    [Fact]
    public void Its_operators_and_classes_are_listed()
    {
        using var archive = ScriptArchive.Open(new MemorySource(ScriptFiles.Bytes("scripted.pt")), ScriptOperators.Standard);
        Assert.Contains("aten::linear", archive.Operators);
        Assert.Contains("prim::RaiseException", archive.Operators);
        Assert.Contains("__torch__.Net", archive.Classes);
        Assert.Contains("__torch__.torch.nn.modules.linear.Linear", archive.Classes);
    }

    [Theory]
    [InlineData("Prints.pt", "SCRIPT_OPERATOR_REFUSED", "print (code/__torch__.py:8)")]
    [InlineData("ReadsFile.pt", "SCRIPT_OPERATOR_REFUSED", "aten::from_file (code/__torch__.py:8)")]
    [InlineData("WritesFile.pt", "SCRIPT_OPERATOR_REFUSED", "aten::save (code/__torch__.py:8)")]
    [InlineData("SetsState.pt", "SCRIPT_OPERATOR_REFUSED", "def __getstate__ (code/__torch__.py:")]
    [InlineData("Forks.pt", "SCRIPT_MALFORMED", "def is within a function")]
    public void Hostile_files_of_PyTorch_are_refused(string name, string reason, string message)
    {
        var error = ScriptFiles.Refused(ScriptFiles.Bytes(name));
        Assert.Equal(reason, error.Reason);
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_operator_may_allow_more()
    {
        Assert.NotEmpty(ScriptFiles.Rewritten(ScriptFiles.Bytes("ReadsFile.pt"), ScriptOperators.With(["aten::from_file"])));
        Assert.Equal("BAD_OPERATOR_NAME", Assert.Throws<EngineException>(() => ScriptOperators.With(["torch.from_file"])).Reason);
        Assert.Equal("SCRIPT_OPERATOR_REFUSED", ScriptFiles.Refused(ScriptFiles.Bytes("Prints.pt"), ScriptOperators.With(["prim::print", "aten::print"])).Reason);
    }

    [Fact]
    public void A_state_dict_and_other_files_are_no_script()
    {
        Assert.Equal("NOT_A_SCRIPT", ScriptFiles.Refused(TorchZipFixtures.Bytes("module.pth")).Reason);
        Assert.Equal("NOT_A_SCRIPT", ScriptFiles.Refused(TorchZipFixtures.Bytes("legacy.pt")).Reason);
        Assert.Equal("NOT_A_SCRIPT", ScriptFiles.Refused([]).Reason);
        Assert.Equal("TORCH_ZIP_MALFORMED", ScriptFiles.Refused(ScriptFiles.Bytes("traced.pt")[..^1]).Reason);
    }

    [Fact]
    public void A_damaged_tensor_is_found_when_it_is_written()
    {
        var bytes = ScriptFiles.Bytes("traced.pt");
        var record = ZipDirectory.Read(new MemorySource(bytes)).Values.First(one => one.Name.EndsWith("data/2", StringComparison.Ordinal));
        bytes[record.Offset] ^= 1;
        Assert.Equal("CRC_MISMATCH", Assert.Throws<EngineException>(() => ScriptFiles.Rewritten(bytes)).Reason);
    }
}
