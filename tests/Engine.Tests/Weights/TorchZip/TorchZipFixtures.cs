using System.Text.Json;
using Sconce.Engine.Tensors;
using Sconce.Engine.Weights.TorchZip;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Weights.TorchZip;

/// <summary>Files that real PyTorch wrote, and what is in them; tests/fixtures-generator/torch_zip.py writes both.</summary>
internal static class TorchZipFixtures
{
    private static readonly JsonElement Expected = JsonDocument.Parse(File.ReadAllBytes(PathOf("expected.json"))).RootElement;

    public static string PathOf(string name) => Path.Combine(AppContext.BaseDirectory, "Weights", "Fixtures", "TorchZip", name);

    public static byte[] Bytes(string name) => File.ReadAllBytes(PathOf(name));

    /// <summary>Each file that can be read, with where in it the state dict is.</summary>
    public static TheoryData<string, string> Readable()
    {
        var rows = new TheoryData<string, string>();
        foreach (var file in Expected.EnumerateObject().Where(file => file.Value.EnumerateObject().First().Value.ValueKind == JsonValueKind.Array))
        {
            foreach (var root in file.Value.EnumerateObject())
            {
                rows.Add(file.Name, root.Name);
            }
        }

        return rows;
    }

    public static IReadOnlyList<(string Key, string Type, long[] Shape, byte[] Data)> State(string name, string root) =>
        [.. Expected.GetProperty(name).GetProperty(root).EnumerateArray().Select(entry =>
            (entry.GetProperty("key").GetString()!, entry.GetProperty("dtype").GetString()!, entry.GetProperty("shape").Deserialize<long[]>()!, entry.GetProperty("data").GetBytesFromBase64()))];

    /// <summary>Asserts that a file holds these tensors, bit for bit.</summary>
    public static void Same(IReadOnlyList<(string Key, string Type, long[] Shape, byte[] Data)> expected, TorchZipFile file)
    {
        Assert.Equal(expected.Select(entry => (entry.Key, entry.Type)), file.Entries.Select(entry => (entry.Key, entry.Type.Name())));
        for (var i = 0; i < expected.Count; i++)
        {
            using var tensor = file.Read(i);
            Assert.Equal(expected[i].Shape, file.Entries[i].Shape);
            Assert.Equal(expected[i].Shape, tensor.shape);
            Assert.Equal(file.Entries[i].Type, tensor.dtype.ToElementType());
            Assert.True(tensor.is_contiguous());
            Assert.True(tensor.device_type == DeviceType.CPU && !tensor.requires_grad);
            Assert.True(Bits(tensor).SequenceEqual(expected[i].Data), $"{expected[i].Key} differs");
        }
    }

    public static byte[] Bits(Tensor tensor)
    {
        using var export = TensorExport.Take(tensor.detach().alias());
        return export.Data.ToArray();
    }

    /// <summary>Opens bytes, and asserts that they are refused and let go.</summary>
    public static EngineException Refused(byte[] bytes, string? root = null)
    {
        var source = new MemorySource(bytes);
        var error = Assert.Throws<EngineException>(() => TorchZipFile.Open(source, root));
        Assert.True(source.IsDisposed);
        return error;
    }
}
