using Sconce.Engine.Tests.Weights.Fuzz;
using Sconce.Engine.Tests.Weights.TorchZip;
using Sconce.Engine.Weights.Script;

namespace Sconce.Engine.Tests.Weights.Script;

/// <summary>TorchScript files, changed at random: whatever a file says, the reader takes it or says what is wrong. A soak sets SCONCE_FUZZ_EXECUTIONS.</summary>
public sealed class ScriptFuzzTests
{
    private const int Usual = 3_000;
    private static readonly byte[][] Files = [.. ((string[])["scripted.pt", "traced.pt", "lstm.pt", "Endless.pt", "ReadsFile.pt", "containers.pt"]).Select(ScriptFiles.Bytes)];
    private static readonly Dictionary<string, byte[]>[] Records = [.. Files.Select(ScriptFiles.Records)];
    private static readonly string[] Words = ["torch", "ops", "__torch__", ".", "(", ")", "\"", "\n", "  ", "def ", "class ", "getattr", "self", "=", ":", "save", "#", "[", "M", ","];

    [Fact]
    public void Changed_files_are_taken_or_refused_and_nothing_else()
    {
        var run = FuzzRun.Run(Usual, Make, (bytes, _) =>
        {
            using var archive = ScriptArchive.Open(new MemorySource(bytes), ScriptOperators.Standard);
            archive.Write(Stream.Null);
            return 0;
        });
        if (run.IsFull)
        {
            Assert.Superset(
                (HashSet<string>)["accepted", "SCRIPT_MALFORMED", "SCRIPT_OPERATOR_REFUSED", "SCRIPT_RECURSION", "NOT_A_SCRIPT", "TORCH_ZIP_MALFORMED", "CRC_MISMATCH", "PICKLE_MALFORMED", "PICKLE_REFUSED", "TENSOR_MALFORMED"],
                run.Outcomes.Keys.ToHashSet());
        }
    }

    private static byte[] Make(Random random)
    {
        var which = random.Next(Files.Length);
        if (random.Next(4) == 0)
        {
            return ByteMutator.Mutate(random, Files[which], Files[random.Next(Files.Length)]);
        }

        // Code or values changed, and the checksum right.
        var records = new Dictionary<string, byte[]>(Records[which]);
        if (random.Next(3) == 0)
        {
            records["data.pkl"] = ByteMutator.Mutate(random, records["data.pkl"], Records[^1]["data.pkl"]);
            return ScriptFiles.Of(records);
        }

        var names = records.Keys.Where(name => name.EndsWith(".py", StringComparison.Ordinal)).ToList();
        var name = names[random.Next(names.Count)];
        records[name] = random.Next(3) == 0 ? ByteMutator.Mutate(random, records[name], Records[0]["code/__torch__.py"]) : Reworded(random, records[name]);
        return ScriptFiles.Of(records);
    }

    private static byte[] Reworded(Random random, byte[] code)
    {
        var text = System.Text.Encoding.Latin1.GetString(code);
        for (var i = random.Next(3); i >= 0; i--)
        {
            var at = random.Next(text.Length);
            var cut = random.Next(2) * random.Next(8);
            text = string.Concat(text.AsSpan(0, at), Words[random.Next(Words.Length)], text.AsSpan(Math.Min(at + cut, text.Length)));
        }

        return System.Text.Encoding.Latin1.GetBytes(text);
    }
}
