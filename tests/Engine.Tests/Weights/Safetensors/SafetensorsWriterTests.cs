using System.Buffers.Binary;
using System.Text.Json;
using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using Sconce.Engine.Weights.Safetensors;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Weights.Safetensors;

public sealed class SafetensorsWriterTests
{
    private static readonly ElementType[] Types = [.. Enum.GetValues<ElementType>().Where(type => type is not (ElementType.None or ElementType.Complex128))];

    /// <summary>The fixture was read by tests/fixtures-generator/safetensors_files.py --check, with numpy and PyTorch.</summary>
    [Fact]
    public void Write_gives_the_bytes_that_another_reader_reads()
    {
        using var scope = NewDisposeScope();
        StateEntry[] entries =
        [
            new("mask", Values(ScalarType.Bool, 5)), new("layer.weight", Values(ScalarType.Float32, 3, 4)), new("layer.bias", Values(ScalarType.BFloat16, 3)), new("half", Values(ScalarType.Float16, 2, 2)),
            new("double", Values(ScalarType.Float64, 2)), new("steps", Values(ScalarType.Int64)), new("int", Values(ScalarType.Int32, 3)), new("short", Values(ScalarType.Int16, 1, 3)),
            new("char", Values(ScalarType.Int8, 2)), new("byte", Values(ScalarType.Byte, 3)), new("größe 🔥", Values(ScalarType.ComplexFloat32, 2)), new("empty", Values(ScalarType.Float32, 0, 4)),
            new("transposed", Values(ScalarType.Float32, 2, 3).t()),
        ];

        var written = Write(entries, new Dictionary<string, string> { ["format"] = "pt", ["written"] = "by Sconce" });

        Assert.Equal(File.ReadAllBytes(SafetensorsBytes.Fixture("written-by-sconce.safetensors")), written);

        static Tensor Values(ScalarType type, params long[] shape) => arange(shape.Aggregate(1L, (a, b) => a * b)).mul(7).remainder(13).sub(6).reshape(shape).to(type);
    }

    [Fact]
    public void Write_then_read_gives_the_same_tensors_of_every_dtype_in_the_same_order()
    {
        using var scope = NewDisposeScope();
        var random = new Random(1);
        List<StateEntry> entries = [];
        for (var i = 0; i < 200; i++)
        {
            var type = Types[random.Next(Types.Length)];
            long[] shape = [.. Enumerable.Range(0, random.Next(5)).Select(_ => (long)random.Next(4))];
            var bytes = new byte[TensorLayout.ByteLength(type, shape, default)];
            random.NextBytes(bytes);
            if (type == ElementType.Bool)
            {
                bytes = [.. bytes.Select(b => (byte)(b & 1))];
            }

            entries.Add(new($"{i}.{new string((char)('a' + random.Next(26)), random.Next(20))}", NativeTensors.Copy(type, shape, bytes)));
        }

        var written = Write(entries);
        using var file = SafetensorsFile.Open(written, "x");
        Assert.Equal(new Dictionary<string, string> { ["format"] = "pt" }, file.Metadata);
        Assert.Equal(entries.Select(entry => entry.Key), file.Entries.Select(entry => entry.Key));
        for (var i = 0; i < entries.Count; i++)
        {
            using var read = file.Read(i);
            Assert.Equal(entries[i].Tensor.shape, read.shape);
            Assert.Equal(entries[i].Tensor.dtype, read.dtype);
            Assert.Equal(entries[i].Tensor.bytes.ToArray(), read.bytes.ToArray());
        }

        var header = SafetensorsHeader.Parse(written.AsSpan(8, (int)BinaryPrimitives.ReadInt64LittleEndian(written)), written.Length - Align(written));
        Assert.Equal(0, header.DataBegin % 64);
        Assert.All(header.Entries, entry => Assert.Equal(0, entry.Begin % entry.Type.Size()));

        static long Align(byte[] file) => 8 + BinaryPrimitives.ReadInt64LittleEndian(file);
    }

    [Fact]
    public void Write_of_views_gives_the_values_that_they_show()
    {
        using var scope = NewDisposeScope();
        var grid = arange(24, ScalarType.Float32).reshape(2, 3, 4);
        var complex = torch.complex(arange(3, ScalarType.Float32), arange(3, ScalarType.Float32).add(1));
        (string Key, Tensor Shown)[] views =
        [
            ("transposed", grid.transpose(0, 2)), ("expanded", ones(1, 3).expand(4, 3)), ("stepped", grid[.., TensorIndex.Slice(0, 3, 2)]), ("offset", grid[1]), ("conj", complex.conj()), ("imag of conj", complex.conj().imag),
            ("channels last", rand(2, 4, 5, 3).permute(0, 3, 1, 2)), ("parameter", nn.Parameter(rand(2).t())),
        ];

        using var file = SafetensorsFile.Open(Write([.. views.Select(view => new StateEntry(view.Key, view.Shown))]), "x");
        foreach (var (index, (key, shown)) in views.Index())
        {
            using var read = file.Read(index);
            Assert.Equal(shown.shape, read.shape);
            Assert.True(shown.eq(read).all().item<bool>(), key);
        }
    }

