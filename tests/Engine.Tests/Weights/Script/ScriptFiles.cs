using System.IO.Compression;
using System.Text;
using System.Text.Json;
using Sconce.Engine.Tests.Weights.TorchZip;
using Sconce.Engine.Weights.Script;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Weights.Script;

/// <summary>TorchScript files that real PyTorch wrote, and what they compute; tests/fixtures-generator/script_files.py writes both.</summary>
internal static class ScriptFiles
{
    public static readonly string[] Good = ["scripted.pt", "traced.pt", "lstm.pt", "attention.pt", "half.pt", "containers.pt"];

    private static readonly JsonElement Expected = JsonDocument.Parse(File.ReadAllBytes(PathOf("expected.json"))).RootElement;

    public static string PathOf(string name) => Path.Combine(AppContext.BaseDirectory, "Weights", "Fixtures", "Script", name);

    public static byte[] Bytes(string name) => File.ReadAllBytes(PathOf(name));

    public static JsonElement ExpectedOf(string name) => Expected.GetProperty(name);

    /// <summary>A tensor that the fixtures hold.</summary>
    public static Tensor Value(JsonElement value, ScalarType type = ScalarType.Float32) =>
        tensor(value.GetProperty("data").Deserialize<double[]>()!, dtype: type).reshape(value.GetProperty("shape").Deserialize<long[]>()!);

    /// <summary>A file's records by name, without its folder, unpacked.</summary>
    public static Dictionary<string, byte[]> Records(byte[] file)
    {
        using var zip = new ZipArchive(new MemoryStream(file));
        return zip.Entries.ToDictionary(entry => entry.FullName[(entry.FullName.IndexOf('/', StringComparison.Ordinal) + 1)..], entry =>
        {
            using var stream = entry.Open();
            using var copy = new MemoryStream();
            stream.CopyTo(copy);
            return copy.ToArray();
        });
    }

    /// <summary>A file of these records.</summary>
    public static byte[] Of(Dictionary<string, byte[]> records) => new ZipScript { Parts = [.. records.Select(record => new ZipPart($"archive/{record.Key}", record.Value))] }.Bytes();

    /// <summary>A file whose class <c>__torch__.M</c> has this forward, and this beside it.</summary>
    public static byte[] With(string forward, string attributes = "", string beside = "", string methods = "")
    {
        var records = Records(Bytes("Prints.pt"));
        Assert.True(records.Remove("code/__torch__.py.debug_pkl"));
        records["data.pkl"] = Encoding.Latin1.GetBytes(Encoding.Latin1.GetString(records["data.pkl"]).Replace("__torch__\nPrints", "__torch__\nM", StringComparison.Ordinal));
        records["code/__torch__.py"] = Encoding.UTF8.GetBytes(string.Join('\n',
        [
            "class M(Module):", "  __parameters__ = []", "  __buffers__ = []", "  training : bool", "  _is_full_backward_hook : Optional[bool]", .. Indented(attributes, 2),
            "  def forward(self: __torch__.M,", "    x: Tensor) -> Tensor:", .. Indented(forward, 4), .. Indented(methods, 2), .. Indented(beside, 0), "",
        ]));
        return Of(records);
    }

    /// <summary>Opens a file that must be refused.</summary>
    public static EngineException Refused(byte[] file, ScriptOperators? operators = null)
    {
        var source = new MemorySource(file);
        var error = Assert.Throws<EngineException>(() => ScriptArchive.Open(source, operators ?? ScriptOperators.Standard));
        Assert.True(source.IsDisposed);
        return error;
    }

    /// <summary>Opens a file and gives back what libtorch is shown of it.</summary>
    public static byte[] Rewritten(byte[] file, ScriptOperators? operators = null)
    {
        using var archive = ScriptArchive.Open(new MemorySource(file), operators ?? ScriptOperators.Standard);
        using var copy = new MemoryStream();
        archive.Write(copy);
        Assert.Equal(archive.Length, copy.Length);
        return copy.ToArray();
    }

    private static IEnumerable<string> Indented(string text, int indent) => text.Length == 0 ? [] : text.Split('\n').Select(line => new string(' ', indent) + line);
}
