using Sconce.Engine.Tensors;
using Sconce.Engine.Weights;
using static TorchSharp.torch;

namespace Sconce.Engine.Execution;

/// <summary>
/// Receives a state dict into native memory. What is announced must fit the budget, but only what comes is charged, and a list of tensors that is long itself: words
/// alone take no room from others.
/// The order of the pieces is the sender's matter; nothing here touches a module.
/// </summary>
public sealed unsafe class StateUpload : StateSource
{
    private const string What = "the upload of";

    private readonly Tensor?[] _tensors;
    private readonly nint[] _addresses;
    private readonly long[] _lengths;
    private readonly long[] _written;
    private readonly MemoryCharge _charge;
    private readonly long _listed;
    private long _received;

    /// <summary>Checks what is announced.</summary>
    /// <param name="entries">The tensors that will come.</param>
    /// <param name="field">Where the list stands in the request.</param>
    /// <param name="ledger">What is charged.</param>
    internal StateUpload(IReadOnlyList<StateEntryInfo> entries, string field, MemoryLedger ledger)
    {
        Entries = entries;
        Field = field;
        _tensors = new Tensor?[entries.Count];
        _addresses = new nint[entries.Count];
        _lengths = ByteLengths(entries, field);
        _written = new long[entries.Count];
        TotalBytes = _lengths.Sum();
        ledger.Check(MemoryUse.State, TotalBytes, What, field);
        _listed = StateEntryInfo.BytesOf(entries);
        _charge = new MemoryCharge(ledger, MemoryUse.State, What, field, _listed);
    }

    /// <inheritdoc/>
    public override IReadOnlyList<StateEntryInfo> Entries { get; }

    /// <inheritdoc/>
    public override long TotalBytes { get; }

    /// <inheritdoc/>
    internal override bool IsSole => true;

    /// <summary>Where the list stands in the request, for errors.</summary>
    internal string Field { get; }

    /// <inheritdoc/>
    public override string FieldOf(int entry) => StateLoading.FieldOf(Field, entry);

    /// <summary>Checks a list of tensors, and counts the bytes of each. They are fewer than 2^63 together.</summary>
    /// <param name="entries">The tensors.</param>
    /// <param name="field">Where the list stands in the request.</param>
    /// <exception cref="EngineException">The list is malformed.</exception>
    public static long[] ByteLengths(IReadOnlyList<StateEntryInfo> entries, string field)
    {
        ArgumentNullException.ThrowIfNull(entries);
        var lengths = new long[entries.Count];
        var keys = new HashSet<string>(StringComparer.Ordinal);
        var total = 0L;
        for (var i = 0; i < lengths.Length; i++)
        {
            var path = new FieldPath("", field, i);
            if (!keys.Add(entries[i].Key))
            {
                throw EngineException.Invalid(path.Child("key"), $"is {EngineException.Quote(entries[i].Key)}, which is there twice; each key may be given once", "DUPLICATE_KEY");
            }

            lengths[i] = TensorLayout.ByteLength(entries[i].Type, entries[i].Shape, path);
            total = lengths[i] <= long.MaxValue - total
                ? total + lengths[i]
                : throw EngineException.Invalid(path.Child("shape"), "makes all tensors together 2^63 bytes or more");
        }

        return lengths;
    }

    /// <summary>Bytes of one of them.</summary>
    /// <param name="entry">Its index.</param>
    public long ByteLength(int entry) => _lengths[entry];

    /// <summary>Writes a piece of one tensor.</summary>
    /// <param name="entry">Its index.</param>
    /// <param name="offset">Where the piece begins, in bytes.</param>
    /// <param name="data">The piece.</param>
    public void Write(int entry, long offset, ReadOnlySpan<byte> data)
    {
        ObjectDisposedException.ThrowIf(IsDisposed, this);
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(data.Length, _lengths[entry] - offset, nameof(data));
        _charge.Resize(_listed + _received + data.Length);
        _received += data.Length;
        Allocate(entry);
        data.CopyTo(new Span<byte>((byte*)_addresses[entry] + offset, data.Length));
        _written[entry] += data.Length;
    }

    /// <summary>Whether a piece that was written is the same as another one.</summary>
    /// <param name="entry">The tensor's index.</param>
    /// <param name="offset">Where the piece begins, in bytes; all of it was written.</param>
    /// <param name="data">The other one.</param>
    public bool Holds(int entry, long offset, ReadOnlySpan<byte> data)
    {
        ObjectDisposedException.ThrowIf(IsDisposed, this);
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(data.Length, _written[entry] - offset, nameof(data));
        return data.SequenceEqual(new ReadOnlySpan<byte>((byte*)_addresses[entry] + offset, data.Length));
    }

    private protected override void Free()
    {
        foreach (var tensor in _tensors)
        {
            tensor?.Dispose();
        }

        _charge.Dispose();
    }

    private protected override IReadOnlyList<(string Key, Tensor Value)> Complete()
    {
        var complete = new (string, Tensor)[Entries.Count];
        for (var i = 0; i < complete.Length; i++)
        {
            if (_written[i] < _lengths[i])
            {
                throw EngineException.Invalid($"{Field}[{i}]", $"has {_lengths[i]:N0} bytes, of which {_written[i]:N0} came", "INCOMPLETE_STATE");
            }

            Allocate(i);
            if (Entries[i].Type == ElementType.Bool)
            {
                TensorLayout.CheckBooleans((byte*)_addresses[i], _lengths[i], $"{Field}[{i}]");
            }

            complete[i] = (Entries[i].Key, _tensors[i]!);
        }

        return complete;
    }

    // Not before the first byte: a manifest alone must not make the host touch gigabytes.
    private void Allocate(int entry)
    {
        if (_tensors[entry] is null)
        {
            var (_, type, shape) = Entries[entry];
            _tensors[entry] = NativeTensors.Allocate(type, shape, _lengths[entry], out var memory).DetachFromDisposeScope();
            _addresses[entry] = (nint)memory;
        }
    }
}
