using Sconce.Engine.Execution;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Hooks;

/// <summary>The slots of one module: what captures leave for operands of later hooks. Only calls that have the module to themselves touch it.</summary>
internal sealed class HookSlots(string module, MemoryLedger ledger) : IDisposable
{
    private readonly SortedDictionary<string, (Tensor Tensor, MemoryCharge Charge)> _slots = new(StringComparer.Ordinal);

    public bool IsEmpty => _slots.Count == 0;

    public IReadOnlyList<HookSlotInfo> List() => [.. _slots.Select(slot => new HookSlotInfo(slot.Key, slot.Value.Tensor.dtype.ToElementType(), slot.Value.Tensor.shape))];

    public Tensor? Read(string slot) => _slots.TryGetValue(slot, out var entry) ? entry.Tensor : null;

    /// <summary>Fills a slot with a tensor, which stays the caller's.</summary>
    public void Fill(string slot, Tensor value)
    {
        var charge = new MemoryCharge(ledger, MemoryUse.Hooks, "a slot of module", module, TensorSize.Of(value));
        Clear(slot);
        _slots.Add(slot, (value.alias().DetachFromDisposeScope(), charge));
    }

    /// <summary>Empties the slots that nobody can read any more.</summary>
    /// <param name="named">The slots that registered hooks name.</param>
    public void Trim(IReadOnlySet<string> named)
    {
        foreach (var slot in _slots.Keys.Where(slot => !named.Contains(slot)).ToList())
        {
            Clear(slot);
        }
    }

    public void Dispose() => Trim(new HashSet<string>());

    private void Clear(string slot)
    {
        if (_slots.Remove(slot, out var entry))
        {
            entry.Tensor.Dispose();
            entry.Charge.Dispose();
        }
    }
}
