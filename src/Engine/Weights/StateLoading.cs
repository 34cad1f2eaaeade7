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
    /// <exception cref="EngineException">A key is missing, unexpected, given twice or of another shape: all are named, and nothing has changed.</exception>
    public static LoadOutcome Load(ModuleNode subtree, IReadOnlyList<(string Key, Tensor Value)> entries, bool strict, string field = "entries")
    {
        ArgumentNullException.ThrowIfNull(entries);
        var state = ModuleTree.State(subtree);
        var targets = state.Select((entry, place) => (Entry: entry, Place: place)).ToDictionary(target => target.Entry.Key, StringComparer.Ordinal);
        var given = new HashSet<string>(StringComparer.Ordinal);
        var unexpected = new List<string>();
        var wrong = new List<FieldViolation>();
        var copies = new List<(int Place, StateEntry Target, Tensor Value)>();
        for (var i = 0; i < entries.Count; i++)
        {
            var (key, value) = entries[i];
            if (!given.Add(key))
            {
                wrong.Add(new($"{field}[{i}]", $"{EngineException.Quote(key)} is given twice"));
            }
            else if (!targets.TryGetValue(key, out var target))
            {
                unexpected.Add(key);
                if (strict)
                {
                    wrong.Add(new($"{field}[{i}]", $"{EngineException.Quote(key)} is unexpected: the module has no such parameter or buffer"));
                }
            }
            else if (Mismatch(target.Entry, value) is { } mismatch)
            {
                wrong.Add(new($"{field}[{i}]", $"{EngineException.Quote(key)} {mismatch}"));
            }
            else
            {
                copies.Add((target.Place, target.Entry, value));
            }
        }

        var missing = state.Select(entry => entry.Key).Where(key => !given.Contains(key)).ToList();
        if (strict)
        {
            wrong.AddRange(missing.Select(key => new FieldViolation(field, $"{EngineException.Quote(key)} is missing")));
        }

        if (wrong.Count > 0)
        {
            throw EngineException.Invalid(wrong, "STATE_MISMATCH");
        }

        using var noGrad = no_grad();
        using var scope = NewDisposeScope();

        // What can fail for lack of memory happens before the first value is in place. As in PyTorch the last name of a shared tensor in the
        // order of the state dict decides what it holds, whatever the order of the entries.
        var converted = copies.OrderBy(copy => copy.Place)
            .Select(copy => (copy.Target, Value: copy.Target.IsExtraState ? copy.Value.clone() : copy.Value.to(copy.Target.Tensor.dtype, copy.Target.Tensor.device))).ToList();
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

        return new LoadOutcome(missing, unexpected);
    }

    private static string? Mismatch(StateEntry entry, Tensor value)
    {
        if (entry.IsExtraState)
        {
            // Its length is the caller's matter.
            return value.dtype == ScalarType.Byte && value.dim() == 1 ? null : $"is {CallFailure.Describe(value)}; extra state is bytes, so one dimension of uint8";
        }

        var target = entry.Tensor;
        // As PyTorch: what was saved as one element of a list before there were scalars loads into a scalar.
        var sameShape = value.shape.AsSpan().SequenceEqual(target.shape) || (target.dim() == 0 && value.shape is [1]);
        return !sameShape ? $"has shape [{string.Join(", ", value.shape)}]; the module's is [{string.Join(", ", target.shape)}]"
            : value.is_complex() && !target.is_complex() ? $"is {value.dtype.ToElementType().Name()}, which does not convert to the module's {target.dtype.ToElementType().Name()}"
            : null;
    }
}
