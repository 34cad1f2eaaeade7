using Sconce.Engine.Tensors;

namespace Sconce.Engine.Hooks;

/// <summary>What an action works with: exactly one of its parts is set.</summary>
/// <param name="Scalar">A number.</param>
/// <param name="Tensor">A tensor, by content or by the id of a kept one.</param>
/// <param name="Slot">A slot that a capture has filled.</param>
/// <param name="State">A parameter or buffer of the hosted module, by its key.</param>
public sealed record HookOperand(double? Scalar = null, TensorInput? Tensor = null, string? Slot = null, string? State = null);

/// <summary>Where captures and statistics go. Nothing set: with the answer for a hook of one call, to watchers for a registered one.</summary>
/// <param name="Response">Into the answer of the call.</param>
/// <param name="Watch">To those who watch.</param>
/// <param name="Keep">Kept on the host under this id; empty for not.</param>
/// <param name="Ttl">Time to live of what is kept; null takes the host's default.</param>
/// <param name="Slot">Into this slot; empty for none.</param>
public sealed record HookDestination(bool Response = false, bool Watch = false, string Keep = "", TimeSpan? Ttl = null, string Slot = "")
{
    /// <summary>Nothing set.</summary>
    public static readonly HookDestination Default = new();

    internal bool IsDefault => !Response && !Watch && Keep.Length == 0 && Slot.Length == 0;
}

/// <summary>A hosted module, or a submodule of one.</summary>
/// <param name="Module">The module's name.</param>
/// <param name="Path">The submodule; empty is the whole.</param>
public sealed record HookModuleRef(string Module, string Path);

/// <summary>A figure about the elements of a tensor; the values equal those of <c>Statistic</c> in the contract.</summary>
public enum HookStatistic
{
    /// <summary>Not given.</summary>
    None = 0,

    /// <summary>The mean.</summary>
    Mean = 1,

    /// <summary>The unbiased standard deviation.</summary>
    Std = 2,

    /// <summary>The 2-norm.</summary>
    Norm = 3,

    /// <summary>The least element.</summary>
    Min = 4,

    /// <summary>The largest element.</summary>
    Max = 5,

    /// <summary>Counts in equal bins.</summary>
    Histogram = 6,

    /// <summary>The largest elements and where they are.</summary>
    TopK = 7,

    /// <summary>Number of NaNs.</summary>
    NanCount = 8,

    /// <summary>Number of infinities.</summary>
    InfCount = 9,
}

/// <summary>One thing that a hook does.</summary>
public abstract record HookAction
{
    private protected HookAction()
    {
    }

    /// <summary>Its name in the contract, for messages.</summary>
    internal abstract string Name { get; }

    /// <summary>What it works with; null where it takes none.</summary>
    internal virtual HookOperand? Operand => null;

    /// <summary>The same action with another operand.</summary>
    internal virtual HookAction WithOperand(HookOperand operand) => this;

    /// <summary>Where that stands in the action.</summary>
    internal virtual string OperandField => "value";

    /// <summary>The other module that it calls; null for none.</summary>
    internal virtual HookModuleRef? Calls => null;

    /// <summary>Where what it observes goes; null where it observes nothing.</summary>
    internal virtual HookDestination? To => null;
}

/// <summary>Copies the selected part out.</summary>
/// <param name="Where">Where it goes.</param>
/// <param name="BeforeEdits">See the value as it came.</param>
/// <param name="Through">Capture what another module makes of the value; null for the value itself.</param>
public sealed record CaptureAction(HookDestination Where, bool BeforeEdits = false, HookModuleRef? Through = null) : HookAction
{
    internal override string Name => "capture";

    internal override HookModuleRef? Calls => Through;

    internal override HookDestination? To => Where;
}

/// <summary>Takes statistics.</summary>
/// <param name="Statistics">Which.</param>
/// <param name="Where">Where they go.</param>
public sealed record ReduceAction(IReadOnlyList<HookStatistic> Statistics, HookDestination Where) : HookAction
{
    /// <summary>Dimensions to reduce; empty is all.</summary>
    public IReadOnlyList<int> Dims { get; init; } = [];

    /// <summary>Bins of the histogram; 0 means 100.</summary>
    public uint Bins { get; init; }

    /// <summary>Range of the histogram; null means from the data.</summary>
    public double? HistogramMin { get; init; }

    /// <summary>Range of the histogram; null means from the data.</summary>
    public double? HistogramMax { get; init; }

