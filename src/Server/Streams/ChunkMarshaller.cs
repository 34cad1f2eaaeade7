using System.Buffers;
using Grpc.Core;

namespace Sconce.Server.Streams;

/// <summary>
/// Reads the messages of LoadStateDict as the generated code does, except that the bytes of a chunk come into a <see cref="ChunkBlock"/>: the generated code makes a new array
/// for each, which at weights' size costs more than all else that is done with the bytes.
/// </summary>
internal static class ChunkMarshaller
{
    // Below, an array of its own is cheap; above, the pool would keep too much.
    private const int Least = 64 * 1024;
    private const int Most = 5 << 20;

    // Tags as of https://protobuf.dev/programming-guides/encoding: the field's number, three bits up, and the kind of value.
    private const byte Varint = 0;
    private const byte Bytes = 2;
    private const byte ChunkTag = (V1.LoadStateDictRequest.ChunkFieldNumber << 3) | Bytes;
    private const byte EntryTag = (V1.StateChunk.EntryFieldNumber << 3) | Varint;
    private const byte OffsetTag = (V1.StateChunk.OffsetFieldNumber << 3) | Varint;
    private const byte DataTag = (V1.StateChunk.DataFieldNumber << 3) | Bytes;

    /// <summary>A message of the stream. <see cref="ChunkBlock.GiveBack"/> is to be called with the bytes of a chunk.</summary>
    public static V1.LoadStateDictRequest Read(DeserializationContext context) => Read(context.PayloadAsReadOnlySequence());

    /// <inheritdoc cref="Read(DeserializationContext)"/>
    public static V1.LoadStateDictRequest Read(ReadOnlySequence<byte> message) =>
        message.Length is >= Least and <= Most && Chunk(message) is { } chunk ? new V1.LoadStateDictRequest { Chunk = chunk } : V1.LoadStateDictRequest.Parser.ParseFrom(message);

    // Null where the message is anything but what every writer makes of a chunk, its bytes last: the generated code knows what to do with it.
    private static V1.StateChunk? Chunk(ReadOnlySequence<byte> message)
    {
        var reader = new SequenceReader<byte>(message);
        if (!reader.TryRead(out var tag) || tag != ChunkTag || !TryReadVarint(ref reader, out var length) || length != (ulong)reader.Remaining)
        {
            return null;
        }

        var chunk = new V1.StateChunk();
        while (reader.TryRead(out tag) && TryReadVarint(ref reader, out var value))
        {
            if (tag == EntryTag && value <= uint.MaxValue)
            {
                chunk.Entry = (uint)value;
            }
            else if (tag == OffsetTag)
            {
                chunk.Offset = value;
            }
            else if (tag == DataTag && value == (ulong)reader.Remaining)
            {
                chunk.Data = ChunkBlock.Of(reader.UnreadSequence);
                return chunk;
            }
            else
            {
                return null;
            }
        }

        return null;
    }

    private static bool TryReadVarint(ref SequenceReader<byte> reader, out ulong value)
    {
        value = 0;
        for (var shift = 0; shift < 63 && reader.TryRead(out var part); shift += 7)
        {
            value |= (ulong)(part & 0x7f) << shift;
            if (part < 0x80)
            {
                return true;
            }
        }

        return false;
    }
}
