using System.Buffers;
using Google.Protobuf;
using Sconce.Server.Streams;

namespace Sconce.Server.Tests.Streams;

/// <summary>What is read by hand is what the generated code reads, in whatever pieces and forms it comes.</summary>
public sealed class ChunkMarshallerTests
{
    private static readonly byte[] Data = [.. Enumerable.Range(0, 100_000).Select(i => (byte)(i * 31))];

    [Theory]
    [InlineData(0u, 0ul)]
    [InlineData(1u, 300ul)]
    [InlineData(uint.MaxValue, ulong.MaxValue)]
    [InlineData(7u, (ulong)long.MaxValue)]
    public void A_chunk_is_read_into_an_array_that_is_given_back(uint entry, ulong offset)
    {
        var sent = new V1.LoadStateDictRequest { Chunk = new() { Entry = entry, Offset = offset, Data = ByteString.CopyFrom(Data) } };
        foreach (var piece in (int[])[1, 4096, int.MaxValue])
        {
            var read = ChunkMarshaller.Read(Pieces(sent.ToByteArray(), piece));
            Assert.Equal(sent, read);
            var bytes = read.Chunk.Data;

            // The last offset has one byte more than is read by hand.
            if (offset != ulong.MaxValue)
            {
                ChunkBlock.GiveBack(bytes);
                Assert.Throws<ObjectDisposedException>(() => bytes.Span.Length);
            }

            ChunkBlock.GiveBack(bytes);
        }
    }

    [Fact]
    public void What_is_not_one_is_read_by_the_generated_code()
    {
        var chunk = new V1.StateChunk { Entry = 1, Offset = 2, Data = ByteString.CopyFrom(Data) }.ToByteArray();
        byte[] header = new V1.LoadStateDictRequest { Header = new() { Module = new string('m', 100_000) } }.ToByteArray();
        byte[] end = new V1.LoadStateDictRequest { End = new() { Xxh3 = 5 } }.ToByteArray();
        byte[] dataFirst = [.. Field(3, Data), 8, 1, 16, 2];
        byte[] unknown = [8, 1, .. Field(9, [1, 2]), .. Field(3, Data)];
        byte[][] messages = [header, end, Field(2, dataFirst), Field(2, unknown), Field(2, []), [.. Field(2, chunk), .. Field(2, [8, 9])], [.. Field(2, chunk), .. end]];
        foreach (var message in messages)
        {
            Assert.Equal(V1.LoadStateDictRequest.Parser.ParseFrom(message), ChunkMarshaller.Read(Pieces(message, 4096)));
        }
    }

    [Fact]
    public void A_damaged_message_is_refused_as_the_generated_code_refuses_it()
    {
        var random = new Random(1);
        var whole = new V1.LoadStateDictRequest { Chunk = new() { Entry = 300, Offset = 70_000, Data = ByteString.CopyFrom(Data) } }.ToByteArray();
        for (var i = 0; i < 400; i++)
        {
            var damaged = whole[..(i % 4 == 0 ? random.Next(whole.Length) : whole.Length)];
            for (var bytes = random.Next(3); bytes >= 0 && damaged.Length > 16; bytes--)
            {
                damaged[random.Next(16)] = (byte)random.Next(256);
            }

            Assert.Equal(Outcome(() => V1.LoadStateDictRequest.Parser.ParseFrom(damaged)), Outcome(() => ChunkMarshaller.Read(Pieces(damaged, 4096))));
        }
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
