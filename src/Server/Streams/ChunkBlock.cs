using System.Buffers;
using System.Runtime.InteropServices;
using Google.Protobuf;

namespace Sconce.Server.Streams;

/// <summary>The bytes of one chunk of an upload, in an array that serves the next chunk once they are where they belong. One that is never given back is the garbage collector's.</summary>
internal sealed class ChunkBlock : MemoryManager<byte>
{
    private readonly int _length;
    private byte[]? _array;

    private ChunkBlock(byte[] array, int length) => (_array, _length) = (array, length);

    /// <summary>Copies bytes.</summary>
    /// <returns>Bytes to be read until <see cref="GiveBack"/> is called with them.</returns>
    public static ByteString Of(ReadOnlySequence<byte> bytes)
    {
        var length = checked((int)bytes.Length);
        var array = ArrayPool<byte>.Shared.Rent(length);
        bytes.CopyTo(array);
        return UnsafeByteOperations.UnsafeWrap(new ChunkBlock(array, length).Memory);
    }

    /// <summary>Gives a chunk's array back, where its bytes are in one; reading them throws from then on.</summary>
    public static void GiveBack(ByteString bytes)
    {
        if (MemoryMarshal.TryGetMemoryManager<byte, ChunkBlock>(bytes.Memory, out var block) && Interlocked.Exchange(ref block._array, null) is { } array)
        {
            ArrayPool<byte>.Shared.Return(array);
        }
    }

    public override Span<byte> GetSpan() => Array.AsSpan(0, _length);

    public override MemoryHandle Pin(int elementIndex = 0) => Array.AsMemory(elementIndex).Pin();

    // The handle that Pin made has what there is to undo.
    public override void Unpin()
    {
    }

    protected override void Dispose(bool disposing)
    {
    }

    private byte[] Array => _array ?? throw new ObjectDisposedException(nameof(ChunkBlock));
}
