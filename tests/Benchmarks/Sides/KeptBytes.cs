using System.Runtime.InteropServices;

namespace Sconce.Benchmarks.Sides;

/// <summary>Native memory that bytes are copied into as they come, in pieces as large as a tensor of <see cref="SconceSide"/>: the least that a receiver of weights does.</summary>
internal sealed unsafe class KeptBytes : IDisposable
{
    private readonly List<nint> _pieces = [];

    /// <summary>Bytes so far.</summary>
    public long Length { get; private set; }

    /// <summary>Copies bytes, of which a whole number of messages makes a piece.</summary>
    public void Add(ReadOnlySpan<byte> bytes)
    {
        var at = (int)(Length % SconceSide.StateTensorBytes);
        if (at == 0)
        {
            _pieces.Add((nint)NativeMemory.AlignedAlloc(SconceSide.StateTensorBytes, 64));
        }

        bytes.CopyTo(new Span<byte>((byte*)_pieces[^1] + at, SconceSide.StateTensorBytes - at));
        Length += bytes.Length;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var piece in _pieces)
        {
            NativeMemory.AlignedFree((void*)piece);
        }

        _pieces.Clear();
    }
}
