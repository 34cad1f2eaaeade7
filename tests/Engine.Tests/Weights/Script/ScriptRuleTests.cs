using System.Text;
using Sconce.Engine.Weights.Script;

namespace Sconce.Engine.Tests.Weights.Script;

/// <summary>Each way by which code could come to something that the allow-list lacks, and what it is told.</summary>
public sealed class ScriptRuleTests
{
    [Theory]
    [InlineData("return torch.relu(x)")]
    [InlineData("_0 = torch.relu\nreturn _0(x)")]
    [InlineData("if torch.gt(torch.dim(x), 1):\n  y = ops.prim.NumToTensor(1)\nelse:\n  y = x\nreturn y")]
    [InlineData("return torch.add(x, 1., alpha=-1)")]
    [InlineData("a = \"torch.save(x, \\\"f\\\") # not code\"\nreturn x")]
    [InlineData("# torch.save\nreturn x")]
    [InlineData("return (x)[0] * -1e-05 + x.shape[0]")]
    [InlineData("return torch.remainder(torch.add(x, 1), 7)")]
    [InlineData("return unchecked_cast(Tuple[Tensor, Tensor], x)[0]")]
    public void Pure_code_is_taken(string forward) => Assert.NotEmpty(ScriptFiles.Rewritten(ScriptFiles.With(forward)));

