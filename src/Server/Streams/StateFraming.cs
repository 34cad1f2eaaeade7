using System.Buffers;
using System.IO.Hashing;
using Sconce.Engine;

namespace Sconce.Server.Streams;

/// <summary>Follows an upload: every tensor's bytes, in the manifest's order, without gap, repeat or excess, then an end.</summary>
/// <param name="lengths">Number of bytes of each tensor.</param>
internal sealed class StateFraming(IReadOnlyList<long> lengths)
{
    private readonly XxHash3 _hash = new();
    private int _entry = Next(lengths, -1);
    private long _offset;
    private Place _place = new(Next(lengths, -1), 0, 0);

    /// <summary>Whether every byte has come.</summary>
    public bool IsComplete => _entry == lengths.Count;

    /// <summary>Where the next byte goes, and how many have come. May be read from any thread.</summary>
    public Place Position => Volatile.Read(ref _place);

    /// <summary>How many of a chunk's first bytes have come already, for a stream that goes on with an upload and begins before where that ended.</summary>
    public int Overlap(uint entry, ulong offset, int length) =>
        entry >= lengths.Count || (ulong)length > (ulong)lengths[(int)entry] || offset > (ulong)(lengths[(int)entry] - length) ? 0
        : entry < _entry ? length
        : entry == _entry && offset < (ulong)_offset ? (int)Math.Min(length, _offset - (long)offset)
        : 0;

    /// <summary>XXH3 of the bytes so far.</summary>
    public ulong Digest => _hash.GetCurrentHashAsUInt64();

    /// <summary>Takes the next chunk, or refuses it with the offset that was expected.</summary>
    public void Accept(uint entry, ulong offset, ReadOnlySpan<byte> data)
    {
        Check(entry, offset, data.Length);
        _hash.Append(data);
        Advance(data.Length);
    }

    /// <inheritdoc cref="Accept(uint, ulong, ReadOnlySpan{byte})"/>
    public void Accept(uint entry, ulong offset, in ReadOnlySequence<byte> data)
    {
        Check(entry, offset, data.Length);
        foreach (var piece in data)
        {
            _hash.Append(piece.Span);
        }

        Advance(data.Length);
    }

    private void Check(uint entry, ulong offset, long length)
    {
        if (IsComplete)
        {
            throw Bad("chunk", $"tensor {entry} offset {offset} came after the last byte of the last tensor");
        }

        if (entry != _entry || offset != (ulong)_offset)
        {
            throw Bad("chunk", $"tensor {entry} offset {offset} came; expected tensor {_entry} offset {_offset}: chunks come in the manifest's order without gap or repeat");
        }

        if (length == 0)
        {
            throw Bad("chunk.data", $"is empty at tensor {_entry} offset {_offset}; send at least one byte");
        }

        var room = lengths[_entry] - _offset;
        if (length > room)
        {
            throw Bad("chunk.data", $"has {length} bytes at tensor {_entry} offset {_offset}, but only {room} of its {lengths[_entry]} bytes are missing");
        }

    }

    private void Advance(long length)
    {
        _offset += length;
        if (_offset == lengths[_entry])
        {
            _entry = Next(lengths, _entry);
            _offset = 0;
        }

        Volatile.Write(ref _place, new Place(_entry, _offset, _place.Received + length));
    }

    /// <summary>Checks the end: nothing missing, and the digest as declared where one is.</summary>
    public void End(ulong? declared)
    {
        if (!IsComplete)
        {
            throw Bad("end", $"came at tensor {_entry} offset {_offset}; {lengths[_entry] - _offset} bytes of it are missing");
        }

        CheckDigest(declared, Digest);
    }

    /// <summary>Compares a declared digest with that of the bytes.</summary>
    public static void CheckDigest(ulong? declared, ulong received)
    {
        if (declared is { } digest && digest != received)
        {
            throw new EngineException(
                EngineError.DataLoss, "DIGEST_MISMATCH", $"the XXH3 of the bytes received is {received:x16}, but end.xxh3 is {digest:x16}; the bytes changed on the way: send them again");
        }
    }

    /// <summary>What is refused where the stream ends without an end message.</summary>
    public EngineException Truncated() => IsComplete
        ? Bad("end", "is missing: the stream ended after the last byte; send an end message")
        : Bad("end", $"is missing: the stream ended at tensor {_entry} offset {_offset}; {lengths[_entry] - _offset} bytes of it are missing");

    private static EngineException Bad(string field, string message) => EngineException.Invalid(field, message, "BAD_STREAM");

    /// <summary>The next tensor that has bytes: one of zero elements sends no chunk.</summary>
    private static int Next(IReadOnlyList<long> lengths, int entry)
    {
        do
        {
            entry++;
        }
        while (entry < lengths.Count && lengths[entry] == 0);
        return entry;
    }

    /// <summary>A place in an upload.</summary>
    /// <param name="Entry">The tensor; their number at the end.</param>
    /// <param name="Offset">Bytes of it that have come.</param>
    /// <param name="Received">Bytes of all that have come.</param>
    public sealed record Place(int Entry, long Offset, long Received);
}
