using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Weights;

/// <summary>What a load left out.</summary>
/// <param name="MissingKeys">Keys of the module that were not given.</param>
/// <param name="UnexpectedKeys">Keys given that the module lacks.</param>
public sealed record LoadOutcome(IReadOnlyList<string> MissingKeys, IReadOnlyList<string> UnexpectedKeys);

/// <summary><c>nn.Module.load_state_dict</c>, all or nothing.</summary>
public static class StateLoading
{
    /// <summary>Copies values into the module's parameters and buffers, converted to their dtypes, after all has been checked.</summary>
    /// <param name="subtree">The module; keys are relative to it.</param>
    /// <param name="entries">Keys and values; the values are copied.</param>
    /// <param name="strict">Whether missing and unexpected keys are refused. A shape that differs is refused either way.</param>
    /// <param name="field">Path of the entries in the request.</param>
    /// <param name="reserve">Told the bytes of all copies before they are made; may refuse them.</param>
    /// <exception cref="EngineException">A key is missing, unexpected, given twice or of another shape: all are named, and nothing has changed.</exception>
    public static LoadOutcome Load(ModuleNode subtree, IReadOnlyList<(string Key, Tensor Value)> entries, bool strict, string field = "entries", Action<long>? reserve = null)
    {
        ArgumentNullException.ThrowIfNull(entries);
        var (outcome, targets, lazy) = Check(subtree, [.. entries.Select(entry => new StateEntryInfo(entry.Key, entry.Value.dtype.ToElementType(), entry.Value.shape))], strict, field);
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();

        // What can fail for lack of memory happens before the first value is in place. As in PyTorch the last name of a shared tensor in the
        // order of the state dict decides what it holds, whatever the order of the entries.
        reserve?.Invoke(entries.Zip(targets).Aggregate(0L, (sum, pair) => pair.Second.Entry is { } target ? TensorSize.Sum(sum, CopyBytes(target, pair.First.Value)) : sum));
        lazy.Materialize();
        List<(StateEntry Target, Tensor Value)> converted;
        try
        {
            converted = [.. entries.Zip(targets).Where(pair => pair.Second.Entry is not null).OrderBy(pair => pair.Second.Place).Select(pair => Converted(pair.Second.Entry!, pair.First.Value))];
        }
        catch
        {
            lazy.Undo();
            throw;
        }

        foreach (var (target, value) in converted)
        {
            if (target.IsExtraState)
            {
                NativeSetData.SetData(target.Tensor, value);
            }
            else
            {
                _ = target.Tensor.copy_(value.reshape(target.Tensor.shape));
            }
        }

        return outcome;
    }

    /// <summary>Checks keys, shapes and dtypes as a load of them would, before there are values.</summary>
    /// <param name="subtree">The module; keys are relative to it.</param>
    /// <param name="entries">What is to be loaded.</param>
    /// <param name="strict">Whether missing and unexpected keys are refused.</param>
    /// <param name="field">Path of the entries in the request.</param>
    /// <returns>What a load would leave out, and where each entry goes, by its place in the state dict; none for an unexpected one; and the lazy modules that it would give shapes.</returns>
    /// <exception cref="EngineException">As for <see cref="Load"/>.</exception>
    internal static (LoadOutcome Outcome, IReadOnlyList<(int Place, StateEntry? Entry)> Targets, LazyLoading Lazy) Check(ModuleNode subtree, IReadOnlyList<StateEntryInfo> entries, bool strict, string field)
    {
        var state = ModuleTree.State(subtree);
        var known = state.Select((entry, place) => (entry.Key, Entry: entry, Place: place)).ToDictionary(target => target.Key, StringComparer.Ordinal);
        var lazy = new LazyLoading(subtree, entries);
        var given = new HashSet<string>(StringComparer.Ordinal);
        var unexpected = new List<string>();
        var wrong = new List<FieldViolation>();
        var targets = new (int, StateEntry?)[entries.Count];
        for (var i = 0; i < entries.Count; i++)
        {
            var key = entries[i].Key;
            if (!given.Add(key))
            {
                wrong.Add(new($"{field}[{i}]", $"{EngineException.Quote(key)} is given twice"));
            }
            else if (!known.TryGetValue(key, out var target))
            {
                unexpected.Add(key);
                if (strict)
                {
                    wrong.Add(new($"{field}[{i}]", $"{EngineException.Quote(key)} is unexpected: the module has no such parameter or buffer"));
                }
            }
            else if (lazy.Refuses(key) is { } refusal)
            {
                wrong.Add(new($"{field}[{i}]", $"{EngineException.Quote(key)} {refusal}"));
            }
            else if (Mismatch(target.Entry, lazy.ShapeOf(key) ?? target.Entry.Tensor.shape, entries[i]) is { } mismatch)
            {
                wrong.Add(new($"{field}[{i}]", $"{EngineException.Quote(key)} {mismatch}"));
            }
            else
            {
                targets[i] = (target.Place, target.Entry);
            }
        }

        var missing = state.Select(entry => entry.Key).Where(key => !given.Contains(key)).ToList();
        if (strict)
        {
            wrong.AddRange(missing.Select(key => new FieldViolation(field, $"{EngineException.Quote(key)} is missing")));
        }

        return wrong.Count == 0 ? (new LoadOutcome(missing, unexpected), targets, lazy) : throw EngineException.Invalid(wrong, "STATE_MISMATCH");
    }

    private static (StateEntry Target, Tensor Value) Converted(StateEntry target, Tensor value) =>
        (target, target.IsExtraState ? value.clone() : value.to(target.Tensor.dtype, target.Tensor.device));

    // What Converted takes: of a value that has the dtype already, nothing. The shape that a lazy module's tensor has not yet is the value's.
    private static long CopyBytes(StateEntry target, Tensor value) =>
        target.IsExtraState ? TensorSize.Of(value)
        : value.dtype == target.Tensor.dtype && value.device_type == target.Tensor.device_type ? 0
        : TensorSize.Product(value.NumberOfElements, target.Tensor.ElementSize);

    private static string? Mismatch(StateEntry entry, long[] shape, StateEntryInfo value)
    {
        if (entry.IsExtraState)
        {
            // Its length is the caller's matter.
            return value is { Type: ElementType.UInt8, Shape.Count: 1 } ? null : $"is {value.Type.Name()} [{string.Join(", ", value.Shape)}]; extra state is bytes, so one dimension of uint8";
        }

        var target = entry.Tensor;
        // As PyTorch: what was saved as one element of a list before there were scalars loads into a scalar.
        var sameShape = value.Shape.SequenceEqual(shape) || (shape.Length == 0 && value.Shape is [1]);
        return !sameShape ? $"has shape [{string.Join(", ", value.Shape)}]; the module's is [{string.Join(", ", shape)}]"
            : value.Type is ElementType.Complex64 or ElementType.Complex128 && !target.is_complex() ? $"is {value.Type.Name()}, which does not convert to the module's {target.dtype.ToElementType().Name()}"
            : null;
    }
}
