using Sconce.Engine.Tensors;
using Sconce.Engine.Weights.Safetensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Execution;

/// <summary>One tensor of a state dict, without its content.</summary>
/// <param name="Key">Its key.</param>
/// <param name="Type">Element type.</param>
/// <param name="Shape">Sizes of its dimensions.</param>
public readonly record struct StateEntryInfo(string Key, ElementType Type, IReadOnlyList<long> Shape)
{
    // What a list may take uncharged: those of most modules do, and their figures are the tensors' alone.
    private const long Free = 1 << 20;

    // The objects beside their content.
    private const long Overhead = 128;

    /// <summary>Bytes, estimated, to charge for a list of these that is held for as long as a caller likes: a message or a file may name a million of tensors that have no bytes.</summary>
    internal static long BytesOf(IReadOnlyList<StateEntryInfo> entries)
    {
        var bytes = entries.Sum(entry => Overhead + (2L * entry.Key.Length) + ((long)sizeof(long) * entry.Shape.Count));
        return bytes > Free ? bytes : 0;
    }
}

/// <summary>A copy of tensors of one generation, so that the module is free while a caller reads. Charged to the ledger until disposed.</summary>
public sealed class StateSnapshot : IDisposable
{
    private readonly TensorExport[] _exports;
    private readonly MemoryCharge _charge;

    private StateSnapshot(StateEntryInfo[] entries, TensorExport[] exports, MemoryCharge charge, ulong generation)
    {
        (Entries, _exports, _charge, Generation) = (entries, exports, charge, generation);
        TotalBytes = exports.Sum(export => export.ByteLength);
    }

    /// <summary>The tensors, in order; those that share memory under each of their names.</summary>
    public IReadOnlyList<StateEntryInfo> Entries { get; }

    /// <summary>Generation of the module at the copy.</summary>
    public ulong Generation { get; }

    /// <summary>Bytes of all entries together.</summary>
    public long TotalBytes { get; }

    /// <summary>Bytes of one entry.</summary>
    /// <param name="entry">Its index.</param>
    public long ByteLength(int entry) => _exports[entry].ByteLength;

    /// <summary>One entry, valid until this is disposed.</summary>
    /// <param name="entry">Its index.</param>
    public TensorExport Export(int entry) => _exports[entry];

    /// <summary>A part of one entry's bytes, valid until this is disposed.</summary>
    /// <param name="entry">Its index.</param>
    /// <param name="offset">Where the part begins.</param>
    /// <param name="length">How many bytes.</param>
    public ReadOnlyMemory<byte> Read(int entry, long offset, int length) => _exports[entry].Slice(offset, length);

    /// <summary>The safetensors file that the entries make.</summary>
    /// <exception cref="EngineException">An entry has a dtype, or a key, that the format does not know.</exception>
    public SafetensorsLayout AsSafetensors() => SafetensorsLayout.Of(Entries);

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var export in _exports)
        {
            export.Dispose();
        }

        _charge.Dispose();
    }

    /// <summary>Copies tensors. A tensor given under two names is copied once.</summary>
    /// <param name="entries">The live tensors with their keys.</param>
    /// <param name="ledger">Charged before anything is copied.</param>
    /// <param name="what">What is copied, for the ledger's message.</param>
    /// <param name="module">The module's name, for the same.</param>
    /// <param name="generation">Its generation.</param>
    /// <param name="floating">What floating tensors are cast to; none copies them as they are.</param>
    internal static StateSnapshot Copy(
        IReadOnlyList<(string Key, Tensor Tensor)> entries, MemoryLedger ledger, string what, string module, ulong generation, ElementType floating = ElementType.None)
    {
        var distinct = new Dictionary<nint, TensorExport>();
        var bytes = entries.DistinctBy(entry => entry.Tensor.Handle).Sum(entry => entry.Tensor.numel() * TypeOf(entry.Tensor).Size());
        var charge = new MemoryCharge(ledger, MemoryUse.State, what, module, bytes);
        try
        {
            var exports = new TensorExport[entries.Count];
            var infos = new StateEntryInfo[entries.Count];
            for (var i = 0; i < exports.Length; i++)
            {
                var (key, tensor) = entries[i];
                if (!distinct.TryGetValue(tensor.Handle, out var export))
                {
                    using var detached = tensor.detach();
                    export = TensorExport.Take(TypeOf(tensor) is var type && type == tensor.dtype.ToElementType() ? detached.clone() : detached.to_type(type.ToScalarType()));
                    distinct.Add(tensor.Handle, export);
                }

                exports[i] = export;
                infos[i] = new StateEntryInfo(key, export.Type, export.Shape);
            }

            return new StateSnapshot(infos, exports, charge, generation);
        }
        catch
        {
            foreach (var export in distinct.Values)
            {
                export.Dispose();
            }

            charge.Dispose();
            throw;
        }

        ElementType TypeOf(Tensor tensor)
        {
            var type = tensor.dtype.ToElementType();
            return floating != ElementType.None && type.IsFloatingPoint() ? floating : type;
        }
    }
}