    [Fact]
    public void Write_of_a_large_view_copies_a_part_at_a_time_and_never_more_into_the_stream()
    {
        using var scope = NewDisposeScope();
        var large = arange(20_000_000, ScalarType.Int32).reshape(1, 4000, 5000).transpose(1, 2); // 80 MB, and not row-major
        StateEntry[] entries = [new("large", large), new("plain", zeros(70 << 20, ScalarType.Byte))];
        var layout = SafetensorsWriter.Layout(entries);
        using var stream = new PieceStream();
        SafetensorsWriter.Write(stream, layout, entries);

        // Rows of 16,000 bytes, as many as 64 MiB hold, are copied at a time; what is row-major is written where it lies.
        Assert.Equal([layout.Header.Length, 4194 * 16_000, 806 * 16_000, 64 << 20, 6 << 20], stream.Pieces);
        Assert.Equal(layout.FileBytes, stream.Pieces.Sum(piece => (long)piece));
        Assert.Equal(stream.Sum, (ulong)layout.Header.ToArray().Sum(b => (long)b) + ByteSum(large));

        static ulong ByteSum(Tensor integers)
        {
            var sum = 0UL;
            foreach (var b in integers.contiguous().bytes)
            {
                sum += b;
            }

            return sum;
        }
    }

    [Fact]
    public void Write_that_is_cancelled_stops()
    {
        using var scope = NewDisposeScope();
        StateEntry[] entries = [new("a", ones(2))];
        Assert.Throws<OperationCanceledException>(() => SafetensorsWriter.Write(Stream.Null, SafetensorsWriter.Layout(entries), entries, new CancellationToken(true)));
    }

    [Fact]
    public void Layout_knows_the_length_of_a_file_of_terabytes_without_its_tensors()
    {
        var layout = SafetensorsLayout.Of([new("small", ElementType.Int8, [3]), new("big", ElementType.Float64, [1L << 40]), new("half", ElementType.Float16, [5])], new Dictionary<string, string>());

        Assert.Equal(layout.Header.Length + 3 + (8L << 40) + 10, layout.FileBytes);
        Assert.Equal([1, 2, 0], layout.Order);
        using var json = JsonDocument.Parse(layout.Header[8..]);
        Assert.Equal(["small", "big", "half"], json.RootElement.EnumerateObject().Select(entry => entry.Name));
        Assert.Equal(["small", "big", "half"], SafetensorsHeader.Parse(layout.Header.Span[8..], layout.FileBytes - layout.Header.Length).Entries.Select(entry => entry.Key));
    }

    [Fact]
    public void Layout_refuses_what_no_reader_would_take_and_names_it()
    {
        Refused(EngineError.Unimplemented, SafetensorsRule.DTypeUnsupported, "c", new StateEntryInfo("c", ElementType.Complex128, [1]));
        Refused(EngineError.InvalidArgument, SafetensorsRule.TensorName, "", new StateEntryInfo("", ElementType.Int8, []));
        Refused(EngineError.InvalidArgument, SafetensorsRule.TensorName, "a\n", new StateEntryInfo("a\n", ElementType.Int8, []));
        Refused(EngineError.InvalidArgument, SafetensorsRule.TensorName, "__metadata__", new StateEntryInfo("__metadata__", ElementType.Int8, []));
        Refused(EngineError.InvalidArgument, SafetensorsRule.TensorName, "a\ud800", new StateEntryInfo("a\ud800", ElementType.Int8, []));
        Refused(EngineError.InvalidArgument, SafetensorsRule.TensorName, "\udc00\ud800", new StateEntryInfo("\udc00\ud800", ElementType.Int8, []));
        Refused(EngineError.InvalidArgument, SafetensorsRule.TensorName, new string('n', 4097), new StateEntryInfo(new string('n', 4097), ElementType.Int8, []));
        Refused(EngineError.InvalidArgument, SafetensorsRule.TensorTwice, "a", new StateEntryInfo("a", ElementType.Int8, []), new StateEntryInfo("a", ElementType.Int8, []));
        Refused(EngineError.InvalidArgument, SafetensorsRule.ShapeOverflow, "b", new StateEntryInfo("a", ElementType.Int8, [long.MaxValue]), new StateEntryInfo("b", ElementType.Int8, [1]));
        Refused(EngineError.InvalidArgument, SafetensorsRule.TensorCount, null, [.. Enumerable.Range(0, SafetensorsHeader.MaxTensors + 1).Select(i => new StateEntryInfo($"{i}", ElementType.Int8, []))]);
        Assert.Equal(SafetensorsRule.Metadata, Assert.Throws<EngineException>(() => SafetensorsLayout.Of([], new Dictionary<string, string> { ["a"] = "\ud800" })).Reason);
        Assert.Equal(SafetensorsRule.Metadata, Assert.Throws<EngineException>(() => SafetensorsLayout.Of([], new Dictionary<string, string> { ["a"] = new string('m', 3 << 20) })).Reason);

        static void Refused(EngineError code, string rule, string? tensor, params StateEntryInfo[] entries)
        {
            var error = Assert.Throws<EngineException>(() => SafetensorsLayout.Of(entries));
            Assert.Equal((code, rule, tensor), (error.Error, error.Reason, error.Resource?.Name));
        }
    }

    private static byte[] Write(IReadOnlyList<StateEntry> entries, IReadOnlyDictionary<string, string>? metadata = null)
    {
        using var stream = new MemoryStream();
        var layout = SafetensorsWriter.Layout(entries, metadata);
        SafetensorsWriter.Write(stream, layout, entries);
        Assert.Equal(layout.FileBytes, stream.Length);
        return stream.ToArray();
    }

    private sealed class PieceStream : Stream
    {
        public List<int> Pieces { get; } = [];

        public ulong Sum { get; private set; }

        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override void Flush()
        {
        }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            Pieces.Add(buffer.Length);
            foreach (var b in buffer)
            {
                Sum += b;
            }
        }
    }
}