    [Theory]
    [InlineData("return torch.from_file(\"/etc/passwd\")", "aten::from_file (code/__torch__.py:8)")]
    [InlineData("f = torch.save\nreturn f(x, \"f\")", "aten::save (code/__torch__.py:8)")]
    [InlineData("return ops.aten.save(x, \"f\")", "aten::save")]
    [InlineData("return ops.prims.copy_to(x, x)", "prims::copy_to")]
    [InlineData("return ops.mine.steal(x)", "mine::steal")]
    [InlineData("return ops.prim.Print(x)", "prim::Print")]
    [InlineData("return torch.autograd.save(x, \"f\")", "aten::autograd")]
    [InlineData("return (x).save(\"f\")", "aten::save")]
    [InlineData("return x.set_(x)", "aten::set_")]
    [InlineData("f = x.save\nreturn f(\"f\")", "aten::save")]
    [InlineData("return getattr(x, \"save\")(\"f\")", "aten::save")]
    [InlineData("return getattr(x, \"never_declared\")", ".never_declared")]
    [InlineData("return x.never_declared(1)", ".never_declared")]
    [InlineData("return __torch__.nowhere.f(x)", "__torch__.nowhere.f")]
    [InlineData("return __torch__.torch.classes.io.File(\"f\")", "__torch__.torch.classes.io.File")]
    [InlineData("print(x)\nreturn x", "print")]
    [InlineData("f = print\nreturn x", "print")]
    [InlineData("return fork(x)", "fork")]
    [InlineData("return unknown(x)", "unknown")]
    [InlineData("with x:\n  pass\nreturn x", "with")]
    [InlineData("import os\nreturn x", "import")]
    [InlineData("return torch.empty([1])", "aten::empty")]
    [InlineData("torch.manual_seed(1)\nreturn x", "aten::manual_seed")]
    [InlineData("n = torch.size(x, 0)\nreturn torch.remainder(7, n)", "aten::remainder by something else than a literal")]
    [InlineData("return torch.remainder(7, 0)", "aten::remainder")]
    [InlineData("return torch.remainder(7, -1)", "aten::remainder")]
    [InlineData("return torch.remainder(7, (1))", "aten::remainder")]
    [InlineData("f = torch.remainder\nreturn f(7, 0)", "aten::remainder")]
    [InlineData("return (7).remainder(x, 3)", "aten::remainder")]
    [InlineData("return torch.linalg_eigvals(x)", "aten::linalg_eigvals")]
    [InlineData("return unchecked_cast(__torch__.M, x)", "unchecked_cast to a class")]
    [InlineData("return unchecked_cast(Optional[__torch__.M], x)", "unchecked_cast to a class")]
    [InlineData("return torch.add(x, torch.add(x,\n  torch.from_file(\"f\")))", "aten::from_file (code/__torch__.py:9)")]
    public void What_is_not_allowed_is_refused_by_name_and_place(string forward, string named)
    {
        var error = ScriptFiles.Refused(ScriptFiles.With(forward));
        Assert.Equal(("SCRIPT_OPERATOR_REFUSED", EngineError.FailedPrecondition), (error.Reason, error.Error));
        Assert.Contains(named, error.Message, StringComparison.Ordinal);
        Assert.Contains(ScriptErrors.OperatorsSetting, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_operator_may_allow_division_by_what_may_be_zero() =>
        Assert.NotEmpty(ScriptFiles.Rewritten(ScriptFiles.With("n = torch.size(x, 0)\nreturn torch.remainder(7, n)"), ScriptOperators.With("aten::remainder")));

    [Theory]
    [InlineData("def __len__(self: __torch__.M) -> int:\n  return 2", null)]
    [InlineData("def __contains__(self: __torch__.M,\n    key: str) -> bool:\n  return torch.__contains__([\"a\"], key)", null)]
    [InlineData("def __len__(self: __torch__.M) -> int:\n  return len(self)", "def __len__")]
    [InlineData("def __contains__(self: __torch__.M,\n    key: __torch__.M) -> bool:\n  return __torch__.f(key)", "def __contains__")]
    [InlineData("def __getitem__(self: __torch__.M,\n    i: int) -> int:\n  return i", "def __getitem__")]
    public void Special_methods_are_those_of_containers_that_call_nothing(string method, string? refused)
    {
        var file = ScriptFiles.With("return x", methods: method);
        if (refused is null)
        {
            Assert.NotEmpty(ScriptFiles.Rewritten(file));
        }
        else
        {
            Assert.Contains(refused, ScriptFiles.Refused(file).Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("__forward_hooks__ = [\"f\", ]")]
    [InlineData("__forward_pre_hooks__ = [\"f\", ]")]
    public void Hooks_are_refused(string attribute) => Assert.Contains("a forward hook", ScriptFiles.Refused(ScriptFiles.With("return x", attribute)).Message, StringComparison.Ordinal);

    [Fact]
    public void All_that_is_refused_is_told_at_once()
    {
        var error = ScriptFiles.Refused(ScriptFiles.With("torch.save(x, \"f\")\nprint(x)\nreturn torch.from_file(\"f\")"));
        Assert.All(["aten::save", "print", "aten::from_file"], named => Assert.Contains(named, error.Message, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("save : Tensor", "")]
    [InlineData("", "def save(self: __torch__.M, f: str) -> Tensor:\n  return torch.relu(f)")]
    public void A_tensors_method_is_no_name_for_an_attribute_or_a_method(string attributes, string methods) =>
        Assert.Contains("aten::save", ScriptFiles.Refused(ScriptFiles.With("return (x).save(\"f\")", attributes, methods: methods)).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("t = torch\nreturn x")]
    [InlineData("o = ops\nreturn x")]
    [InlineData("o = ops.aten\nreturn x")]
    [InlineData("return getattr(torch, \"save\")(x)")]
    [InlineData("return getattr(x, \"sa\" \"ve\")(x)")]
    [InlineData("return getattr(x, \"s\\x61ve\")(x)")]
    [InlineData("return CONSTANTS.save")]
    [InlineData("a = \"\"\"x\"\"\"\nreturn x")]
    [InlineData("a = f\"x\"\nreturn x")]
    [InlineData("a = \"x\nreturn x")]
    [InlineData("a = x; b = x\nreturn x")]
    [InlineData("a = x \\\n  + x\nreturn x")]
    [InlineData("\treturn x")]
    [InlineData("return x # type: (Tensor) -> Tensor")]
    [InlineData("return 1.save(x)")]
    [InlineData("return 0x10")]
    [InlineData("return (x]")]
    [InlineData("return (x")]
    [InlineData("def f(y):\n  return y\nreturn x")]
    [InlineData("a = x\0\nreturn x")]
    [InlineData("return ß")]
    public void What_the_printer_never_writes_is_malformed(string forward)
    {
        var error = ScriptFiles.Refused(ScriptFiles.With(forward));
        Assert.Equal("SCRIPT_MALFORMED", error.Reason);
    }

    [Theory]
    [InlineData("import os")]
    [InlineData("x = 1")]
    [InlineData("class A(Interface):\n  def f(self) -> Tensor:\n    pass")]
    [InlineData("class A(Module):\n  def f(self): return torch.relu(self)")]
    [InlineData("class A(Module): x = 1")]
    [InlineData("class A(Module):\n  x + y")]
    [InlineData("def f(x: Tensor) -> Tensor:\n  class B:\n    x : int\n  return x")]
    [InlineData("class M:\n  x : int")]
    public void Only_classes_and_functions_are_in_a_file(string beside) => Assert.Equal("SCRIPT_MALFORMED", ScriptFiles.Refused(ScriptFiles.With("return x", beside: beside)).Reason);

    [Theory]
    [InlineData("return (self).forward(x, )", "", "")]
    [InlineData("return (self).f(x, )", "", "def f(self: __torch__.M,\n    x: Tensor) -> Tensor:\n  return (self).forward(x, )")]
    [InlineData("return __torch__.f(x, )", "def f(x: Tensor) -> Tensor:\n  return __torch__.f(x, )", "")]
    [InlineData("return __torch__.f(x, )", "def f(x: Tensor) -> Tensor:\n  _0 = __torch__.g\n  return _0(x, )\ndef g(x: Tensor) -> Tensor:\n  return __torch__.f(x, )", "")]
    [InlineData("s = self\nreturn (s).forward(x, )", "", "")]
    [InlineData("return __torch__.f(self, x, )", "def f(m: __torch__.M,\n    x: Tensor) -> Tensor:\n  return (m).forward(x, )", "")]
    [InlineData("return x", "class A:\n  next : Optional[__torch__.A]", "")]
    public void Recursion_is_refused(string forward, string beside, string methods) => Assert.Equal("SCRIPT_RECURSION", ScriptFiles.Refused(ScriptFiles.With(forward, "", beside, methods)).Reason);

    [Fact]
    public void Code_that_goes_too_deep_is_refused()
    {
        var functions = Enumerable.Range(0, 300).Select(i => $"def f{i}(x: Tensor) -> Tensor:\n  return {(i == 0 ? "x" : $"__torch__.f{i - 1}(x, )")}");
        string[] deep =
        [
            $"return {new string('(', 100)}x{new string(')', 100)}",
            $"return x{string.Concat(Enumerable.Repeat(" + x", 300))}",
            $"return x{string.Concat(Enumerable.Repeat("[0]", 300))}",
            $"return {string.Concat(Enumerable.Repeat("not ", 300))}x",
            string.Join('\n', Enumerable.Range(0, 100).Select(i => $"{new string(' ', i)}if x:")) + $"\n{new string(' ', 100)}y = x\nreturn x",
        ];
        Assert.All(deep, forward => Assert.Equal("SCRIPT_LIMIT", ScriptFiles.Refused(ScriptFiles.With(forward)).Reason));
        Assert.Equal("SCRIPT_LIMIT", ScriptFiles.Refused(ScriptFiles.With("return x", beside: string.Join('\n', functions))).Reason);
    }

    [Theory]
    [InlineData("return __torch__", ".a", "", 500_000)]
    [InlineData("y = [", "unchecked_cast, ", "]\nreturn x", 300_000)]
    [InlineData("y = (", "getattr(x, \"a\"), ", ")\nreturn x", 100_000)]
    [InlineData("y = [", "torch.remainder(x, 7), ", "]\nreturn x", 100_000)]
    public void Long_code_takes_no_more_than_time_in_proportion(string begin, string repeated, string end, int times)
    {
        // Else this takes hours, in the server.
        var file = ScriptFiles.With(begin + new StringBuilder().Insert(0, repeated, times) + end);
        var error = Record.Exception(() => ScriptFiles.Rewritten(file));
        Assert.True(error is null or EngineException { Reason: "SCRIPT_OPERATOR_REFUSED" }, error?.ToString());
    }

    [Fact]
    public void Signatures_and_classes_have_limits()
    {
        var wide = $"def wide(self: __torch__.M,\n    x: Tuple[{string.Join(", ", Enumerable.Repeat("int", 200_000))}]) -> Tensor:\n  return x";
        using var archive = ScriptArchive.Open(new TorchZip.MemorySource(ScriptFiles.With("return x", methods: wide)), ScriptOperators.Standard);
        Assert.Equal(["forward", "wide"], archive.Program.Methods("__torch__.M").Select(method => method.Name));
        var many = string.Join('\n', Enumerable.Range(0, ScriptLimits.Methods + 1).Select(i => $"def f{i}(self: __torch__.M) -> int:\n  return 1"));
        Assert.Equal("SCRIPT_LIMIT", ScriptFiles.Refused(ScriptFiles.With("return x", methods: many)).Reason);
    }

    [Fact]
    public void Code_that_unpacks_to_more_than_is_said_is_refused()
    {
        var packed = new MemoryStream();
        using (var deflate = new System.IO.Compression.DeflateStream(packed, System.IO.Compression.CompressionLevel.Optimal, leaveOpen: true))
        {
            deflate.Write(new byte[1 << 20]);
        }

        var records = ScriptFiles.Records(ScriptFiles.With("return x"));
        var parts = records.Select(record => new TorchZip.ZipPart($"archive/{record.Key}", record.Value));
        var bomb = new TorchZip.ZipPart("archive/code/__torch__/bomb.py", packed.ToArray()) { Method = 8, Size = 10, PackedSize = packed.Length, DescriptorSize = (uint)packed.Length, HasDescriptor = true };
        var error = ScriptFiles.Refused(new TorchZip.ZipScript { Parts = [.. parts, bomb] }.Bytes());
        Assert.Contains(error.Reason, (string[])["SCRIPT_MALFORMED", "TORCH_ZIP_MALFORMED"]);
        var long1 = ScriptFiles.Refused(ScriptFiles.Of(new(records) { ["code/__torch__/big.py"] = new byte[ScriptLimits.SourceBytes + 1] }));
        Assert.Equal("SCRIPT_LIMIT", long1.Reason);
        Assert.Equal("SCRIPT_MALFORMED", ScriptFiles.Refused(ScriptFiles.Of(new(records) { ["code/__torch__/odd.py"] = Encoding.UTF8.GetBytes("class __torch__") })).Reason);
    }
}
