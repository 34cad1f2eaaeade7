using System.Buffers;
using Google.Protobuf;
using Sconce.Engine;
using Sconce.Engine.Execution;
using Sconce.Engine.Tensors;
using Sconce.Server.Streams;

namespace Sconce.Server.Tests.Streams;

/// <summary>What is read by hand is what the generated code reads, in whatever pieces and forms it comes, but that the bytes are elsewhere.</summary>
public sealed class ChunkMarshallerTests
{
    private static readonly byte[] Data = [.. Enumerable.Range(0, 100_000).Select(i => (byte)(i * 31))];

    [Theory]
    [InlineData(1)]
    [InlineData(4096)]
    [InlineData(int.MaxValue)]
    public async Task The_bytes_of_a_chunk_go_where_they_belong_and_leave_an_empty_one(int piece)
    {
        await using var host = new EngineHost(new EngineOptions());
        var (sink, upload) = Sink(host, 300, Data.Length);
        using var freed = upload;
        sink.Use();
        for (var part = 0; part < 2; part++)
        {
            var sent = new V1.StateChunk { Entry = 300, Offset = (ulong)(part * Data.Length), Data = ByteString.CopyFrom(Data) };
            var read = ChunkMarshaller.Read(Pieces(new V1.LoadStateDictRequest { Chunk = sent }.ToByteArray(), piece));
            Assert.Equal(new V1.StateChunk { Entry = sent.Entry, Offset = sent.Offset }, read.Chunk);
            Assert.Equal((Data.Length, 0), (sink.Took(), sink.Took()));
            Assert.True(upload.Holds(300, part * Data.Length, Data));
        }
    }

    [Theory]
    [InlineData(300u, 1ul)]
    [InlineData(uint.MaxValue, 0ul)]
    [InlineData(300u, (ulong)long.MaxValue)]
    [InlineData(300u, ulong.MaxValue)]
    public async Task A_chunk_that_belongs_nowhere_is_refused_after_its_message_was_read(uint entry, ulong offset)
    {
        await using var host = new EngineHost(new EngineOptions());
        var (sink, upload) = Sink(host, 300, Data.Length);
        using var freed = upload;
        sink.Use();
        var sent = new V1.LoadStateDictRequest { Chunk = new() { Entry = entry, Offset = offset, Data = ByteString.CopyFrom(Data) } };
        var read = ChunkMarshaller.Read(Pieces(sent.ToByteArray(), 4096));
        Assert.Equal((entry, offset), (read.Chunk.Entry, read.Chunk.Offset));

        // The last offset has one byte more than is read by hand.
        if (offset == ulong.MaxValue)
        {
            Assert.Equal((sent, 0), (read, sink.Took()));
        }
        else
        {
            Assert.Equal("BAD_STREAM", Assert.Throws<EngineException>(() => sink.Took()).Reason);
        }
    }

    [Fact]
    public async Task What_is_no_chunk_and_what_has_no_sink_is_read_by_the_generated_code()
    {
        await using var host = new EngineHost(new EngineOptions());
        var (sink, upload) = Sink(host, 1, Data.Length);
        using var freed = upload;
        var whole = new V1.StateChunk { Entry = 1, Data = ByteString.CopyFrom(Data) }.ToByteArray();
        byte[] header = new V1.LoadStateDictRequest { Header = new() { Module = new string('m', 100_000) } }.ToByteArray();
        byte[] end = new V1.LoadStateDictRequest { End = new() { Xxh3 = 5 } }.ToByteArray();
        byte[] dataFirst = [.. Field(3, Data), 8, 1, 16, 2];
        byte[] unknown = [8, 1, .. Field(9, [1, 2]), .. Field(3, Data)];
        byte[][] messages = [header, end, Field(2, dataFirst), Field(2, unknown), Field(2, []), [.. Field(2, whole), .. Field(2, [8, 9])], [.. Field(2, whole), .. end]];
        Assert.Equal(V1.LoadStateDictRequest.Parser.ParseFrom(Field(2, whole)), ChunkMarshaller.Read(Pieces(Field(2, whole), 4096)));
        sink.Use();
        foreach (var message in messages)
        {
            Assert.Equal(V1.LoadStateDictRequest.Parser.ParseFrom(message), ChunkMarshaller.Read(Pieces(message, 4096)));
            Assert.Equal(0, sink.Took());
        }
    }

