using System.Buffers.Binary;
using System.Globalization;
using System.IO.Hashing;
using System.Text;
using Google.Protobuf;

namespace Sconce.Server.ExactlyOnce;

/// <summary>Tells whether two calls are the same call: their method's request type and all that the request says.</summary>
internal readonly record struct Fingerprint(ulong High, ulong Low)
{
    private const int MaxBuffer = 4096;

    /// <summary>As text: 32 hexadecimal digits.</summary>
    public override string ToString() => $"{High:x16}{Low:x16}";

    /// <summary>Reads what <see cref="ToString"/> wrote.</summary>
    public static bool TryParse(string text, out Fingerprint fingerprint)
    {
        fingerprint = default;
        if (text.Length != 32 || !text.All(char.IsAsciiHexDigitLower) || !UInt128.TryParse(text, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var value))
        {
            return false;
        }

        fingerprint = new((ulong)(value >> 64), (ulong)value);
        return true;
    }

    /// <summary>The fingerprint of a request, and of what came beside it (a stream's digest).</summary>
    public static Fingerprint Of(IMessage request, ulong beside = 0)
    {
        using var hash = new HashingStream();
        hash.Write(Encoding.UTF8.GetBytes(request.Descriptor.FullName));

        // Not as it came: the entries of a map have no order, and some languages send them in another one each time.
        using (var output = new CodedOutputStream(hash, Math.Clamp(request.CalculateSize(), 64, MaxBuffer), leaveOpen: true) { Deterministic = true })
        {
            request.WriteTo(output);
        }

        Span<byte> extra = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(extra, beside);
        hash.Write(extra);
        var value = hash.Finish();
        return new((ulong)(value >> 64), (ulong)value);
    }

    /// <summary>Hashes what is written to it and keeps nothing, so that a large request is never held twice: it comes in pieces of the output's small buffer.</summary>
    private sealed class HashingStream : Stream
    {
        private readonly XxHash128 _hash = new();

        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public UInt128 Finish() => _hash.GetCurrentHashAsUInt128();

        public override void Write(byte[] buffer, int offset, int count) => _hash.Append(buffer.AsSpan(offset, count));

        public override void Write(ReadOnlySpan<byte> buffer) => _hash.Append(buffer);

        public override void Flush()
        {
        }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();
    }
}