    /// <summary>How many of the largest; 0 means 10.</summary>
    public uint K { get; init; }

    /// <summary>See the value as it came.</summary>
    public bool BeforeEdits { get; init; }

    internal override string Name => "reduce";

    internal override HookDestination? To => Where;
}

/// <summary>Replaces the selected part.</summary>
/// <param name="Value">The new value.</param>
public sealed record SetAction(HookOperand Value) : HookAction
{
    internal override string Name => "set";

    internal override HookOperand? Operand => Value;

    internal override HookAction WithOperand(HookOperand operand) => this with { Value = operand };
}

/// <summary>Adds <c>scale * value</c>.</summary>
/// <param name="Value">What is added.</param>
/// <param name="Scale">It is multiplied by this.</param>
public sealed record AddAction(HookOperand Value, double Scale = 1) : HookAction
{
    internal override string Name => "add";

    internal override HookOperand? Operand => Value;

    internal override HookAction WithOperand(HookOperand operand) => this with { Value = operand };
}

/// <summary>Multiplies.</summary>
/// <param name="Value">The factor.</param>
public sealed record MulAction(HookOperand Value) : HookAction
{
    internal override string Name => "mul";

    internal override HookOperand? Operand => Value;

    internal override HookAction WithOperand(HookOperand operand) => this with { Value = operand };
}

/// <summary>Blends (torch.lerp).</summary>
/// <param name="End">The other end.</param>
/// <param name="Weight">0 keeps the value, 1 takes the other end.</param>
public sealed record LerpAction(HookOperand End, double Weight) : HookAction
{
    internal override string Name => "lerp";

    internal override HookOperand? Operand => End;

    internal override HookAction WithOperand(HookOperand operand) => this with { End = operand };

    internal override string OperandField => "end";
}

/// <summary>Limits (torch.clamp).</summary>
/// <param name="Min">Lower limit; null for none.</param>
/// <param name="Max">Upper limit; null for none.</param>
public sealed record ClampAction(double? Min, double? Max) : HookAction
{
    internal override string Name => "clamp";
}

/// <summary>Adds Gaussian noise from a generator of its own.</summary>
/// <param name="Std">Standard deviation.</param>
/// <param name="Seed">Seed; null draws one when the hook is accepted.</param>
public sealed record AddNoiseAction(double Std, long? Seed) : HookAction
{
    internal override string Name => "add_noise";
}

/// <summary>Removes a direction from the last dimension.</summary>
/// <param name="Direction">The direction.</param>
public sealed record ProjectOutAction(HookOperand Direction) : HookAction
{
    internal override string Name => "project_out";

    internal override HookOperand? Operand => Direction;

    internal override HookAction WithOperand(HookOperand operand) => this with { Direction = operand };

    internal override string OperandField => "direction";
}

/// <summary>Limits the norm.</summary>
/// <param name="MaxNorm">The largest norm.</param>
/// <param name="NormType">Which norm.</param>
public sealed record ClipNormAction(double MaxNorm, double NormType = 2) : HookAction
{
    internal override string Name => "clip_norm";
}

/// <summary>Runs another hosted module on the value.</summary>
/// <param name="Module">Which.</param>
public sealed record CallModuleAction(HookModuleRef Module) : HookAction
{
    internal override string Name => "call_module";

    internal override HookModuleRef? Calls => Module;
}

/// <summary>Leaves the module out.</summary>
/// <param name="Output">Its output; null means its input.</param>
public sealed record SkipAction(HookOperand? Output) : HookAction
{
    internal override string Name => "skip";

    internal override HookOperand? Operand => Output;

    internal override HookAction WithOperand(HookOperand operand) => this with { Output = operand };

    internal override string OperandField => "output";
}

/// <summary>Ends the call.</summary>
public sealed record StopAction : HookAction
{
    internal override string Name => "stop";
}

/// <summary>Renames entries of a state dict whose key begins with a prefix.</summary>
/// <param name="Prefix">The prefix.</param>
/// <param name="Replacement">What it is replaced with.</param>
public sealed record RenameAction(string Prefix, string Replacement) : HookAction
{
    internal override string Name => "rename";
}

/// <summary>Leaves entries of a state dict out.</summary>
public sealed record DropAction : HookAction
{
    internal override string Name => "drop";
}

/// <summary>Converts entries of a state dict.</summary>
/// <param name="Type">To this dtype.</param>
public sealed record CastAction(ElementType Type) : HookAction
{
    internal override string Name => "cast";
}
