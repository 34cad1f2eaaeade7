using System.Text.Json;
using Sconce.Engine.Execution;
using Sconce.Engine.Tensors;
using Sconce.Engine.Tests.Hardening;
using Sconce.Engine.Weights.Safetensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Weights.Safetensors;

public sealed class SafetensorsFileTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("sconce-safetensors-").FullName;

    private string FilePath => Path.Combine(_folder, "x.safetensors");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Read_gives_what_another_program_wrote()
    {
        using var expected = JsonDocument.Parse(File.ReadAllBytes(SafetensorsBytes.Fixture("safetensors.json")));
        Assert.Equal(4, expected.RootElement.GetArrayLength());
        foreach (var one in expected.RootElement.EnumerateArray())
        {
            using var file = SafetensorsFile.Open(SafetensorsBytes.Fixture(one.GetProperty("file").GetString()!), "x");
            Assert.Equal(one.GetProperty("metadata").Deserialize<Dictionary<string, string>>(), file.Metadata);
            Assert.Equal(one.GetProperty("tensors").EnumerateArray().Select(tensor => tensor.GetProperty("key").GetString()), file.Entries.Select(entry => entry.Key));
            foreach (var (index, wanted) in one.GetProperty("tensors").EnumerateArray().Index())
            {
                Assert.True(ElementTypes.TryParse(wanted.GetProperty("dtype").GetString()!, out var type));
                using var tensor = file.Read(index);
                Assert.Equal((type, type), (file.Entries[index].Type, tensor.dtype.ToElementType()));
                Assert.Equal(wanted.GetProperty("shape").Deserialize<long[]>(), tensor.shape);
                Assert.Equal(wanted.GetProperty("bytes").GetString(), Convert.ToHexStringLower(Bytes(tensor)));

                // Not only the same bytes: libtorch takes them for the same numbers.
                using var scope = NewDisposeScope();
                var numbers = (tensor.is_complex() ? tensor.view_as_real() : tensor).to(ScalarType.Float64).reshape(-1).data<double>().ToArray();
                Assert.Equal(wanted.GetProperty("values").EnumerateArray().Select(Number), numbers);
            }
        }

        static double Number(JsonElement value) => value.ValueKind == JsonValueKind.Number ? value.GetDouble()
            : value.GetString() switch { "inf" => double.PositiveInfinity, "-inf" => double.NegativeInfinity, _ => double.NaN };
    }

    [Fact]
    public void Read_takes_aligned_memory_of_its_own_that_outlives_file_and_scope()
    {
        File.WriteAllBytes(FilePath, SafetensorsBytes.File("""{"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"F64","shape":[1],"data_offsets":[1,9]}}""", 9));
        Tensor first, second;
        using (var file = SafetensorsFile.Open(FilePath, SafetensorsBytes.Name))
        using (NewDisposeScope())
        {
            (first, second) = (file.Read(1), file.Read(1));
        }

        using (first)
        using (second)
        {
            unsafe
            {
                Assert.Equal(0, (nint)NativeTensors.Address(first) % 64);
                Assert.True(NativeTensors.Address(first) != NativeTensors.Address(second));
            }

            _ = first.add_(1);
            Assert.Equal((1.0, 0.0), (first.item<double>(), second.item<double>()));
        }
    }

    [Fact]
    public void Read_of_a_file_that_is_cut_short_meanwhile_says_which_tensor_is_lost()
    {
        var layout = SafetensorsLayout.Of([.. Enumerable.Range(0, 9).Select(i => new StateEntryInfo($"t{i}", ElementType.UInt8, [10_000]))]);
        byte[] whole = [.. layout.Header.Span, .. Enumerable.Range(0, 90_000).Select(i => (byte)i)];
        for (var length = (whole.Length - 1) / 4096 * 4096; length >= 0; length -= 4096)
        {
            File.WriteAllBytes(FilePath, whole);
            using var file = SafetensorsFile.Open(FilePath, SafetensorsBytes.Name);
            using (var cut = new FileStream(FilePath, FileMode.Open))
            {
                cut.SetLength(length);
            }

            for (var i = 0; i < 9; i++)
            {
                var left = length - layout.Header.Length - (i * 10_000);
                if (left >= 10_000)
                {
                    using var tensor = file.Read(i);
                    Assert.True(whole.AsSpan(layout.Header.Length + (i * 10_000), 10_000).SequenceEqual(Bytes(tensor)));
                    continue;
                }

                var error = Assert.Throws<EngineException>(() => file.Read(i));
                Assert.Equal((EngineError.DataLoss, SafetensorsRule.CutShort, $"t{i}"), (error.Error, error.Reason, error.Resource?.Name));
                Assert.Contains($"\"t{i}\" has 10000 bytes, of which {Math.Max(left, 0)} are left", error.Message, StringComparison.Ordinal);
            }
        }
    }

    [Fact]
    public void Open_of_a_file_that_is_cut_short_is_refused_wherever_it_is_cut()
    {
        var layout = SafetensorsLayout.Of([.. Enumerable.Range(0, 9).Select(i => new StateEntryInfo($"t{i}", ElementType.UInt8, [10_000]))]);
        byte[] whole = [.. layout.Header.Span, .. new byte[90_000]];
        for (var length = (whole.Length - 1) / 4096 * 4096; length >= 0; length -= 4096)
        {
            var cut = whole[..length];
            var error = Assert.Throws<EngineException>(() => SafetensorsFile.Open(cut, SafetensorsBytes.Name));
            if (length == 0)
            {
                Assert.Equal(SafetensorsRule.TooShort, error.Reason);
                continue;
            }

            // The first one that is not whole.
            Assert.Equal((SafetensorsRule.CutShort, $"t{(length - layout.Header.Length) / 10_000}"), (error.Reason, error.Resource?.Name));
        }
    }

    [Theory]
    [InlineData(2, 4)]
    [InlineData(128, 0)]
    [InlineData(255, 6)]
    public void Read_of_a_bool_that_is_neither_0_nor_1_is_refused(byte value, int at)
    {
        byte[] data = [1, 0, 1, 0, 1, 0, 1];
        data[at] = value;
        using var file = SafetensorsFile.Open(SafetensorsBytes.File("""{"mask":{"dtype":"BOOL","shape":[7],"data_offsets":[0,7]}}"""u8, data), SafetensorsBytes.Name);

        var error = Assert.Throws<EngineException>(() => file.Read(0));
        Assert.Equal((EngineError.InvalidArgument, SafetensorsRule.Bool, "mask"), (error.Error, error.Reason, error.Resource?.Name));
        Assert.Equal($"{SafetensorsBytes.Name}: \"mask\" has {value} at byte {at}; a bool is 0 or 1", error.Message);
    }

    [Fact]
    public void Open_of_what_is_no_file_says_so_without_the_path()
    {
        Refused(Path.Combine(_folder, "none"), EngineError.NotFound);
        Refused(Path.Combine(_folder, "none", "none"), EngineError.NotFound);
        Refused(Path.Combine(_folder, "a\0b"), EngineError.NotFound);
        Refused(_folder, EngineError.FailedPrecondition);
        var link = Path.Combine(_folder, "link");
        File.CreateSymbolicLink(link, "loop");
        File.CreateSymbolicLink(Path.Combine(_folder, "loop"), "link");
        Refused(link, EngineError.FailedPrecondition);

        void Refused(string path, EngineError expected)
        {
            var error = Assert.Throws<EngineException>(() => SafetensorsFile.Open(path, SafetensorsBytes.Name));
            Assert.Equal(expected, error.Error);
            Assert.StartsWith(SafetensorsBytes.Name + ": ", error.Message, StringComparison.Ordinal);
            Assert.DoesNotContain(_folder, error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Read_by_several_threads_at_once_gives_each_its_own()
    {
        var layout = SafetensorsLayout.Of([.. Enumerable.Range(0, 64).Select(i => new StateEntryInfo($"t{i}", ElementType.UInt8, [4096]))]);
        File.WriteAllBytes(FilePath, [.. layout.Header.Span, .. Enumerable.Range(0, 64).SelectMany(i => Enumerable.Repeat((byte)i, 4096))]);
        using var file = SafetensorsFile.Open(FilePath, SafetensorsBytes.Name);
        Parallel.For(0, 640, new ParallelOptions { MaxDegreeOfParallelism = 4 }, i =>
        {
            using var tensor = file.Read(i % 64);
            Assert.Equal(-1, Bytes(tensor).AsSpan().IndexOfAnyExcept((byte)(i % 64)));
        });
    }

    [Fact]
    public void Read_after_the_file_was_closed_is_an_error()
    {
        File.WriteAllBytes(FilePath, SafetensorsBytes.File("""{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}""", 1));
        var file = SafetensorsFile.Open(FilePath, SafetensorsBytes.Name);
        file.Dispose();
        Assert.Throws<ObjectDisposedException>(() => file.Read(0));
    }

    [Fact]
    public void Headers_are_read_and_made_without_libtorch()
    {
        var result = TorchChild.Run(TorchChild.Folder, TimeSpan.FromMinutes(2), new Dictionary<string, string>(), "safetensors", SafetensorsBytes.Fixture("written-by-sconce.safetensors"));

        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        Assert.Equal($"{new FileInfo(SafetensorsBytes.Fixture("written-by-sconce.safetensors")).Length}\n", result.Output);
    }

    private static byte[] Bytes(Tensor tensor)
    {
        using var export = TensorExport.Take(tensor.alias());
        return export.Data.ToArray();
    }
}
