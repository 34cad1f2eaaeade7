using System.IO.Hashing;
using System.Runtime.InteropServices;
using Google.Protobuf;
using Grpc.Core;

namespace Sconce.Server.Tests.Wire;

/// <summary>State dicts in part, under other keys, cast, assigned, and as the bytes of a file.</summary>
public sealed class StateWaysTests : SweepTest
{
    [Fact]
    public async Task GetStateDict_as_safetensors_is_a_file_byte_by_byte()
    {
        await Make.ModuleAsync(Server, "bn", Make.Sequential(Make.Linear(3, 3), Make.Spec("""{ "type": "BatchNorm1d", "args": { "num_features": 3 } }""")));

        var parts = await DrainAsync(new() { Module = "bn", Framing = V1.StateFraming.Safetensors, ChunkBytes = 100 });

        var manifest = parts[0].Manifest;
        var chunks = parts.Where(part => part.Chunk is not null).Select(part => part.Chunk).ToList();
        byte[] file = [.. chunks.SelectMany(chunk => chunk.Data)];
        Assert.Equal((ulong)file.Length, manifest.TotalBytes);
        Assert.Equal(XxHash3.HashToUInt64(file), parts[^1].End.Xxh3);
        var at = 0UL;
        foreach (var chunk in chunks)
        {
            Assert.Equal((0U, at), (chunk.Entry, chunk.Offset));
            Assert.InRange(chunk.Data.Length, 1, 100);
            at += (ulong)chunk.Data.Length;
        }

        var header = BitConverter.ToUInt64(file);
        using var json = System.Text.Json.JsonDocument.Parse(file.AsMemory(8, (int)header));
        var (_, tensors) = await ReadAsync(new() { Module = "bn" });
        foreach (var (key, bytes) in tensors)
        {
            var offsets = json.RootElement.GetProperty(key).GetProperty("data_offsets");
            var begin = 8 + (int)header + offsets[0].GetInt32();
            Assert.Equal(bytes, file[begin..(8 + (int)header + offsets[1].GetInt32())]);
            Assert.True(begin % 4 == 0 && (key != "1.num_batches_tracked" || begin % 8 == 0), key);
        }

        Assert.Equal(manifest.Entries.Select(entry => entry.Key), tensors.Select(tensor => tensor.Key));
    }

    [Fact]
    public async Task GetStateDict_as_safetensors_refuses_what_the_format_lacks_before_the_first_message()
    {
        await Server.Modules.RegisterBufferAsync(new() { Module = "m", Name = "c", Tensor = new() { Dtype = V1.DataType.Complex128, Shape = { 1 }, Data = ByteString.CopyFrom(new byte[16]) } });

        var refused = await Refused.OfAsync(DrainAsync(new() { Module = "m", Framing = V1.StateFraming.Safetensors }));

        refused.Is(StatusCode.Unimplemented);
        Assert.Contains("complex128", refused.Message, StringComparison.Ordinal);
        await DrainAsync(new() { Module = "m", Framing = V1.StateFraming.Safetensors, Keys = { "weight" } });
    }

    [Fact]
    public async Task GetStateDict_prefix_and_dtype()
    {
        await Make.ModuleAsync(Server, "two", Make.Sequential(Make.Linear(1, 1), Make.Linear(1, 1)));

        var (entries, tensors) = await ReadAsync(new() { Module = "two", Prefix = "1.", Keys = { "*.weight" }, Dtype = V1.DataType.Bfloat16 });

        Assert.Equal(("1.weight", V1.DataType.Bfloat16), (Assert.Single(entries).Key, entries[0].Dtype));
        Assert.Equal(2, tensors[0].Bytes.Length);
        var refused = (await Refused.OfAsync(DrainAsync(new() { Module = "m", Dtype = V1.DataType.Complex64 }))).Is(StatusCode.InvalidArgument);
        Assert.Contains("dtype", refused.Fields);
    }

