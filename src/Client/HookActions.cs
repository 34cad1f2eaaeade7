using Sconce.V1;

namespace Sconce.Client;

/// <summary>What hooks do, as methods of a chain that <see cref="Hooks"/> begins. Actions run in the order of the chain; captures and statistics see
/// the value after all edits, unless they ask for the value before.</summary>
public static class HookActions
{
    /// <summary>Copies the selected part out.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="to">Where it goes; null is the answer of the call, or those who watch a registered hook.</param>
    /// <param name="beforeEdits">See the value as it came.</param>
    /// <param name="through">Capture what this module makes of the value (logit lens); null is the value itself.</param>
    public static Hook Capture(this Hook hook, Destination? to = null, bool beforeEdits = false, RemoteModule? through = null) =>
        Add(hook, new HookAction { Capture = new() { To = to, BeforeEdits = beforeEdits, Through = through?.ToRef() } });

    /// <summary>Takes statistics of the selected part, e.g. <c>.Reduce([Statistic.Mean, Statistic.Std])</c>.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="statistics">Which.</param>
    /// <param name="dims">Dimensions to reduce; none is all.</param>
    /// <param name="to">Where they go; null is the answer of the call, or those who watch a registered hook.</param>
    /// <param name="beforeEdits">See the value as it came.</param>
    public static Hook Reduce(
        this Hook hook, IEnumerable<Statistic> statistics, IEnumerable<int>? dims = null, Destination? to = null, bool beforeEdits = false) =>
        Add(hook, new HookAction { Reduce = new() { Statistics = { statistics }, Dims = { dims ?? [] }, To = to, BeforeEdits = beforeEdits } });

    /// <summary>Counts elements in equal bins (torch.histc).</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="bins">Number of bins.</param>
    /// <param name="min">Lower end; equal to the upper one, the range is that of the data.</param>
    /// <param name="max">Upper end.</param>
    /// <param name="to">Where they go.</param>
    public static Hook Histogram(this Hook hook, int bins = 100, double min = 0, double max = 0, Destination? to = null) =>
        Add(hook, new HookAction
        {
            Reduce = new() { Statistics = { Statistic.Histogram }, Bins = checked((uint)bins), HistogramMin = min, HistogramMax = max, To = to },
        });

    /// <summary>Takes the largest elements and their indexes (torch.topk).</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="k">How many.</param>
    /// <param name="to">Where they go.</param>
    public static Hook TopK(this Hook hook, int k, Destination? to = null) =>
        Add(hook, new HookAction { Reduce = new() { Statistics = { Statistic.Topk }, K = checked((uint)k), To = to } });

    /// <summary>x = value.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="value">The new value, e.g. 0 to ablate.</param>
    public static Hook Set(this Hook hook, HookValue value) => Add(hook, new HookAction { Set = new() { Value = Operand(value) } });

    /// <summary>x = x + scale * value.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="value">What is added.</param>
    /// <param name="scale">It is multiplied by this.</param>
    public static Hook Add(this Hook hook, HookValue value, double scale = 1) =>
        Add(hook, new HookAction { Add = new() { Value = Operand(value), Scale = scale } });

    /// <summary>x = x * value.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="value">The factor.</param>
    public static Hook Mul(this Hook hook, HookValue value) => Add(hook, new HookAction { Mul = new() { Value = Operand(value) } });

    /// <summary>x = x + weight * (end - x).</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="end">The other end.</param>
    /// <param name="weight">0 keeps x, 1 takes the other end.</param>
    public static Hook Lerp(this Hook hook, HookValue end, double weight) =>
        Add(hook, new HookAction { Lerp = new() { End = Operand(end), Weight = weight } });

    /// <summary>x = min(max(x, min), max).</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="min">Lower limit; null is none.</param>
    /// <param name="max">Upper limit; null is none.</param>
    public static Hook Clamp(this Hook hook, double? min = null, double? max = null)
    {
        var clamp = new ClampAction();
        if (min is { } least)
            clamp.Min = least;
        if (max is { } most)
            clamp.Max = most;
        return Add(hook, new HookAction { Clamp = clamp });
    }

    /// <summary>x = x + std * noise, from a generator of its own.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="std">Standard deviation.</param>
    /// <param name="seed">Seed; null lets the server draw one.</param>
    public static Hook AddNoise(this Hook hook, double std, long? seed = null)
    {
        var noise = new AddNoiseAction { Std = std };
        if (seed is { } value)
            noise.Seed = value;
        return Add(hook, new HookAction { AddNoise = noise });
    }

    /// <summary>Takes a direction out of the last dimension.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="direction">The direction, as long as that dimension; it need not have length 1.</param>
    public static Hook ProjectOut(this Hook hook, HookValue direction) => Add(hook, new HookAction { ProjectOut = new() { Direction = Operand(direction) } });

    /// <summary>Scales x down where its norm is above a limit.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="maxNorm">The limit.</param>
    /// <param name="normType">Which norm; infinity is the largest absolute value.</param>
    public static Hook ClipNorm(this Hook hook, double maxNorm, double normType = 2) =>
        Add(hook, new HookAction { ClipNorm = new() { MaxNorm = maxNorm, NormType = normType } });

    /// <summary>x = module(x), without gradients through it.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="module">Another hosted module, or a submodule of any; it must return one tensor of the same shape.</param>
    public static Hook CallModule(this Hook hook, RemoteModule module)
    {
        ArgumentNullException.ThrowIfNull(module);
        return Add(hook, new HookAction { CallModule = new() { Module = module.ToRef() } });
    }

    /// <summary>Leaves the module out: its output is the given value, or its input. For <see cref="Hooks.ForwardPre"/>.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="output">The output; null is the input.</param>
    public static Hook Skip(this Hook hook, HookValue? output = null) => Add(hook, new HookAction { Skip = new() { Output = output?.Message } });

    /// <summary>Ends the call, which then answers with what was captured and no output.</summary>
    /// <param name="hook">The hook.</param>
    public static Hook Stop(this Hook hook) => Add(hook, new HookAction { Stop = new() });

    /// <summary>Renames entries of a state dict whose key begins with a prefix.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="prefix">The prefix.</param>
    /// <param name="replacement">What it is replaced with.</param>
    public static Hook Rename(this Hook hook, string prefix, string replacement) =>
        Add(hook, new HookAction { Rename = new() { Prefix = prefix, Replacement = replacement } });

    /// <summary>Leaves entries of a state dict out.</summary>
    /// <param name="hook">The hook.</param>
    public static Hook Drop(this Hook hook) => Add(hook, new HookAction { Drop = new() });

    /// <summary>Converts entries of a state dict.</summary>
    /// <param name="hook">The hook.</param>
    /// <param name="dtype">To this dtype.</param>
    public static Hook Cast(this Hook hook, DataType dtype) => Add(hook, new HookAction { Cast = new() { Dtype = dtype } });

    private static Hook Add(Hook hook, HookAction action) => Hooks.With(hook, h => h.Actions.Add(action));

    private static Operand Operand(HookValue value)
    {
        ArgumentNullException.ThrowIfNull(value);
        return value.Message;
    }
}
