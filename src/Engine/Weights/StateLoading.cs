using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static TorchSharp.torch;

namespace Sconce.Engine.Weights;

/// <summary>What a load left out.</summary>
/// <param name="MissingKeys">Keys of the module that were not given.</param>
/// <param name="UnexpectedKeys">Keys given that the module lacks.</param>
/// <param name="LoadedTensors">How many tensors are loaded.</param>
public sealed record LoadOutcome(IReadOnlyList<string> MissingKeys, IReadOnlyList<string> UnexpectedKeys, int LoadedTensors);

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
        using var normal = inference_mode(false);
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        var load = Prepare(subtree, [.. entries.Select((entry, i) => (EntryOf(entry, i), entry.Value))], new LoadPlan { Strict = strict }, index => FieldOf(field, index), copies: false, reserve);
        load.Apply(null);
        return load.Outcome;
    }

    /// <summary>Where an entry of a list stands in a request.</summary>
    internal static string FieldOf(string field, int index) => index < 0 ? field : string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{field}[{index}]");

    /// <summary>An entry under the caller's own key.</summary>
    internal static LoadEntry EntryOf((string Key, Tensor Value) entry, int index) => new(index, entry.Key, entry.Key, entry.Value.dtype.ToElementType(), entry.Value.shape);

    /// <summary>Checks a load and makes all that it needs, in the caller's dispose scope and without grad; only the values of lazy modules that get their shapes have changed then.</summary>
    /// <param name="subtree">The module; keys are relative to it.</param>
    /// <param name="entries">What is loaded, mapped by the plan.</param>
    /// <param name="plan">How it is loaded.</param>
    /// <param name="field">Where an entry stands in the request, by its index.</param>
    /// <param name="copies">Whether tensors that are assigned must be copies, because something else may hold them.</param>
    /// <param name="reserve">Told the bytes of all copies before they are made; may refuse them.</param>
    /// <exception cref="EngineException">As for <see cref="Load"/>.</exception>
    internal static PreparedLoad Prepare(
        ModuleNode subtree, IReadOnlyList<(LoadEntry Entry, Tensor Value)> entries, LoadPlan plan, Func<int, string> field, bool copies, Action<long>? reserve)
    {
        var (outcome, targets, lazy) = Check(subtree, [.. entries.Select(entry => entry.Entry)], plan, field);

        // What can fail for lack of memory happens before the first value is in place. As in PyTorch the last name of a shared tensor in the
        // order of the state dict decides what it holds, whatever the order of the entries.
        reserve?.Invoke(entries.Zip(targets).Aggregate(0L, (sum, pair) => pair.Second.Entry is { } target ? TensorSize.Sum(sum, CopyBytes(target, pair.First.Value, plan, copies)) : sum));
        lazy.Materialize();
        try
        {
            return new PreparedLoad(
                outcome,
                [
                    .. entries.Zip(targets).Where(pair => pair.Second.Entry is not null).OrderBy(pair => pair.Second.Place)
                        .Select(pair => (pair.Second.Entry!, Converted(pair.Second.Entry!, pair.First.Value, plan, copies))),
                ],
                lazy,
                plan.Assign);
        }
        catch
        {
            lazy.Undo();
            throw;
        }
    }

    /// <summary>Checks keys, shapes and dtypes as a load of them would, before there are values.</summary>
    /// <param name="subtree">The module; keys are relative to it.</param>
    /// <param name="entries">What is to be loaded, mapped by the plan.</param>
    /// <param name="plan">How it is loaded.</param>
    /// <param name="field">Where an entry stands in the request, by its index; -1 is all of them.</param>
    /// <returns>What a load would leave out, and where each entry goes, by its place in the state dict; none for an unexpected one; and the lazy modules that it would give shapes.</returns>
    /// <exception cref="EngineException">As for <see cref="Load"/>.</exception>
    internal static (LoadOutcome Outcome, IReadOnlyList<(int Place, StateEntry? Entry)> Targets, LazyLoading Lazy) Check(
        ModuleNode subtree, IReadOnlyList<LoadEntry> entries, LoadPlan plan, Func<int, string> field)
    {
        var state = ModuleTree.State(subtree);
        var known = state.Select((entry, place) => (entry.Key, Entry: entry, Place: place)).ToDictionary(target => target.Key, StringComparer.Ordinal);
        var lazy = new LazyLoading(subtree, [.. entries.Select(entry => entry.Info)]);
        var given = new HashSet<string>(StringComparer.Ordinal);
        var unexpected = new List<string>();
        var wrong = new List<FieldViolation>();
        var targets = new (int, StateEntry?)[entries.Count];
        for (var i = 0; i < entries.Count; i++)
        {
            var entry = entries[i];
            var key = entry.Key;
            if (!given.Add(key))
            {
                wrong.Add(new(field(entry.Index), $"{entry.Name} is given twice"));
            }
            else if (!known.TryGetValue(key, out var target))
            {
                unexpected.Add(key);
                if (plan.Strict)
                {
                    wrong.Add(new(field(entry.Index), $"{entry.Name} is unexpected: the module has no such parameter or buffer"));
                }
            }
            else if (lazy.Refuses(key) is { } refusal)
            {
                wrong.Add(new(field(entry.Index), $"{entry.Name} {refusal}"));
            }
            else if (Mismatch(target.Entry, lazy.ShapeOf(key) ?? target.Entry.Tensor.shape, entry, plan.Assign) is { } mismatch)
            {
                wrong.Add(new(field(entry.Index), $"{entry.Name} {mismatch}"));
            }
            else
            {
                targets[i] = (target.Place, target.Entry);
            }
        }

        var missing = state.Select(entry => entry.Key).Where(key => !given.Contains(key) && plan.Takes(key)).ToList();
        if (plan.Strict)
        {
            wrong.AddRange(missing.Select(key => new FieldViolation(field(-1), $"{EngineException.Quote(key)} is missing")));
        }

        return wrong.Count == 0 ? (new LoadOutcome(missing, unexpected, entries.Count - unexpected.Count), targets, lazy) : throw EngineException.Invalid(wrong, "STATE_MISMATCH");
    }

    private static Tensor Converted(StateEntry target, Tensor value, LoadPlan plan, bool copies) =>
        target.IsExtraState || (plan.Assign && copies) ? value.clone()
        : plan.Assign ? value
        : value.to(target.Tensor.dtype, target.Tensor.device);

    // What Converted takes: of a value that has the dtype already, nothing. The shape that a lazy module's tensor has not yet is the value's.
    private static long CopyBytes(StateEntry target, Tensor value, LoadPlan plan, bool copies) =>
        target.IsExtraState ? TensorSize.Of(value)
        : plan.Assign ? (copies ? TensorSize.Of(value) : 0)
        : value.dtype == target.Tensor.dtype && value.device_type == target.Tensor.device_type ? 0
        : TensorSize.Product(value.NumberOfElements, target.Tensor.ElementSize);

    private static string? Mismatch(StateEntry entry, long[] shape, LoadEntry value, bool assign)
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
            : assign ? (target.requires_grad && !NativeSetData.CanRequireGrad(value.Type)
                ? $"is {value.Type.Name()}, which a parameter that requires grad cannot be: load it without assign, or call RequiresGrad(false) first" : null)
            : value.Type.IsComplex() && !target.is_complex() ? $"is {value.Type.Name()}, which does not convert to the module's {target.dtype.ToElementType().Name()}"
            : null;
    }
}