    [Fact]
    public async Task LoadStateDict_maps_selects_and_assigns()
    {
        var loaded = await LoadAsync(
            new() { Module = "m", StripPrefix = "module.", Keys = { "w*" }, Assign = true, Entries = { Entry("module.weight", V1.DataType.Float64, 1, 1), Entry("module.other", V1.DataType.Float32, 1) } },
            MemoryMarshal.AsBytes([2.5]).ToArray(), new byte[4]);

        Assert.Equal((1U, 0, 0), (loaded.LoadedTensors, loaded.MissingKeys.Count, loaded.UnexpectedKeys.Count));
        var (entries, tensors) = await ReadAsync(new() { Module = "m", Keys = { "weight" } });
        Assert.Equal(V1.DataType.Float64, entries[0].Dtype);
        Assert.Equal(2.5, BitConverter.ToDouble(tensors[0].Bytes));

        // The optimizer of before goes on with it.
        var type = V1.DataType.Float64;
        await LoadAsync(new() { Module = "m", AddPrefix = "bi", Keys = { "bias" }, Assign = true, Entries = { Entry("as", type, 1) } }, MemoryMarshal.AsBytes([0.0]).ToArray());
        var one = Make.Tensor(type, [1, 1], new[] { 1.0 });
        var step = await Server.Training.TrainStepAsync(new() { Module = "m", Inputs = { one }, Targets = { one }, Loss = new() { Type = "MSELoss" } });
        Assert.Equal(2.25, step.Loss);
    }

    [Fact]
    public async Task LoadStateDict_names_the_modules_key_and_the_callers_before_any_chunk()
    {
        using var call = Server.State.LoadStateDict();
        await call.RequestStream.WriteAsync(new() { Header = new() { Module = "m", StripPrefix = "module.", Entries = { Entry("module.weight", V1.DataType.Float32, 7), Entry("module.bias", V1.DataType.Float32, 1), Entry("bias", V1.DataType.Float32, 1) } } });

        var refused = (await Refused.OfAsync(call.ResponseAsync)).Is(StatusCode.InvalidArgument);

        Assert.Contains("\"weight\" (given as \"module.weight\") has shape [7]", refused.Message, StringComparison.Ordinal);
        Assert.Contains("\"bias\" is given twice", refused.Message, StringComparison.Ordinal);
        Assert.Equal(["header.entries[0]", "header.entries[2]"], refused.Fields);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task LoadStateDict_a_prefix_that_no_key_has_is_refused(bool strip)
    {
        var header = new V1.LoadStateDictHeader { Module = "m" };
        (strip ? () => header.StripPrefix = new string('x', 1025) : (Action)(() => header.AddPrefix = "a\u0007"))();

        Assert.Contains(strip ? "header.strip_prefix" : "header.add_prefix", (await Refused.OfAsync(LoadAsync(header))).Is(StatusCode.InvalidArgument).Fields);
    }

    private static V1.StateEntry Entry(string key, V1.DataType type, params long[] shape) => new() { Key = key, Dtype = type, Shape = { shape } };

    private async Task<V1.LoadStateDictResponse> LoadAsync(V1.LoadStateDictHeader header, params byte[][] tensors)
    {
        using var call = Server.State.LoadStateDict();
        await call.RequestStream.TryWriteAsync(new() { Header = header });
        for (var i = 0; i < tensors.Length; i++)
        {
            await call.RequestStream.TryWriteAsync(new() { Chunk = new() { Entry = (uint)i, Data = ByteString.CopyFrom(tensors[i]) } });
        }

        await call.RequestStream.TryWriteAsync(new() { End = new() });
        await call.RequestStream.TryCompleteAsync();
        return await call;
    }

    private async Task<List<V1.GetStateDictResponse>> DrainAsync(V1.GetStateDictRequest request)
    {
        using var call = Server.State.GetStateDict(request);
        var parts = new List<V1.GetStateDictResponse>();
        while (await call.ResponseStream.MoveNext(default))
        {
            parts.Add(call.ResponseStream.Current);
        }

        return parts;
    }

    private async Task<(IReadOnlyList<V1.StateEntry> Entries, List<(string Key, byte[] Bytes)> Tensors)> ReadAsync(V1.GetStateDictRequest request)
    {
        var parts = await DrainAsync(request);
        var entries = parts[0].Manifest.Entries;
        return (entries, [.. entries.Select((entry, i) => (entry.Key, parts.Where(part => part.Chunk?.Entry == i).SelectMany(part => part.Chunk.Data).ToArray()))]);
    }
}