    [Fact]
    public async Task A_damaged_message_is_refused_as_the_generated_code_refuses_it()
    {
        await using var host = new EngineHost(new EngineOptions());
        var random = new Random(1);
        var whole = new V1.LoadStateDictRequest { Chunk = new() { Entry = 300, Offset = 70_000, Data = ByteString.CopyFrom(Data) } }.ToByteArray();
        for (var i = 0; i < 400; i++)
        {
            var damaged = whole[..(i % 4 == 0 ? random.Next(whole.Length) : whole.Length)];
            for (var bytes = random.Next(3); bytes >= 0 && damaged.Length > 16; bytes--)
            {
                damaged[random.Next(16)] = (byte)random.Next(256);
            }

            var (sink, upload) = Sink(host, 300, Data.Length);
            using var freed = upload;
            sink.Use();
            var (expected, actual) = (Outcome(() => V1.LoadStateDictRequest.Parser.ParseFrom(damaged)), Outcome(() => ChunkMarshaller.Read(Pieces(damaged, 4096))));
            if (expected is V1.LoadStateDictRequest { Chunk: { Data.IsEmpty: false } chunk } && actual is V1.LoadStateDictRequest { Chunk: { Data.IsEmpty: true } taken })
            {
                Assert.Equal((chunk.Entry, chunk.Offset), (taken.Entry, taken.Offset));
            }
            else
            {
                Assert.Equal(expected, actual);
            }
        }
    }

    // An upload of empty tensors, and behind them one that takes two chunks.
    private static (ChunkSink Sink, StateUpload Upload) Sink(EngineHost host, int entry, int chunk)
    {
        var upload = host.ReserveState([.. Enumerable.Range(0, entry + 1).Select(i => new StateEntryInfo($"t{i}", ElementType.UInt8, [i < entry ? 0 : 2 * chunk]))], "e");
        return (new ChunkSink(new StateFraming([.. Enumerable.Range(0, entry + 1).Select(upload.ByteLength)]), upload), upload);
    }

    private static object Outcome(Func<V1.LoadStateDictRequest> read)
    {
        try
        {
            return read();
        }
        catch (InvalidProtocolBufferException exception)
        {
            return exception.Message;
        }
    }

    private static byte[] Field(int number, byte[] content)
    {
        using var stream = new MemoryStream();
        using (var output = new CodedOutputStream(stream, leaveOpen: true))
        {
            output.WriteTag(number, WireFormat.WireType.LengthDelimited);
            output.WriteBytes(ByteString.CopyFrom(content));
        }

        return stream.ToArray();
    }

    private static ReadOnlySequence<byte> Pieces(byte[] bytes, int length)
    {
        var first = new Piece(default, 0);
        var last = first;
        for (var at = 0; at < bytes.Length; at += Math.Min(length, bytes.Length - at))
        {
            last = last.Add(bytes.AsMemory(at, Math.Min(length, bytes.Length - at)));
        }

        return new ReadOnlySequence<byte>(first, 0, last, last.Memory.Length);
    }

    private sealed class Piece : ReadOnlySequenceSegment<byte>
    {
        public Piece(ReadOnlyMemory<byte> memory, long index) => (Memory, RunningIndex) = (memory, index);

        public Piece Add(ReadOnlyMemory<byte> memory)
        {
            var next = new Piece(memory, RunningIndex + Memory.Length);
            Next = next;
            return next;
        }
    }
}
