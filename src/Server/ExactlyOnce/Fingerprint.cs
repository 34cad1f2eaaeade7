using System.Buffers;
using System.Buffers.Binary;
using System.IO.Hashing;
using System.Text;
using Google.Protobuf;

namespace Sconce.Server.ExactlyOnce;

/// <summary>Tells whether two calls are the same call: their method's request type and every byte of the request.</summary>
internal readonly record struct Fingerprint(ulong High, ulong Low)
{
    /// <summary>The fingerprint of a request, and of what came beside it (a stream's digest).</summary>
    public static Fingerprint Of(IMessage request, ulong beside = 0)
    {
        using var hash = new HashingWriter();
        hash.Append(Encoding.UTF8.GetBytes(request.Descriptor.FullName));
        request.WriteTo(hash);
        Span<byte> extra = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(extra, beside);
        hash.Append(extra);
        var value = hash.Finish();
        return new((ulong)(value >> 64), (ulong)value);
    }

    /// <summary>Hashes what is written to it and keeps nothing, so that a large request is never held twice.</summary>
    private sealed class HashingWriter : IBufferWriter<byte>, IDisposable
    {
        private const int BufferSize = 32 * 1024;
        private readonly XxHash128 _hash = new();
        private byte[] _buffer = ArrayPool<byte>.Shared.Rent(BufferSize);

        public void Append(ReadOnlySpan<byte> bytes) => _hash.Append(bytes);

        public UInt128 Finish() => _hash.GetCurrentHashAsUInt128();

        public void Advance(int count) => _hash.Append(_buffer.AsSpan(0, count));

        public Memory<byte> GetMemory(int sizeHint = 0)
        {
            if (sizeHint > _buffer.Length)
            {
                ArrayPool<byte>.Shared.Return(_buffer);
                _buffer = ArrayPool<byte>.Shared.Rent(sizeHint);
            }

            return _buffer;
        }

        public Span<byte> GetSpan(int sizeHint = 0) => GetMemory(sizeHint).Span;

        public void Dispose() => ArrayPool<byte>.Shared.Return(_buffer);
    }
}
