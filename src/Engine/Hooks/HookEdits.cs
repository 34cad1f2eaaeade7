using System.Globalization;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using TorchSharp;
using static TorchSharp.torch;

namespace Sconce.Engine.Hooks;

/// <summary>The arithmetic of edits. Nothing is changed in place: callers and autograd may hold the value. Results have the value's shape and dtype.</summary>
internal static class HookEdits
{
    /// <summary>Applies one edit.</summary>
    /// <param name="action">The edit.</param>
    /// <param name="value">The selected part.</param>
    /// <param name="operand">The action's operand, or null where it has none or it is a number.</param>
    /// <param name="seed">Seed of the noise of this visit.</param>
    /// <exception cref="EngineException">The value or the operand cannot take it.</exception>
    public static Tensor Apply(HookAction action, Tensor value, Tensor? operand, Func<long> seed) => action switch
    {
        SetAction set => operand is null ? Full(set.Value, value) : Fit(operand, value).expand(value.shape).clone(),
        AddAction add => Same(operand is null ? value + Number(add.Value, value, add.Scale) : value + (add.Scale == 1 ? Fit(operand, value) : Fit(operand, value) * Scalar(add.Scale, value)), value),
        MulAction mul => Same(operand is null ? value * Number(mul.Value, value) : value * Fit(operand, value), value),
        LerpAction lerp => Lerp(lerp, Floating(value, "lerp"), operand),
        ClampAction clamp => value.is_complex() ? throw Fails("clamp takes no complex tensor") : value.clamp(clamp.Min is { } min ? Fit(min, value) : null, clamp.Max is { } max ? Fit(max, value) : null),
        AddNoiseAction noise => Noise(noise, Floating(value, "add_noise"), seed()),
        ProjectOutAction => ProjectOut(Floating(value, "project_out"), operand!),
        ClipNormAction clip => ClipNorm(clip, Floating(value, "clip_norm")),
        _ => throw new InvalidOperationException($"{action.Name} is no edit"),
    };

    /// <summary>A tensor as another that holds one number everywhere.</summary>
    /// <param name="number">The number.</param>
    /// <param name="value">The other.</param>
    /// <exception cref="EngineException">The other's dtype has no such number.</exception>
    public static Tensor Full(HookOperand number, Tensor value) => full_like(value, Fit(number.Scalar!.Value, value));

    private static Tensor Lerp(LerpAction lerp, Tensor value, Tensor? operand)
    {
        var end = operand is null ? Full(lerp.End, value) : Fit(operand, value);
        return Same(value + ((end - value) * Scalar(lerp.Weight, value)), value);
    }

    private static Tensor Noise(AddNoiseAction noise, Tensor value, long seed)
    {
        // On the host and in float32 whatever the value's dtype, so that a seed means the same noise everywhere.
        using var generator = new Generator(unchecked((ulong)seed), CPU);
        var type = value.dtype == ScalarType.Float64 ? ScalarType.Float64 : ScalarType.Float32;
        var drawn = randn(value.shape, dtype: type, generator: generator);
        return value + (drawn * noise.Std).to(value.dtype, value.device);
    }

    private static Tensor ProjectOut(Tensor value, Tensor direction)
    {
        if (value.Dimensions == 0 || direction.Dimensions != 1 || direction.shape[0] != value.shape[^1])
        {
            throw Fails($"project_out takes a direction of shape [{(value.Dimensions == 0 ? "n" : value.shape[^1])}], the size of the last dimension; it was given {CallFailure.Describe(direction)}");
        }

        // In at least float32: the squares of a half-precision direction may be beyond its range.
        var wide = value.dtype == ScalarType.Float64 ? ScalarType.Float64 : ScalarType.Float32;
        var d = direction.to(wide, value.device);
        var length = (d * d).sum();
        if (length.ToDouble() is 0 or double.NaN)
        {
            throw Fails("project_out takes a direction that is not zero");
        }

        var x = value.to(wide);
        return Same(x - ((x * d).sum(-1, keepdim: true) * (d / length)), value);
    }

    private static Tensor ClipNorm(ClipNormAction clip, Tensor value)
    {
        // As torch.nn.utils.clip_grad_norm_: the 1e-6 keeps a norm of zero out of the division.
        var x = value.abs().to(ScalarType.Float64);
        var norm = double.IsPositiveInfinity(clip.NormType) ? (x.numel() == 0 ? zeros(1, ScalarType.Float64) : x.max()) : x.pow(clip.NormType).sum().pow(1 / clip.NormType);
        var factor = (clip.MaxNorm / (norm + 1e-6)).clamp(max: 1.0);
        return Same(value * factor.to(value.dtype), value);
    }

    private static Tensor Floating(Tensor value, string action) => value.is_floating_point()
        ? value
        : throw Fails($"{action} takes floating tensors; it met {CallFailure.Describe(value)}");

    // An operand as it can meet the value: of its dtype, and not larger than it.
    private static Tensor Fit(Tensor operand, Tensor value)
    {
        if (operand.is_complex() && !value.is_complex())
        {
            throw Fails($"a complex operand ({CallFailure.Describe(operand)}) does not fit {CallFailure.Describe(value)}");
        }

        var (from, to) = (operand.shape, value.shape);
        var fits = from.Length <= to.Length;
        for (var i = 1; fits && i <= from.Length; i++)
        {
            fits = from[^i] == to[^i] || from[^i] == 1;
        }

        return fits ? operand.to(value.dtype, value.device) : throw Fails($"an operand {CallFailure.Describe(operand)} does not broadcast to the part {CallFailure.Describe(value)}");
    }

    // Arithmetic with numbers may promote integers to floating; an edit never changes a dtype.
    private static Tensor Same(Tensor result, Tensor value) => result.dtype == value.dtype ? result : result.to(value.dtype);

    private static Scalar Number(HookOperand operand, Tensor value, double scale = 1) => Scalar(operand.Scalar!.Value * scale, value);

    private static Scalar Scalar(double number, Tensor value) => value.dtype switch
    {
        ScalarType.Bool => throw Fails($"numbers do not combine with {CallFailure.Describe(value)}"),
        _ when value.is_floating_point() || value.is_complex() => number,
        _ when number == Math.Truncate(number) && Math.Abs(number) <= long.MaxValue / 2 => (Scalar)(long)number,
        _ => throw Fails($"the number {number.ToString(CultureInfo.InvariantCulture)} is no {value.dtype.ToElementType().Name()}, which the tensor holds"),
    };

    // A number that is to be an element, which arithmetic alone may go beyond.
    private static Scalar Fit(double number, Tensor value)
    {
        var (least, most) = NumberRange.Of(value.dtype);
        return double.IsFinite(number) && (number < least || number > most)
            ? throw Fails($"the number {number.ToString(CultureInfo.InvariantCulture)} is beyond {value.dtype.ToElementType().Name()}, which the tensor holds")
            : Scalar(number, value);
    }

    private static EngineException Fails(string message) => new(EngineError.InvalidArgument, "HOOK_FAILED", message);
}
