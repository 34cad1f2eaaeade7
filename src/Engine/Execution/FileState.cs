using Sconce.Engine.Weights;
using static TorchSharp.torch;

namespace Sconce.Engine.Execution;

/// <summary>The tensors of a file that a load wants, in memory and charged until disposed.</summary>
internal sealed class FileState : StateSource
{
    private readonly (string Key, Tensor Value)[] _tensors;
    private readonly MemoryCharge _charge;
    private readonly string _field;

    private FileState(StateEntryInfo[] entries, (string Key, Tensor Value)[] tensors, MemoryCharge charge, string field) =>
        (Entries, _tensors, _charge, _field, TotalBytes) = (entries, tensors, charge, field, charge.Bytes);

    /// <inheritdoc/>
    public override IReadOnlyList<StateEntryInfo> Entries { get; }

    /// <inheritdoc/>
    public override long TotalBytes { get; }

    /// <inheritdoc/>
    internal override bool IsSole => true;

    /// <inheritdoc/>
    public override string FieldOf(int entry) => _field;

    /// <summary>Reads tensors, after all of them have been charged.</summary>
    /// <param name="file">The open file.</param>
    /// <param name="wanted">Which of its entries.</param>
    /// <param name="ledger">Charged first.</param>
    /// <param name="origin">What holds it, for messages.</param>
    /// <param name="progress">Told the bytes read and those of all, after each tensor.</param>
    /// <param name="cancellationToken">Looked at between pieces of the file.</param>
    /// <exception cref="EngineException">It does not fit the memory budget, or the file is damaged.</exception>
    public static FileState Read(
        IStateFile file, IReadOnlyList<LoadEntry> wanted, MemoryLedger ledger, StateOrigin origin, Action<long, long> progress, CancellationToken cancellationToken)
    {
        StateEntryInfo[] entries = [.. wanted.Select(entry => file.Entries[entry.Index])];
        var lengths = StateUpload.ByteLengths(entries, origin.Field);
        var charge = new MemoryCharge(ledger, MemoryUse.State, $"the tensors of {origin.Kind}", origin.Name, lengths.Sum());
        var tensors = new (string Key, Tensor Value)[entries.Length];
        var done = 0L;
        try
        {
            for (var i = 0; i < tensors.Length; i++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                tensors[i] = (entries[i].Key, file.Read(wanted[i].Index, cancellationToken).DetachFromDisposeScope());
                progress(done += lengths[i], charge.Bytes);
            }

            return new FileState(entries, tensors, charge, origin.Field);
        }
        catch
        {
            Free(tensors);
            charge.Dispose();
            throw;
        }
    }

    private protected override IReadOnlyList<(string Key, Tensor Value)> Complete() => _tensors;

    private protected override void Free()
    {
        Free(_tensors);
        _charge.Dispose();
    }

    private static void Free((string Key, Tensor Value)[] tensors)
    {
        foreach (var (_, tensor) in tensors)
        {
            tensor?.Dispose();
        }
    }
}
