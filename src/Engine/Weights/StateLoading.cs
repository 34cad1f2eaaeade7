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
        var targets = state.Select((entry, place) => (entry.Key, entry.Tensor, Place: place)).ToDictionary(target => target.Key, StringComparer.Ordinal);
        var lazy = new LazyLoading(subtree, entries);
        var given = new HashSet<string>(StringComparer.Ordinal);
        var unexpected = new List<string>();
        var wrong = new List<FieldViolation>();
        var copies = new List<(int Place, Tensor Target, Tensor Value)>();
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
            else if (lazy.Refuses(key) is { } refusal)
            {
                wrong.Add(new($"{field}[{i}]", $"{EngineException.Quote(key)} {refusal}"));
            }
            else if (Mismatch(target.Tensor, lazy.ShapeOf(key) ?? target.Tensor.shape, value) is { } mismatch)
            {
                wrong.Add(new($"{field}[{i}]", $"{EngineException.Quote(key)} {mismatch}"));
            }
            else
            {
                copies.Add((target.Place, target.Tensor, value));
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
        lazy.Materialize();
        var converted = copies.OrderBy(copy => copy.Place).Select(copy => (copy.Target, Value: copy.Value.to(copy.Target.dtype, copy.Target.device))).ToList();
        foreach (var (target, value) in converted)
        {
            _ = target.copy_(value.reshape(target.shape));
        }

        return new LoadOutcome(missing, unexpected);
    }

    private static string? Mismatch(Tensor target, long[] shape, Tensor value)
    {
        // As PyTorch: what was saved as one element of a list before there were scalars loads into a scalar.
        var sameShape = value.shape.AsSpan().SequenceEqual(shape) || (shape.Length == 0 && value.shape is [1]);
        return !sameShape ? $"has shape [{string.Join(", ", value.shape)}]; the module's is [{string.Join(", ", shape)}]"
            : value.is_complex() && !target.is_complex() ? $"is {value.dtype.ToElementType().Name()}, which does not convert to the module's {target.dtype.ToElementType().Name()}"
            : null;
    }
}
