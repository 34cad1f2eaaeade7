using Sconce.V1;

namespace Sconce.Client;

/// <summary>
/// Writes hooks as they are read: <c>Hooks.Forward("layer1").Capture()</c>,
/// <c>Hooks.ForwardPre().OnGlob("blocks.*").Add(direction, 4.0)</c>. Each method of a chain adds to the same hook and returns it.
/// </summary>
/// <remarks>
/// A hook goes with one call (<see cref="ForwardOptions.Hooks"/> and the like), or stays on the module
/// (<see cref="RemoteModule.RegisterHookAsync"/>). Its path or glob is from the RemoteModule that it is given to; a type is one of the whole module.
/// </remarks>
public static class Hooks
{
    /// <summary>Before a module runs, on its inputs (register_forward_pre_hook).</summary>
    /// <param name="path">Path of the submodule; empty is the module itself.</param>
    public static Hook ForwardPre(string path = "") => new() { Site = HookSite.ForwardPre, Path = path };

    /// <summary>After it has run, on its outputs (register_forward_hook).</summary>
    /// <param name="path">Path of the submodule; empty is the module itself.</param>
    public static Hook Forward(string path = "") => new() { Site = HookSite.Forward, Path = path };

    /// <summary>In backward, on the gradients of its outputs (register_full_backward_pre_hook).</summary>
    /// <param name="path">Path of the submodule; empty is the module itself.</param>
    public static Hook BackwardPre(string path = "") => new() { Site = HookSite.BackwardPre, Path = path };

    /// <summary>In backward, on the gradients of its inputs (register_full_backward_hook).</summary>
    /// <param name="path">Path of the submodule; empty is the module itself.</param>
    public static Hook Backward(string path = "") => new() { Site = HookSite.Backward, Path = path };

    /// <summary>In backward, on the gradients of its own parameters, before they are added (Tensor.register_hook).</summary>
    /// <param name="path">Path of the submodule; empty is the module itself.</param>
    /// <param name="names">Names of parameters, <c>*</c> and <c>?</c> as wildcards; none is all.</param>
    public static Hook ParamGrad(string path = "", params IEnumerable<string> names) => new() { Site = HookSite.ParamGrad, Path = path, Names = { names } };

    /// <summary>When a state dict is read, on its entries. To be registered.</summary>
    /// <param name="path">Path of the submodule; empty is the module itself.</param>
    /// <param name="keys">Keys relative to it, <c>*</c> and <c>?</c> as wildcards; none is all.</param>
    public static Hook StateDict(string path = "", params IEnumerable<string> keys) => new() { Site = HookSite.StateDict, Path = path, Names = { keys } };

    /// <summary>When a state dict has been received and nothing of it checked, on its entries. To be registered.</summary>
    /// <param name="path">Path of the submodule; empty is the module itself.</param>
    /// <param name="keys">Keys relative to it, <c>*</c> and <c>?</c> as wildcards; none is all.</param>
    public static Hook LoadStateDictPre(string path = "", params IEnumerable<string> keys) =>
        new() { Site = HookSite.LoadStateDictPre, Path = path, Names = { keys } };

    /// <summary>Gives it an id, by which captures name it and by which it is removed.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="id">The id, unique in the module.</param>
    public static Hook Named(this Hook hook, string id) => With(hook, h => h.Id = id);

    /// <summary>Stands at every submodule whose path matches.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="glob">The pattern, <c>*</c> and <c>?</c> as wildcards, e.g. "layers.*.attn".</param>
    public static Hook OnGlob(this Hook hook, string glob) => With(hook, h => h.Glob = glob);

    /// <summary>Stands at every submodule of exactly this type.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="type">PyTorch's type name, e.g. "Linear".</param>
    public static Hook OnType(this Hook hook, string type) => With(hook, h => h.Type = type);

    /// <summary>Stands at every submodule of this type or one that derives from it.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="type">PyTorch's type name, e.g. "_ConvNd".</param>
    public static Hook OnInstances(this Hook hook, string type) => With(hook, h => h.Isinstance = type);

    /// <summary>Takes another tensor of the inputs or outputs than the first.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="index">Its index, tuples flattened, counted from 0.</param>
    public static Hook Tensor(this Hook hook, int index) => With(hook, h => h.TensorIndex = checked((uint)index));

    /// <summary>Limits when it acts; visits are counted for each submodule, from 0.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="firstCall">First visit to act on.</param>
    /// <param name="endCall">First visit not to act on any more; null is never.</param>
    /// <param name="every">Act on every n-th visit from the first on.</param>
    /// <param name="training">Only in training mode, or only in eval mode; null is both.</param>
    /// <param name="maxFires">Most times to act; null is no limit.</param>
    public static Hook When(this Hook hook, long firstCall = 0, long? endCall = null, long every = 1, bool? training = null, long? maxFires = null)
    {
        var when = new HookWhen { FirstCall = checked((ulong)firstCall), Every = checked((ulong)every) };
        if (endCall is { } end)
            when.EndCall = checked((ulong)end);
        if (training is { } mode)
            when.Training = mode;
        if (maxFires is { } most)
            when.MaxFires = checked((ulong)most);
        return With(hook, h => h.When = when);
    }

    /// <summary>Runs before hooks of a larger number at the same place; 0 where it is not said.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="priority">The number.</param>
    public static Hook WithPriority(this Hook hook, int priority) => With(hook, h => h.Priority = priority);

    /// <summary>First views a dimension of size parts x n as two, so that <see cref="Index"/> can choose a part, e.g. a head.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="dim">The dimension; negative counts from the end.</param>
    /// <param name="parts">How many parts.</param>
    public static Hook Split(this Hook hook, int dim, int parts) => Selecting(hook, s => s.Split = new HookSplit { Dim = dim, Parts = checked((uint)parts) });

    /// <summary>Sees one index of a dimension, which is dropped.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="dim">The dimension, after a split; negative counts from the end.</param>
    /// <param name="index">The index; negative counts from the end.</param>
    public static Hook Index(this Hook hook, int dim, long index) => Selecting(hook, s => s.Dims.Add(new HookDim { Dim = dim, Index = index }));

    /// <summary>Sees several indexes of a dimension.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="dim">The dimension, after a split; negative counts from the end.</param>
    /// <param name="indexes">The indexes; negative ones count from the end.</param>
    public static Hook Indexes(this Hook hook, int dim, params IEnumerable<long> indexes) =>
        Selecting(hook, s => s.Dims.Add(new HookDim { Dim = dim, Indexes = new HookIndexes { Values = { indexes } } }));

    /// <summary>Sees a range of a dimension, as Python's start:stop:step.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="dim">The dimension, after a split; negative counts from the end.</param>
    /// <param name="start">Where it begins; negative counts from the end.</param>
    /// <param name="stop">Where it ends; null is the end.</param>
    /// <param name="step">Its step, at least 1.</param>
    public static Hook Slice(this Hook hook, int dim, long start = 0, long? stop = null, long step = 1)
    {
        var slice = new HookSlice { Start = start, Step = step };
        if (stop is { } end)
            slice.Stop = end;
        return Selecting(hook, s => s.Dims.Add(new HookDim { Dim = dim, Slice = slice }));
    }

    internal static Hook With(Hook hook, Action<Hook> change)
    {
        ArgumentNullException.ThrowIfNull(hook);
        change(hook);
        return hook;
    }

    private static Hook Selecting(Hook hook, Action<HookSelect> change) => With(hook, h => change(h.Select ??= new HookSelect()));
}
